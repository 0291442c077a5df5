/** One step: what it was given and gave, what it asked of models and of people, and what went wrong. */
import { count, visible } from "../text.js";
import { h, prose, show } from "../view/dom.js";
import { Drawer } from "../view/drawer.js";
import { answerLine, AskCard } from "./ask.js";
import { pairs } from "./facts.js";
import { stateGlyph } from "./glyphs.js";
import { Figures, preview, size } from "./output.js";
import { errorWords, items, moment, stateOf, STEPS, stepTime, time } from "./words.js";

const ITEMS_LISTED = 400;

/** The drawer at the right. */
export class StepDrawer extends Drawer {
  constructor(panel) {
    super("right", "Step");
    this.panel = panel;
    this.wanted = null;
    this.figures = new Figures(panel);
    this.el.classList.add("wbr-step");
    this.el.tabIndex = -1;
    this.head = h("div", { class: "wbr-what" });
    this.ask = h("div", { class: "wbr-step-ask" });
    this.rest = h("div", { class: "wbr-parts" });
    this.body.append(this.head, this.ask, this.rest);
  }

  /** Ask for a step and open. */
  open(id) {
    if (this.wanted === id) return;
    this.wanted = id;
    this.shown = this.asked = null;
    this.ask.replaceChildren();
    this.rest.replaceChildren(h("p", { class: "wbr-hint" }, "Reading the step …"));
    this.#drawHead();
    show(this.el, true);
    this.el.focus({ preventScroll: true });
    this.body.scrollTop = 0;
    this.#mark();
    requestAnimationFrame(() => this.panel.page.graph.reveal(id));
    this.panel.send({ t: "step", step: id });
  }

  hide() {
    const was = this.wanted;
    if (was === null) return false;
    this.wanted = null;
    const inside = this.el.contains(document.activeElement) || document.activeElement === document.body;
    show(this.el, false);
    this.figures.clear();
    this.panel.send({ t: "step", step: null });
    this.#mark();
    if (inside) this.panel.page.focusStep(was);
    return true;
  }

  #mark() {
    this.panel.page.graph.mark(this.wanted);
    this.panel.page.timeline.mark(this.wanted);
  }

  update({ step, run, acts }) {
    if (this.wanted === null) return;
    this.#drawHead();
    this.card?.busy(acts[`${this.panel.openId}/${this.wanted}`]);
    if (!step || step.id !== this.wanted || !run) return;
    const shown = JSON.stringify(step);
    if (this.shown === shown) return;
    this.shown = shown;
    this.#drawAsk(step);
    this.figures.clear();
    const open = new Set([...this.rest.querySelectorAll("details[open]")].map((el) => el.dataset.part));
    this.rest.replaceChildren(...this.#parts(step).filter(Boolean));
    for (const el of this.rest.querySelectorAll("details")) if (open.has(el.dataset.part)) el.open = true;
    this.figures.draw();
  }

  #drawHead() {
    const { panel, wanted } = this;
    const state = panel.stepOf(wanted);
    const node = panel.picture.run?.steps.find(({ id }) => id === wanted);
    if (!state || !node) return;
    const shown = JSON.stringify([state, node]);
    if (this.headShown === shown) return;
    this.headShown = shown;
    const { word, kind, tells } = stateOf(STEPS, state.status);
    const line = [node.kind, items(state), state.attempt > 1 ? `attempt ${state.attempt}` : "", stepTime(state, panel.now()), state.model].filter(Boolean);
    const reason = state.reason && (state.status === "blocked" ? `because of ${state.reason}` : state.reason);
    this.head.replaceChildren(
      h("h3", {}, visible(node.title || node.id)),
      h("div", { class: "wbr-step-line" }, h("span", { class: "wbr-chip", "data-kind": kind }, stateGlyph(state.status), h("span", {}, word)), h("span", { class: "wbr-hint" }, visible(line.join(" · ")))),
      ...[reason || tells, state.summary].filter(Boolean).map((text) => h("p", { class: "wbr-tells" }, ...prose(text))),
    );
  }

  /** Keep the card: a person may be writing a note. */
  #drawAsk(step) {
    const key = step.question?.open ? step.question.ask : null;
    if (this.asked === key) return;
    this.asked = key;
    this.card = key === null ? null : new AskCard(this.panel, this.panel.openId, { ...this.panel.stepOf(step.id), ask: key }, { look: false });
    this.ask.replaceChildren(...(this.card ? [this.card.el] : []));
  }

  #parts(step) {
    const { question } = step;
    return [
      error(step.error),
      question?.show ? part("What it shows", preview(question.show, this.figures)) : null,
      question && !question.open ? part("Question", h("p", { class: "wbr-quoted" }, visible(question.ask))) : null,
      step.answer ? part("Answer", answerLine(step.answer)) : null,
      ...step.outputs.map((output) => this.#output(output)),
      step.items.length ? part(`Items, ${count(Math.max(step.total ?? 0, step.items.length))}`, itemList(step.items, step.total ?? 0)) : null,
      step.totals.count ? fold("requests", `Requests, ${count(step.totals.count)}`, requests(step), step.totals.count <= 5) : null,
      step.attempts.length > 1 || step.attempts.some((attempt) => attempt.error) ? fold("attempts", `Attempts, ${count(step.attempts.length)}`, attempts(step.attempts, this.panel.now()), true) : null,
      step.inputs.length ? part("Inputs", written(step.inputs)) : null,
      step.config.length ? fold("config", "What the plan says", written(step.config), !step.outputs.length) : null,
      fold("where", "Where it lies", pairs([["folder", step.folder], ...(step.key ? [["step key", step.key]] : [])]), false),
    ];
  }

  #output(output) {
    const facts = [output.type === "parquet" ? "table" : null, output.rows === null || output.rows === undefined ? null : `${count(output.rows)} rows`, size(output.bytes)].filter(Boolean).join(", ");
    const changed = output.changed ? h("p", { class: "wbr-changed", role: "note" }, "This file was changed after the step was done: its hash is not the recorded one.") : null;
    return h("section", { class: "wbr-part", "aria-label": `Output ${visible(output.name)}` }, h("h4", {}, visible(output.name), h("span", { class: "wbr-hint" }, ` ${facts}`)), changed, preview(output, this.figures));
  }

  close() {
    this.figures.clear();
  }
}

