/** A panel that slides over the messages from one side. */
import { h, iconButton, show } from "./dom.js";

/** What both drawers share: opening, closing, and where the focus goes. */
export class Drawer {
  /** @param {string} side `left` or `right`. @param {string} title */
  constructor(side, title, ...children) {
    this.body = h("div", { class: "wb-drawer-body" }, ...children);
    this.el = h(
      "aside",
      { class: `wb-drawer wb-${side}`, "aria-label": `${title} panel`, hidden: true },
      h(
        "div",
        { class: "wb-drawer-head" },
        h("h2", {}, title),
        iconButton("close", `Close ${title.toLowerCase()}`, () => this.hide()),
      ),
      this.body,
    );
  }

  get open() {
    return !this.el.hidden;
  }

  toggle() {
    if (this.open) this.hide();
    else this.show();
  }

  show() {
    this.from = document.activeElement;
    show(this.el, true);
    this.el.querySelector("input, textarea, select")?.focus();
  }

  /** Close it; says whether it was open. */
  hide() {
    if (!this.open) return false;
    show(this.el, false);
    this.from?.focus?.();
    return true;
  }
}
