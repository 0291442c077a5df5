/** What the kernel has to say, above the messages, until dismissed or replaced. */
import { h, iconButton, prose, show } from "./dom.js";

/** A bar with one notice. */
export class NoticeBar {
  constructor() {
    this.text = h("span", { class: "wb-notice-text" });
    this.hint = h("span", { class: "wb-notice-hint" });
    this.close = iconButton("close", "Dismiss notice", () => show(this.el, false));
    this.el = h("div", { class: "wb-notice", hidden: true }, h("div", {}, this.text, this.hint), this.close);
  }

  /**
   * Show a notice.
   * @param {"info"|"warn"|"error"} level
   * @param {string} text
   * @param {string|null} [hint]
   */
  show(level, text, hint = null) {
    this.el.dataset.level = level;
    this.el.setAttribute("role", level === "error" ? "alert" : "status");
    this.text.replaceChildren(...prose(text));
    this.hint.replaceChildren(...prose(hint ?? ""));
    show(this.hint, Boolean(hint));
    show(this.el, true);
  }
}
