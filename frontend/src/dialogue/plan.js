/** What the dialogue does to memory, foreseen beside measured; and what keeps it from beginning. */
import { sentence, visible } from "../text.js";
import { h, icon, prose, setText, show, textButton } from "../view/dom.js";
import { planWords } from "./words.js";

/** One line that opens to a table of the memory advisor's figures. */
export class PlanStrip {
  constructor() {
    this.text = h("span", { class: "wb-plan-text" });
    this.inside = h("div", { class: "wb-plan-inside" });
    this.el = h("details", { class: "wb-plan", hidden: true }, h("summary", { "aria-label": "Memory" }, icon("chevron"), this.text), this.inside);
  }

  update(plan) {
    show(this.el, Boolean(plan));
    if (!plan) return;
    const { text, level } = planWords(plan);
    setText(this.text, text);
    this.el.dataset.level = level;
    const key = JSON.stringify([plan.needs, plan.notices, plan.reason]);
    if (this.key === key) return;
    this.key = key;
    const row = (cells, tag) => h("tr", {}, ...cells.map((cell) => h(tag, {}, visible(cell))));
    const lines = [plan.reason && `Why: ${plan.reason}.`, ...plan.notices].filter(Boolean);
    this.inside.replaceChildren(
      h(
        "div",
        { class: "wb-table", tabindex: "0", role: "region", "aria-label": "Memory of each model" },
        h("table", {}, h("thead", {}, row(plan.columns.map(calm), "th")), h("tbody", {}, ...plan.needs.map((cells) => row(cells, "td")))),
      ),
      ...lines.map((line) => h("p", { class: "wb-note" }, visible(line))),
    );
  }
}

/** `IN MEMORY` as `In memory`. */
function calm(title) {
  return title.charAt(0) + title.slice(1).toLowerCase();
}

/** An error that stands before the first turn, or between turns. */
export class ProblemBox {
  /** @param {{again: () => void, swap: () => void}} on */
  constructor(on) {
    this.on = on;
    this.el = h("div", { class: "wb-error wb-problem", role: "alert", hidden: true });
  }

  update(problem, begun) {
    show(this.el, Boolean(problem));
    const key = JSON.stringify([problem, begun]);
    if (!problem || this.key === key) return;
    this.key = key;
    this.el.dataset.kind = problem.plan ? "swap" : "error";
    const again = problem.plan
      ? textButton("Make room and load", () => this.on.swap(), { class: "wb-retry wb-write wb-primary" })
      : textButton(begun ? "Retry" : "Check again", () => this.on.again(), { class: "wb-retry wb-write" });
    this.el.replaceChildren(
      h("div", {}, h("strong", {}, begun ? "The dialogue cannot go on. " : "The dialogue cannot begin. "), sentence(problem.text)),
      problem.hint ? h("div", { class: "wb-note" }, ...prose(problem.hint)) : "",
      again,
    );
  }
}
