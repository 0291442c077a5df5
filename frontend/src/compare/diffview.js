/** What two answers say differently, side by side; marked by lines and boxes as well as by colour. */
import { visible } from "../text.js";
import { h, setText } from "../view/dom.js";
import { countsOf, diff } from "./diff.js";
import { diffWords } from "./words.js";

/** The view. */
export class DiffView {
  constructor() {
    this.summary = h("p", { class: "wb-note", role: "status" });
    this.sides = ["left", "right"].map((op) => {
      const name = h("h3", {});
      const text = h("div", { class: "wbc-diff-text", dir: "auto" });
      return { op, name, text, el: h("section", { class: "wbc-diff-side" }, name, text) };
    });
    this.el = h(
      "div",
      { class: "wbc-diff", role: "region", "aria-label": "Differences", tabindex: "0", hidden: true },
      this.summary,
      h("div", { class: "wbc-diff-sides" }, ...this.sides.map((side) => side.el)),
    );
  }

  /**
   * @param {[string, string]} texts
   * @param {[string, string]} names
   * @param {[number, number]} places Of the lanes, for their colours.
   */
  update(texts, names, places) {
    const key = JSON.stringify([texts, names]);
    if (key === this.key) return;
    this.key = key;
    const parts = diff(visible(texts[0]), visible(texts[1]));
    setText(this.summary, diffWords(countsOf(parts), names));
    this.sides.forEach(({ op, name, text, el }, index) => {
      setText(name, `${names[index]}`);
      el.dataset.colour = places[index] % 6;
      el.setAttribute("aria-label", names[index]);
      const own = parts.filter((part) => part.op === "same" || part.op === op);
      text.replaceChildren(...own.flatMap((part) => (part.op === "same" ? [part.text] : boxed(part.text, op))));
    });
  }
}

/** Words in a box; the spaces around them are not part of it. */
function boxed(text, op) {
  const [, before, words, after] = /^(\s*)(.*?)(\s*)$/su.exec(text);
  return [before, words && h(op === "left" ? "del" : "ins", { class: "wbc-only" }, words), after];
}
