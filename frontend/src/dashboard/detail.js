/** One request: what was asked and answered, and where its time went. */
import { count, visible } from "../text.js";
import { h, show } from "../view/dom.js";
import { Drawer } from "../view/drawer.js";
import { model } from "./table.js";
import { groups, moment, phases, STAGES, statusOf, time } from "./words.js";

const ROLES = { system: "System", user: "You", assistant: "Answer", tool: "Tool" };
const KINDS = { thinking: "Thinking", reasoning: "Thinking", tool_call: "Asks for a tool", gone: "Not there any more" };

/** The drawer at the right. */
export class Detail extends Drawer {
  constructor(panel) {
    super("right", "Request");
    this.panel = panel;
    this.wanted = null;
    this.el.classList.add("wbd-detail");
    this.el.tabIndex = -1;
  }

  /** Ask for a request and open. */
  open(id, from) {
    if (this.wanted === id) return;
    this.wanted = id;
    this.askedAt = performance.now();
    this.body.replaceChildren(h("p", { class: "wbd-hint" }, "Reading the request …"));
    if (this.el.hidden) {
      this.show();
      this.el.focus();
    }
    this.from = from;
    this.panel.requests.mark(id);
    this.panel.send({ t: "detail", id });
  }

  hide() {
    const from = this.wanted === null ? null : this.panel.requests.body.querySelector(`tr[data-id="${CSS.escape(this.wanted)}"]`);
    if (this.wanted !== null) this.panel.send({ t: "detail", id: null });
    this.wanted = null;
    this.shown = null;
    this.panel.requests.mark(null);
    this.from = from ?? this.from;
    const was = !this.el.hidden;
    show(this.el, false);
    if (was) this.from?.focus?.();
    return was;
  }

  update({ detail }) {
    if (!detail || detail.id !== this.wanted) return;
    const state = JSON.stringify(detail);
    if (this.shown === state) return;
    this.shown = state;
    if (detail.gone) {
      this.body.replaceChildren(h("p", {}, "This request is no longer in the store."));
      return;
    }
    this.body.replaceChildren(...this.#parts(detail).filter(Boolean));
  }

  #parts(detail) {
    const { facts } = detail;
    const { word, kind } = statusOf(facts.status);
    return [
      h(
        "div",
        { class: "wbd-what" },
        h("div", { class: "wbd-model" }, ...model(detail)),
        h("div", { class: "wbd-hint" }, h("span", { class: "wb-dot", "data-kind": kind, "aria-hidden": "true" }), ` ${word}, ${moment(facts.ts)} UTC, ${operation(facts)}`),
      ),
      failure(facts),
      bar(facts, detail.phase_colors),
      h("section", { class: "wbd-texts", "aria-label": "Text" }, ...texts(detail)),
      ...groups(detail).map(([title, rows]) => list(title, rows)),
    ];
  }
}

function operation(facts) {
  return { chat: "a chat", text_completion: "a completion", embeddings: "an embedding" }[facts.gen_ai_operation_name] ?? "a request";
}

function failure(facts) {
  if (!["error", "lost"].includes(facts.status)) return null;
  const lost = facts.status === "lost" ? "The server ended before the request did." : "";
  const stage = STAGES[facts.error_stage] ?? facts.error_stage;
  return h(
    "div",
    { class: "wbd-error", role: "note", "aria-label": "Error" },
    h("strong", {}, visible(facts.error_type ?? (lost ? "Lost" : "Error"))),
    stage ? h("span", { class: "wbd-hint" }, ` ${visible(stage)}`) : null,
    h("p", {}, visible(facts.error_message ?? lost)),
  );
}

function bar(facts, colors = {}) {
  const parts = phases(facts);
  const whole = parts.reduce((sum, part) => sum + part.value, 0);
  if (!whole) return null;
  const told = parts.map((part) => `${part.label} ${time(part.value)}`).join(", ");
  return h(
    "section",
    { class: "wbd-phases" },
    h(
      "div",
      { class: "wbd-phase-bar", role: "img", "aria-label": `Where the time went: ${told}` },
      ...parts.map((part) => {
        const piece = painted({ title: `${part.label}: ${time(part.value)}` }, part, colors);
        piece.style.width = `${(part.value / whole) * 100}%`;
        return piece;
      }),
    ),
    h(
      "ul",
      { class: "wbd-phase-list", "aria-hidden": "true" },
      ...parts.map((part) => h("li", {}, painted({ class: "wbd-phase" }, part, colors), `${part.label} `, h("span", { class: "wbd-hint" }, time(part.value)))),
    ),
  );
}

/** A piece in the colour its part of the time has in every chart. */
function painted(props, { key }, colors) {
  const el = h("span", { ...props, "data-phase": key });
  if (colors[key]) el.style.setProperty("--wbd-c", colors[key]);
  return el;
}

function texts(detail) {
  if (!detail.messages.length) {
    return [
      h(
        "p",
        { class: "wbd-off" },
        "The text of this request was not recorded. The setting ",
        h("code", {}, "metrics.record_text"),
        " decides whose texts are kept.",
      ),
    ];
  }
  const missing = detail.n_messages - detail.messages.length;
  const earlier = missing > 0 ? h("p", { class: "wbd-hint" }, `${count(missing)} of ${count(detail.n_messages)} messages are not shown or were not recorded.`) : null;
  return [earlier, ...detail.messages.map(message)].filter(Boolean);
}

function message({ role, parts }) {
  return h(
    "article",
    { class: "wbd-message", "data-role": role, "aria-label": ROLES[role] ?? visible(role) },
    h("h4", {}, ROLES[role] ?? visible(role)),
    ...(parts.length ? parts.map(part) : [h("p", { class: "wbd-hint" }, "No text.")]),
  );
}

function part({ type, text, cut }) {
  const body = h("pre", { class: "wbd-text", tabindex: "0" }, visible(text));
  const more = cut ? h("p", { class: "wbd-hint" }, `${count(cut)} more characters are left out.`) : null;
  if (!KINDS[type]) return h("div", {}, body, more);
  return h("details", {}, h("summary", {}, KINDS[type]), body, more);
}

function list(title, rows) {
  if (!rows.length) return null;
  return h(
    "section",
    { class: "wbd-facts" },
    h("h4", {}, title),
    h("dl", {}, ...rows.flatMap(([name, value]) => [h("dt", {}, visible(name)), h("dd", {}, visible(value))])),
  );
}
