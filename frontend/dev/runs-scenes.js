/** Scenes of the runs panel, for the eye and for tests. */
import { sleep } from "./scenes.js";

/** Wait for an element: a loaded machine takes its time. */
export async function seen(selector) {
  for (let tries = 0; tries < 800 && !document.querySelector(selector); tries += 1) await sleep(25);
  return document.querySelector(selector);
}

/** Open a run by the state it was made in. */
async function open(kernel, name) {
  await seen(".wbr-run");
  const ids = Object.keys(kernel.made.rows).sort().reverse();
  document.querySelectorAll(".wbr-run")[ids.indexOf(kernel.made.runs[name].id)].click();
  await seen(".wbr-node");
}

async function openStep(kernel, run, step) {
  await open(kernel, run);
  (await seen(`.wbr-node[data-step="${step}"]`)).click();
  await seen(".wbr-step .wbr-part");
}

async function click(label) {
  (await seen(`.wbr-page:not([hidden]) [aria-label="${label}"]`)).click();
}

/** A plan with many steps, some of them side by side. */
function large(kernel) {
  const { running } = kernel.made.runs;
  const steps = [];
  const names = "fetch split clean embed cluster label draft critique revise score rank merge";
  names.split(" ").forEach((name, at, all) => {
    steps.push({ id: name, kind: "python", title: "", needs: at ? [all[at - 1]] : [], foreach: false });
    if (at > 1 && at % 2) for (const side of ["a", "b"]) steps.push({ id: `${name}_${side}`, kind: "prompt", title: "", needs: [all[at - 2]], foreach: true });
  });
  steps.push({ id: "publish", kind: "approval", title: "Publish the result", needs: steps.map(({ id }) => id).filter((id) => id.includes("_")).concat("merge"), foreach: false });
  const statuses = ["done", "cached", "kept", "done", "failed", "skipped", "running", "retrying", "cancelled"];
  running.run = { ...running.run, steps };
  running.steps = Object.fromEntries(steps.map(({ id }, at) => [id, { ...Object.values(kernel.made.runs.running.steps)[0], id, spans: [], seconds: at / 3, status: at > 14 ? "blocked" : statuses[at % statuses.length], reason: at > 14 ? "cluster" : "" }]));
}

export const RUN_SCENES = {
  list: {},
  running: { after: (kernel) => open(kernel, "running") },
  waiting: { after: (kernel) => open(kernel, "waiting") },
  done: { after: (kernel) => open(kernel, "done") },
  failed: { after: (kernel) => open(kernel, "failed") },
  lost: {
    after: async (kernel) => {
      await open(kernel, "lost");
      document.querySelector(".wbr-facts").open = true;
    },
  },
  timeline: {
    after: async (kernel) => {
      await open(kernel, "done");
      [...document.querySelectorAll(".wbr-views .wbr-group")].at(-1).click();
    },
  },
  step: { after: (kernel) => openStep(kernel, "done", "report") },
  chart: {
    after: async (kernel) => {
      await openStep(kernel, "done", "plot");
      await seen(".wbr-seat[data-drawn]");
    },
  },
  items: { after: (kernel) => openStep(kernel, "running", "ask") },
  attempts: { after: (kernel) => openStep(kernel, "failed", "rate") },
  question: { after: (kernel) => openStep(kernel, "waiting", "look") },
  cancelling: {
    after: async (kernel) => {
      await open(kernel, "running");
      await click("Cancel run");
    },
  },
  choose: {
    after: async () => {
      await click("New run");
      await seen(".wbr-chooser .wbr-plan");
    },
  },
  form: {
    after: async () => {
      await RUN_SCENES.choose.after();
      document.querySelector(".wbr-chooser .wbr-plan").click();
      await seen(".wbr-field");
    },
  },
  wrong: {
    after: async () => {
      await RUN_SCENES.form.after();
      document.querySelector('[data-name="n"] input').value = "many";
      document.querySelector(".wbr-form button[type=submit]").click();
      await seen('[aria-invalid="true"]');
    },
  },
  broken: {
    after: async () => {
      await RUN_SCENES.choose.after();
      document.querySelectorAll(".wbr-chooser .wbr-plan")[1].click();
      await seen(".wbr-error:not([hidden]) li");
    },
  },
  empty: { before: (kernel) => Object.assign(kernel.picture, { rows: {}, store: { ...kernel.picture.store, state: "empty" } }) },
  unreadable: { before: (kernel) => (kernel.picture.store = { ...kernel.picture.store, state: "error", text: "Permission denied.", hint: "Change the rights of the folder, or give another one as data_dir." }) },
  reading: { before: (kernel) => Object.assign(kernel.picture, { rows: {}, store: { ...kernel.picture.store, state: "reading" } }) },
  large: {
    before: large,
    after: (kernel) => open(kernel, "running"),
  },
  kernelgone: {
    after: async (kernel) => {
      await open(kernel, "running");
      kernel.gone = true;
      document.querySelector('[aria-label="Back to the runs"]').click();
    },
  },
};
