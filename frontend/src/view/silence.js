/** The line at the foot of a panel that says that its kernel does not answer, or is gone. */
import { h, setText, show } from "./dom.js";

/** So many questions in vain, and the line says that nobody answers. */
const SILENT_TRIES = 3;
const SILENT = "The kernel does not answer. It may be busy with a cell; if it was restarted, run this cell again.";

/** The line. */
export class Silence {
  constructor() {
    this.el = h("p", { class: "wb-lost", role: "status", hidden: true });
  }

  /**
   * Say calmly when nobody answers; a busy kernel of an old kind answers later.
   * @param {number} unanswered How often the kernel was asked in vain.
   */
  update(unanswered) {
    if (this.ended) return;
    const silent = unanswered >= SILENT_TRIES;
    if (silent) setText(this.el, SILENT);
    show(this.el, silent);
  }

  /** Say for good that the kernel is gone, and what that means. */
  end(text) {
    this.ended = true;
    setText(this.el, text);
    show(this.el, true);
  }
}
