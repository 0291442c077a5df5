/** What a model thinks before it answers: closed once the answer begins, unless a person opened it. */
import { seconds } from "../text.js";
import { Body } from "./body.js";
import { h, icon, setText, show } from "./dom.js";

/** A block that opens and closes. */
export class Thinking {
  constructor(services) {
    this.body = new Body({ ...services, announce: null });
    this.label = h("span", {}, "Thinking");
    this.timer = h("span", { class: "wb-think-time" });
    this.summary = h("summary", {}, icon("chevron"), this.label, this.timer);
    this.el = h("details", { class: "wb-think", hidden: true }, this.summary, this.body.el);
    this.touched = false;
    this.began = null;
    this.took = null;
    this.summary.addEventListener("click", () => {
      this.touched = true;
    });
    this.el.addEventListener("toggle", () => {
      if (this.el.open) this.body.dirty = true;
    });
  }

  /** Take the text as it is now. */
  set(text, ended, answering) {
    show(this.el, text !== "");
    if (!text) return;
    const over = ended || answering;
    if (!over && this.began === null) this.began = performance.now();
    if (over && this.began !== null && this.took === null)
      this.took = (performance.now() - this.began) / 1000;
    if (!this.touched) this.el.open = !over;
    this.el.classList.toggle("wb-active", !over);
    setText(this.label, over ? "Thought" : "Thinking");
    this.#time();
    this.body.set(text, over);
  }

  /** Let the timer run. */
  phase(phase) {
    if (phase === "thinking" && this.began === null) this.began = performance.now();
    this.#time();
  }

  #time() {
    const time = this.took ?? (this.began === null ? null : (performance.now() - this.began) / 1000);
    setText(
      this.timer,
      time === null ? "" : this.took === null ? `${Math.floor(time)} s` : `for ${time < 0.1 ? "less than 0.1 s" : seconds(time)}`,
    );
  }

  get idle() {
    return this.body.idle;
  }

  pump(deadline) {
    return this.body.pump(deadline);
  }
}