function part(title, ...children) {
  return h("section", { class: "wbr-part" }, h("h4", {}, title), ...children);
}

function fold(name, title, body, open) {
  return h("details", { class: "wbr-part", "data-part": name, open }, h("summary", {}, title), body);
}

function error(found) {
  if (!found) return null;
  return h(
    "div",
    { class: "wbr-error", role: "note", "aria-label": "Error" },
    h("strong", {}, errorWords(found.type)),
    h("p", {}, ...prose(found.message)),
    found.hint ? h("p", { class: "wbr-hint" }, ...prose(found.hint)) : null,
  );
}

/** Fields as the plan has them; long ones in their own lines. */
function written(rows) {
  return h(
    "dl",
    { class: "wbr-pairs" },
    ...rows.flatMap(([name, value]) => [
      h("dt", {}, visible(name)),
      h("dd", {}, value.includes("\n") || value.length > 60 ? h("pre", { class: "wbr-text", tabindex: "0" }, visible(value)) : h("code", { class: "wbr-path" }, visible(value))),
    ]),
  );
}

function itemList(begun, total) {
  const known = new Map(begun.map((item) => [item.i, item]));
  const length = Math.max(total, ...begun.map(({ i }) => i + 1));
  const all = Array.from({ length }, (_, i) => known.get(i) ?? { i, status: "pending" });
  const counts = new Map();
  for (const { status } of all) counts.set(status, (counts.get(status) ?? 0) + 1);
  const told = [...counts].map(([status, n]) => `${count(n)} ${stateOf(STEPS, status).word}`).join(", ");
  const squares = all.slice(0, ITEMS_LISTED).map((item) => h("span", { class: "wbr-item", "data-status": item.status, title: itemText(item) }, item.status === "failed" ? "×" : ""));
  const failed = all.filter((item) => item.error).slice(0, 10);
  return h(
    "div",
    {},
    h("div", { class: "wbr-items", role: "img", "aria-label": told }, ...squares),
    h("p", { class: "wbr-hint" }, told),
    failed.length ? h("ul", { class: "wbr-failed" }, ...failed.map((item) => h("li", {}, h("strong", {}, `item ${item.i}: `), visible(item.error)))) : null,
  );
}

function itemText({ i, status, seconds, attempt, error: message }) {
  return visible([`item ${i}: ${stateOf(STEPS, status).word}`, attempt > 1 ? `attempt ${attempt}` : "", seconds ? time(seconds) : "", message].filter(Boolean).join(", "));
}

function requests({ requests: rows, totals }) {
  const sum = [totals.input_tokens === null ? "" : `${count(totals.input_tokens)} tokens in`, totals.output_tokens === null ? "" : `${count(totals.output_tokens)} out`, totals.seconds === null ? "" : `${time(totals.seconds)} in all`].filter(Boolean).join(", ");
  const cut = totals.count > rows.length ? `; the last ${count(rows.length)} are listed` : "";
  const cell = (value) => h("td", { class: "wbr-figure" }, value === null || value === undefined ? "–" : count(value));
  return h(
    "div",
    {},
    h("p", { class: "wbr-hint" }, `${sum}${cut}`),
    h(
      "div",
      { class: "wbr-scroll", tabindex: "0", role: "group", "aria-label": "Requests" },
      h(
        "table",
        { class: "wbr-table" },
        h("thead", {}, h("tr", {}, ...["Model", "In", "Out", "Time", "End"].map((name, at) => h("th", { scope: "col", class: at && at < 4 ? "wbr-figure" : "" }, name)))),
        h("tbody", {}, ...rows.map((row) => h("tr", {}, h("td", {}, visible(row.model ?? "–")), cell(row.input_tokens), cell(row.output_tokens), h("td", { class: "wbr-figure" }, time(row.seconds)), h("td", {}, visible(row.stop_reason ?? "–"))))),
      ),
    ),
  );
}

function attempts(all, now) {
  return h(
    "ol",
    { class: "wbr-attempts" },
    ...all.map((attempt) => {
      const seconds = attempt.to === null ? now - attempt.at : attempt.to - attempt.at;
      const { word } = stateOf(STEPS, attempt.status);
      return h(
        "li",
        {},
        h("span", { class: "wbr-attempt" }, stateGlyph(attempt.status), ` Attempt ${attempt.n}: ${word}, ${time(seconds)}`, h("span", { class: "wbr-hint" }, ` ${moment(attempt.at, now)}`)),
        attempt.error ? h("p", { class: "wbr-hint" }, ...prose(attempt.error.message)) : null,
      );
    }),
  );
}
