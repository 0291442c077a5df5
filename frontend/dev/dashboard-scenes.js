/** Scenes of the dashboard, for the eye and for tests. */
import { sleep } from "./scenes.js";

/** Wait until what is in view is drawn: plotly.js takes a moment. */
async function drawn() {
  for (let tries = 0; tries < 200 && !document.querySelector(".wbd-seat[data-drawn]"); tries += 1) await sleep(100);
  await sleep(1500);
}

async function open(number) {
  await sleep(300);
  document.querySelectorAll(".wbd-table tbody tr")[number].click();
  await sleep(200);
}

const NOTHING = { requests: 0, p95_s: null, tokens_per_s: null, error_share: null };
const EMPTY = { rows: {}, table: null, choices: {}, headline: { now: NOTHING, before: null, any: false } };

export const DASHBOARD_SCENES = {
  plain: {},
  full: { after: drawn },
  requests: {
    after: async () => {
      await sleep(300);
      document.querySelector(".wbd-requests").scrollIntoView();
    },
  },
  charts: {
    after: async () => {
      await sleep(300);
      document.querySelector('[data-chart="gaps"]')?.scrollIntoView();
      await drawn();
    },
  },
  detail: { after: () => open(0) },
  off: { after: () => open(1) },
  failed: {
    after: async (kernel) => {
      await sleep(300);
      const at = kernel.picture.table.rows.findIndex((row) => row.status === "error");
      await open(at);
    },
  },
  custom: {
    before: (kernel) => Object.assign(kernel.picture.filters, { range: "custom", since: "2026-11-20T08:00", until: "2026-11-24T18:00", model: "qwen3:4b" }),
  },
  alerts: {
    before: (kernel) =>
      (kernel.picture.alerts.active = [
        { alert: "slow", kind: "p95", subject: "gemma3:12b@local", value: 12.4, text: "gemma3:12b@local: p95 of 31 requests is 12.4 s" },
        { alert: "desk is down", kind: "backend_down", subject: "desk", value: null, text: "desk does not answer: connection refused" },
      ]),
  },
  empty: { before: (kernel) => Object.assign(kernel.picture, EMPTY, { store: { ...kernel.picture.store, state: "empty" } }) },
  none: {
    before: (kernel) =>
      Object.assign(kernel.picture, {
        table: { ...kernel.picture.table, rows: [] },
        headline: { now: NOTHING, before: NOTHING, any: true },
        filters: { ...kernel.picture.filters, client: "aider" },
      }),
  },
  reading: { before: (kernel) => Object.assign(kernel.picture, EMPTY, { headline: null, store: { ...kernel.picture.store, state: "reading" } }) },
  unreadable: {
    before: (kernel) =>
      (kernel.picture.store = { ...kernel.picture.store, state: "error", text: "/data/workbench/metrics/MANIFEST.json is broken: JSON is malformed.", hint: "Make it anew from the files: workbench clean." }),
  },
  noserver: { before: (kernel) => (kernel.picture.alerts = { state: "gone", text: "No server runs.", active: [], rules: 0 }) },
  taken: {
    after: async (kernel) => {
      await sleep(200);
      kernel.take({ t: "take", what: "csv" });
    },
  },
  kernelgone: {
    after: async (kernel) => {
      await sleep(300);
      kernel.gone = true;
      document.querySelector('[aria-label="Refresh"]').click();
    },
  },
};
