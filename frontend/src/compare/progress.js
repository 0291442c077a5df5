/** Which prompt is shown, how far all are, which model is next; and how the answers are shown. */
import { visible } from "../text.js";
import { h, iconButton, setText, show, textButton } from "../view/dom.js";
import { orderOf, orderReason, progressWords, promptWords } from "./words.js";

/** So many prompts have a dot each; of more only the number is shown. */
const MOST_DOTS = 60;
const MARKS = { ".": "", w: "…", d: "•", f: "!", v: "✓" };
const WORDS = { done: "", now: "Now:", next: "Next:", later: "Then:", planned: "" };

/** The bar. */
export class ProgressBar {
  /** @param {import("./panel.js").CompareView} panel */
  constructor(panel) {
    this.panel = panel;
    this.back = iconButton("left", "Previous prompt", () => panel.goto((panel.state?.prompt?.index ?? 0) - 1));
    this.forth = iconButton("right", "Next in the list", () => panel.goto((panel.state?.prompt?.index ?? 0) + 1));
    this.where = h("span", { class: "wbc-where" });
    this.dots = h("div", { class: "wbc-dots", role: "group", "aria-label": "Prompts" });
    this.dots.addEventListener("keydown", (event) => this.#key(event));
    this.sum = h("span", { class: "wb-note" });
    this.order = h("ol", { class: "wbc-order", "aria-label": "Order of work" });
    this.again = textButton("Ask for what is missing", () => panel.send({ t: "again" }), { class: "wbc-missing wb-write" });
    this.lock = this.#toggle("Scroll together", "S", () => this.toggleLock());
    this.lock.classList.add("wbc-lock");
    this.diff = this.#toggle("Differences", "D", () => panel.toggleDiff());
    this.list = h("div", { class: "wbc-list" }, h("span", { class: "wbc-steps" }, this.back, this.where, this.forth), this.dots, this.sum, this.again);
    this.tools = h("div", { class: "wbc-tools" }, this.lock, this.diff);
    this.line = h("div", { class: "wbc-line" }, this.list, this.tools);
    this.el = h("div", { class: "wbc-progress" }, this.line, this.order);
  }

  #toggle(text, key, onClick) {
    return textButton(text, onClick, { class: "wbc-toggle", "aria-pressed": "false", "aria-keyshortcuts": key, title: `${text} (${key})` });
  }

  /** Let all lanes scroll together, or each by itself. */
  toggleLock() {
    const on = !this.panel.lanes.locked;
    this.panel.lanes.lock(on);
    this.lock.setAttribute("aria-pressed", String(on));
  }

  update(state) {
    const { prompt, prompts, progress, busy } = state;
    show(this.line, prompts.length > 0);
    show(this.list, prompts.length > 1 || progress.includes("f"));
    show(this.tools, Boolean(prompt));
    const at = prompt?.index ?? 0;
    setText(this.where, `Prompt ${at + 1} of ${prompts.length}`);
    this.back.disabled = at === 0;
    this.forth.disabled = at >= prompts.length - 1;
    setText(this.sum, progressWords(progress));
    show(this.again, !busy && progress.includes("f") && !state.setup.changed);
    show(this.lock, state.lanes.length > 1);
    show(this.diff, Boolean(prompt?.pair));
    this.diff.setAttribute("aria-pressed", String(this.panel.differences && Boolean(prompt?.pair)));
    this.#drawDots(state, at);
    this.#drawOrder(state.plan, Boolean(busy));
  }

  #drawDots({ prompts, progress }, at) {
    const key = `${at}|${progress}|${prompts.length}`;
    if (key === this.key) return;
    this.key = key;
    show(this.dots, prompts.length > 1 && prompts.length <= MOST_DOTS);
    if (this.dots.hidden) return;
    const focused = this.dots.contains(document.activeElement);
    this.dots.replaceChildren(
      ...prompts.map((text, index) => {
        const words = promptWords(index, visible(text), progress[index]);
        const props = { type: "button", class: "wbc-dot", "data-stage": progress[index], "aria-label": words, title: words, tabindex: index === at ? "0" : "-1", "aria-current": index === at ? "step" : null };
        return h("button", { ...props, on: { click: () => this.panel.goto(index) } }, MARKS[progress[index]] ?? "");
      }),
    );
    if (focused) this.dots.children[at]?.focus();
  }

  /** Tab goes to the shown prompt; the arrows go to the others. */
  #key(event) {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || event.altKey) return;
    event.preventDefault();
    this.panel.goto((this.panel.state?.prompt?.index ?? 0) + step);
  }

  #drawOrder(plan, busy) {
    const steps = orderOf(plan);
    const key = JSON.stringify([steps, busy]);
    if (key === this.orderKey) return;
    this.orderKey = key;
    show(this.order, steps.length > 0);
    this.order.title = plan ? visible(orderReason(plan)) : "";
    this.order.replaceChildren(
      ...steps.map(({ state, text }, index) => {
        const word = busy ? WORDS[state] : index ? "" : "Order:";
        return h("li", { "data-state": state, "aria-current": state === "now" ? "step" : null }, word && h("span", { class: "wbc-step" }, `${word} `), visible(text));
      }),
    );
  }
}
