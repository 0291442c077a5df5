/** The text of an answer as blocks: finished ones are drawn once, the open tail is drawn again. */
import { BlockStream } from "../blocks.js";
import { toHtml } from "../markdown.js";
import { drawMath } from "../math.js";
import { safeFragment } from "../sanitize.js";
import { visible } from "../text.js";
import { CodeBlock, dressCode } from "./code.js";
import { KEPT } from "./announce.js";
import { h } from "./dom.js";
import { dressImages } from "./images.js";

/** An open block that is slow to draw is drawn less often: at most this share of the time. */
const OPEN_SHARE = 0.25;

/**
 * @typedef {object} BodyServices
 * @property {import("../late.js").Late} late
 * @property {((source: string) => void)|null} insert Inserts code as a cell.
 * @property {((text: string) => void)|null} announce Tells a screen reader of a finished block.
 */

/** Draws one growing markdown text. */
export class Body {
  /** @param {BodyServices} services */
  constructor(services) {
    this.services = services;
    this.el = h("div", { class: "wb-md" });
    this.#reset();
    this.text = "";
    this.ended = false;
  }

  #reset() {
    this.stream = new BlockStream();
    /** @type {{block: import("../blocks.js").Block, el: HTMLElement, code: CodeBlock|null}[]} */
    this.drawn = [];
    this.tail = [];
    this.fixed = 0;
    /** How many blocks a screen reader was told of. */
    this.told = 0;
    this.dirty = false;
    this.restAt = 0;
    this.el.replaceChildren();
  }

  /** Take the text as it is now; cheap, `pump` draws. */
  set(text, ended) {
    if (text === this.text && ended === this.ended) return;
    if (!this.stream.continues(text)) this.#reset();
    this.text = text;
    this.ended = ended;
    this.dirty = true;
    delete this.el.dataset.drawn;
  }

  /** Whether everything is drawn. */
  get idle() {
    return !this.dirty;
  }

  /**
   * Draw until the deadline.
   * @param {number} deadline
   * @returns {boolean} Whether there is more to draw.
   */
  pump(deadline) {
    if (!this.dirty) return false;
    if (this.text !== this.stream.text || this.ended !== this.streamEnded) {
      this.tail = this.stream.update(this.text, this.ended);
      this.streamEnded = this.ended;
    }
    const done = this.stream.done;
    const total = done.length + this.tail.length;
    while (this.fixed < done.length) {
      if (performance.now() >= deadline) return true;
      this.#draw(this.fixed, done[this.fixed]);
      this.fixed += 1;
    }
    this.#tell(done);
    if (!this.ended && performance.now() < this.restAt) return true;
    const start = performance.now();
    for (let index = done.length; index < total; index += 1) {
      this.#draw(index, this.tail[index - done.length]);
    }
    this.restAt = performance.now() + (performance.now() - start) * (1 / OPEN_SHARE - 1);
    this.#trim(total);
    if (this.ended) this.#tell([...done, ...this.tail]);
    this.dirty = false;
    // Tests wait for this mark: the whole text is in the page.
    if (this.ended) this.el.dataset.drawn = "true";
    return false;
  }

  /** Tell a screen reader of the finished blocks that it does not know. */
  #tell(blocks) {
    for (const block of blocks.slice(Math.max(this.told, blocks.length - KEPT))) this.services.announce?.(block);
    this.told = Math.max(this.told, blocks.length);
  }

  #trim(total) {
    for (const { el } of this.drawn.splice(total)) el.remove();
  }

  #draw(index, block) {
    const old = this.drawn[index];
    if (
      old &&
      old.block.kind === block.kind &&
      old.block.text === block.text &&
      old.block.open === block.open &&
      old.block.lang === block.lang
    )
      return;
    if (old?.code && block.kind === "code" && old.block.lang === block.lang) {
      old.code.update(block.text, block.open);
      old.block = block;
      return;
    }
    const made = this.#make(block);
    if (old) old.el.replaceWith(made.el);
    else this.el.append(made.el);
    this.drawn[index] = made;
  }

  #make(block) {
    if (block.kind === "code") {
      const code = new CodeBlock(block.lang, this.services);
      code.update(block.text, block.open);
      return { block, el: code.el, code };
    }
    const el = h("div", { class: block.kind === "plain" ? "wb-block wb-plain" : "wb-block", dir: "auto" });
    if (block.kind === "plain") el.textContent = visible(block.text);
    else this.#markdown(el, block);
    return { block, el, code: null };
  }

  #markdown(el, block) {
    el.append(safeFragment(toHtml(block.text)));
    dressImages(el);
    dressCode(el, this.services);
    wrapTables(el);
    if (!block.open || this.services.late.module) drawMath(el, this.services.late);
  }
}

/** A wide table scrolls by itself, not the page. */
function wrapTables(root) {
  for (const table of root.querySelectorAll("table")) {
    const box = h("div", { class: "wb-table", tabindex: "0", role: "region", "aria-label": "Table" });
    table.replaceWith(box);
    box.append(table);
  }
}
