/** A block of code: its language, Copy, Insert as cell, and text that grows cheaply. */
import { pieces } from "../blocks.js";
import { safeFragment } from "../sanitize.js";
import { visible } from "../text.js";
import { copyText, flash, h, iconButton } from "./dom.js";

/** Code is kept in parts, since a browser lays a part out anew when it grows. */
const PART = 8000;

/** Code of an answer. */
export class CodeBlock {
  /**
   * @param {string} lang As the model wrote it.
   * @param {import("./body.js").BodyServices} services
   */
  constructor(lang, services) {
    this.late = services.late;
    this.lang = visible(lang).slice(0, 30);
    this.text = "";
    this.closed = false;
    this.part = null;
    this.code = h("code", {});
    this.copy = iconButton("copy", "Copy code", () => this.#copy());
    this.insert = services.insert
      ? iconButton("cell", "Insert code as cell", () => {
          services.insert(this.text);
          flash(this.insert, "check", "Inserted");
        })
      : null;
    this.label = h("span", { class: "wb-code-lang" }, this.lang || "text");
    this.el = h(
      "figure",
      { class: "wb-code", dir: "ltr" },
      h("figcaption", {}, this.label, h("span", { class: "wb-code-actions" }, this.copy, this.insert)),
      h("pre", { tabindex: "0", "aria-label": `Code, ${this.lang || "text"}` }, this.code),
    );
  }

  async #copy() {
    const done = await copyText(visible(this.text));
    flash(this.copy, done ? "check" : "close", done ? "Copied" : "Could not copy");
  }

  /** Take the text as it is now. */
  update(text, open) {
    if (text.startsWith(this.text)) this.#grow(text.slice(this.text.length));
    else this.#restart(text);
    this.text = text;
    if (!open && !this.closed) this.#finish();
    this.closed = !open;
  }

  #restart(text) {
    this.code.replaceChildren();
    this.part = null;
    this.#grow(text);
  }

  #grow(added) {
    for (const text of pieces(visible(added), PART)) {
      if (!this.part || this.part.length + text.length > PART) this.#nextPart();
      this.part.appendData(text);
    }
  }

  /** Parts are lines of their own: a new one begins where the old one ended its line. */
  #nextPart() {
    let start = "";
    if (this.part) {
      const end = this.part.data.lastIndexOf("\n") + 1;
      if (end > 0) {
        start = this.part.data.slice(end);
        this.part.deleteData(end, start.length);
      }
    }
    this.part = document.createTextNode(start);
    this.code.append(h("span", { class: "wb-code-part" }, this.part));
  }

  #finish() {
    this.part = null;
    if (this.lang) paint(this.code, this.text.replace(/\n$/, ""), this.lang, this.late);
  }
}

/**
 * Put whole code blocks in place of the bare ones markdown made, as in lists and quotes.
 * @param {ParentNode} root
 * @param {import("./body.js").BodyServices} services
 */
export function dressCode(root, services) {
  for (const code of root.querySelectorAll("pre > code")) {
    const lang = /(?:^| )language-(\S+)/.exec(code.className)?.[1] ?? "";
    const block = new CodeBlock(lang, services);
    block.update(code.textContent, false);
    code.parentElement.replaceWith(block.el);
  }
}

/** Colour code when the late module is there; until then, and where it cannot, it stays plain. */
function paint(code, text, lang, late) {
  late.when((module) => {
    const html = module.colour(text, lang.toLowerCase());
    if (html !== null) code.replaceChildren(safeFragment(html));
  });
}

/** A JSON text in its colours. */
export function jsonCode(text, late) {
  const code = h("code", {}, visible(text));
  paint(code, text, "json", late);
  return h("pre", { class: "wb-json", tabindex: "0", "aria-label": "Arguments" }, code);
}
