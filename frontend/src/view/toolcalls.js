/** Calls of tools that a model wrote: shown, never run from here. */
import { visible } from "../text.js";
import { jsonCode } from "./code.js";
import { h, icon, setText, show } from "./dom.js";

/** Cards of the calls of one answer. */
export class ToolCalls {
  /** @param {import("../late.js").Late} late */
  constructor(late) {
    this.late = late;
    this.writing = h("div", { class: "wb-tool wb-tool-writing", hidden: true });
    this.cards = h("div", { class: "wb-tool-cards" });
    this.el = h("div", { class: "wb-tools", hidden: true }, this.cards, this.writing);
    this.key = "";
  }

  update(turn, streaming) {
    const calls = turn.tools ?? [];
    const key = calls.length ? JSON.stringify(calls) : "";
    if (key !== this.key) {
      this.key = key;
      this.cards.replaceChildren(...calls.map((call) => card(call, this.late)));
    }
    const written = streaming && !calls.length ? (turn.tool ?? "") : "";
    show(this.writing, written !== "");
    setText(this.writing, written ? `Calling ${visible(written.trim().split("\n").join(", "))}` : "");
    show(this.el, Boolean(calls.length || written));
  }
}

function card(call, late) {
  return h(
    "section",
    { class: "wb-tool", "aria-label": `Tool call ${call.name}` },
    h(
      "header",
      {},
      icon("tool"),
      h("span", { class: "wb-tool-name" }, visible(call.name)),
      h(
        "span",
        { class: "wb-badge", title: "The workbench shows calls; running them is up to your code." },
        "not run",
      ),
    ),
    jsonCode(pretty(call.arguments), late),
  );
}

/** Arguments come as JSON text or as values; text that is not JSON stays as it is. */
function pretty(value) {
  try {
    return JSON.stringify(typeof value === "string" ? JSON.parse(value) : value, null, 2) ?? "";
  } catch {
    return String(value);
  }
}
