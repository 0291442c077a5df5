/** Where prompts are written: one, or one on each line. */
import { count } from "../text.js";
import { h, iconButton, setText, show, textButton } from "../view/dom.js";
import { askWords } from "./words.js";

const TALLEST = 200;

/** The composer. */
export class Composer {
  /** @param {import("./panel.js").CompareView} panel */
  constructor(panel) {
    this.panel = panel;
    this.area = h("textarea", {
      class: "wb-input",
      rows: "1",
      "aria-label": "Prompt to all models",
      on: { input: () => this.#changed(), keydown: (event) => this.#key(event) },
    });
    this.lines = h("input", { type: "checkbox", "aria-label": "Each line is a prompt", on: { change: () => this.#changed() } });
    this.linesLabel = h("label", { class: "wbc-lines", hidden: true }, this.lines, h("span", {}, "Each line is a prompt"));
    this.note = h("span", { class: "wb-note wbc-changed", hidden: true });
    this.same = textButton("Ask the same again", () => panel.run(""), { class: "wbc-same", hidden: true });
    this.hint = h("span", { class: "wb-keys", "aria-hidden": "true" }, "Enter asks · Shift+Enter new line · Esc stops");
    this.send = iconButton("send", "Ask all models", () => this.submit(), { class: "wb-send" });
    this.stop = iconButton("stop", "Stop all answers", () => panel.stop(), { class: "wb-stop", hidden: true });
    this.change = h("div", { class: "wbc-change", hidden: true }, this.note, this.same);
    this.el = h(
      "footer",
      { class: "wb-composer" },
      this.change,
      h("div", { class: "wb-box" }, this.area, h("div", { class: "wb-box-foot" }, this.hint, this.linesLabel, this.send, this.stop)),
    );
  }

  get #prompts() {
    const text = this.area.value;
    const parts = this.lines.checked ? text.split(/\r?\n/) : [text];
    return parts.filter((part) => part.trim());
  }

  update(state) {
    const busy = Boolean(state.busy);
    const stopping = this.panel.stopping !== null;
    show(this.send, !busy);
    show(this.stop, busy);
    this.stop.disabled = stopping;
    this.stop.classList.toggle("wb-stopping", stopping);
    this.stop.setAttribute("aria-label", stopping ? "Stopping" : "Stop all answers");
    this.area.placeholder = askWords(state.setup.sides);
    const again = state.setup.changed && state.prompts.length > 0 && !busy;
    show(this.change, again);
    show(this.note, again);
    setText(this.note, "The models have changed: the next run is a new comparison.");
    show(this.same, again);
    const number = state.prompts.length;
    setText(this.same, number === 1 ? "Ask the same prompt" : `Ask the same ${count(number)} prompts`);
    this.#state();
  }

  #state() {
    const { state, link } = this.panel;
    this.send.disabled = link.gone || !state?.setup.sides.length || this.#prompts.length === 0;
    const number = this.#prompts.length;
    const label = number > 1 ? `Ask all models ${number} prompts` : "Ask all models";
    this.send.setAttribute("aria-label", label);
    this.send.title = label;
  }

  #changed() {
    this.area.style.height = "auto";
    this.area.style.height = `${Math.min(this.area.scrollHeight, TALLEST)}px`;
    const many = this.area.value.trim().includes("\n");
    show(this.linesLabel, many);
    if (!many) this.lines.checked = false;
    this.#state();
  }

  #key(event) {
    if (event.isComposing || event.key !== "Enter" || event.shiftKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    this.submit();
  }

  /** Ask what is written. */
  submit() {
    if (this.send.disabled || !this.panel.run(this.area.value, this.lines.checked)) return;
    this.area.value = "";
    this.#changed();
  }

  focus() {
    this.area.focus();
  }

  disable() {
    for (const control of this.el.querySelectorAll("button, textarea, input")) control.disabled = true;
  }
}
