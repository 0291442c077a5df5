/** What the server did lately, newest first. */
import { h, setText } from "../view/dom.js";
import { eventLine } from "./words.js";

const SHOWN = 30;

/** The list of events, closed until somebody opens it. */
export class EventLog {
  constructor() {
    this.list = h("ol", { class: "wbm-events" });
    this.last = h("span", { class: "wbm-detail" });
    this.el = h(
      "details",
      { class: "wbm-log", on: { toggle: () => this.#draw() } },
      h("summary", {}, h("span", {}, "Recent events"), this.last),
      this.list,
    );
    this.events = [];
  }

  update(picture) {
    this.events = picture.events;
    const newest = this.events.at(-1);
    setText(this.last, newest ? sentence(newest) : "nothing happened yet");
    this.#draw();
  }

  #draw() {
    if (!this.el.open) return;
    const rows = this.events.slice(-SHOWN).reverse().map(item);
    this.list.replaceChildren(...(rows.length ? rows : [h("li", { class: "wbm-detail" }, "Nothing happened yet.")]));
  }
}

function sentence(event) {
  const { subject, text } = eventLine(event);
  return [subject, text].filter(Boolean).join(" ");
}

function item(event) {
  const { subject, text, why, level } = eventLine(event);
  const when = new Date(event.ts * 1000);
  return h(
    "li",
    { "data-level": level },
    h("time", { datetime: when.toISOString(), title: when.toLocaleString() }, when.toLocaleTimeString("en-GB")),
    h(
      "span",
      {},
      subject && h("strong", {}, `${subject} `),
      text,
      why && h("span", { class: "wbm-detail" }, ` (${why})`),
    ),
  );
}
