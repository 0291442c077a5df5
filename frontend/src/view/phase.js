/** One line below a streaming answer: what is going on, and how fast. */
import { bytes, shortName } from "../text.js";
import { h, setText, show } from "./dom.js";
import { paceFacts } from "./figures.js";

const WORDS = {
  queued: "Waiting in the queue",
  unloading: "Making room",
  loading: "Loading the model",
  "reading prompt": "Reading the prompt",
  thinking: "Thinking",
  writing: "Writing",
  stopping: "Stopping",
};
/** After this long in vain a kernel that cannot hear Stop says so. */
const DEAF_MS = 2500;

/** The line of a streaming answer. */
export class PhaseLine {
  constructor() {
    this.word = h("span", { class: "wb-phase-word" });
    this.facts = h("span", { class: "wb-phase-facts" });
    this.hint = h("span", { class: "wb-note", hidden: true });
    this.el = h(
      "div",
      { class: "wb-phase", hidden: true },
      h("span", { class: "wb-pulse", "aria-hidden": "true" }),
      this.word,
      this.facts,
      this.hint,
    );
    this.name = null;
    this.since = 0;
  }

  get shown() {
    return !this.el.hidden;
  }

  hide() {
    show(this.el, false);
    this.name = null;
  }

  /** @param {object} status @param {number|null} stopping When Stop was pressed. @param {object} state */
  update(status, stopping, state) {
    const now = performance.now();
    const name = stopping === null ? (status.phase ?? "queued") : "stopping";
    if (name !== this.name) {
      this.name = name;
      this.since = now;
    }
    setText(this.word, wordOf(name, status));
    setText(this.facts, factsOf(name, status, (now - this.since) / 1000));
    const deaf = stopping !== null && now - stopping > DEAF_MS;
    show(this.hint, deaf);
    if (deaf)
      setText(
        this.hint,
        state?.env?.stop_while_busy === false
          ? "This kernel hears Stop only between cells: interrupt the kernel (■) to stop now."
          : "The server has not confirmed yet.",
      );
    show(this.el, true);
  }
}

/** What a model does, in words. */
export function wordOf(name, status) {
  const detail = name === "unloading" && status.detail ? `: unloading ${shortName(status.detail)}` : "";
  return (WORDS[name] ?? name) + detail;
}

/** The figures of what a model does: pace and tokens, or seconds and bytes. */
export function factsOf(name, status, elapsed) {
  if (name === "writing" || (name === "thinking" && status.tok))
    return paceFacts(status.tps || null, status.tok || null, status.ttft, status.est ? "~" : "").join(" · ");
  const facts = [];
  const time = status.sec ?? elapsed;
  if (time >= 0.5) facts.push(`${time.toFixed(time < 10 ? 1 : 0)} s`);
  if (status.bytes) facts.push(bytes(status.bytes));
  return facts.join(" · ");
}
