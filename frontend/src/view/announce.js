/** Tells a screen reader what is finished: whole blocks, never single tokens. */
import { visible } from "../text.js";
import { h } from "./dom.js";

const LONGEST = 600;
/** So many pieces are kept to be read; of a flood only the last ones are. */
export const KEPT = 4;

/** A polite live region that nobody sees; what was added is read, not again what stands before it. */
export class Announcer {
  constructor() {
    this.el = h("div", { class: "wb-offscreen", "aria-live": "polite", "aria-atomic": "false", role: "status" });
  }

  /** Read a text aloud when there is a pause. */
  say(text) {
    const shown = visible(text).slice(0, LONGEST);
    this.el.append(h("p", {}, shown));
    while (this.el.childElementCount > KEPT) this.el.firstElementChild.remove();
  }

  /** Read a finished block aloud; of code only that it is there. */
  block(block) {
    if (block.kind === "code") this.say(`Code, ${block.lang || "no language"}`);
    else this.say(block.text);
  }
}
