/** A panel that slides over the messages from one side. */
import { h, iconButton, show } from "./dom.js";

/** What all drawers share: opening, closing, their doors, and where the focus goes. */
export class Drawer {
  /** @param {string} side `left` or `right`. @param {string} title */
  constructor(side, title, ...children) {
    /** @type {Map<HTMLElement, () => boolean>} Buttons that open it, and whether it is open for them. */
    this.doors = new Map();
    this.body = h("div", { class: "wb-drawer-body" }, ...children);
    this.el = h(
      "aside",
      {
        // Several bundles share a page: a counter would begin anew in each.
        id: `wb-drawer-${Math.random().toString(36).slice(2)}`,
        class: `wb-drawer wb-${side}`,
        "aria-label": `${title} panel`,
        hidden: true,
      },
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

  /**
   * Let a button say that it opens this drawer, and whether it is open.
   * @param {HTMLElement} button
   * @param {() => boolean} [mine] For one of several doors: whether what is shown is behind it.
   */
  door(button, mine = () => true) {
    button.setAttribute("aria-controls", this.el.id);
    this.doors.set(button, mine);
    this.markDoors();
    return button;
  }

  /** Let each door say whether the drawer is open for it. */
  markDoors() {
    for (const [button, mine] of this.doors) button.setAttribute("aria-expanded", String(this.open && mine()));
  }

  toggle() {
    if (this.open) this.hide();
    else this.show();
  }

  show() {
    if (!this.el.contains(document.activeElement)) this.from = document.activeElement;
    show(this.el, true);
    this.markDoors();
    this.el.querySelector(":is(input, textarea, select):enabled")?.focus();
  }

  /** Close it; says whether it was open. */
  hide() {
    if (!this.open) return false;
    show(this.el, false);
    this.markDoors();
    this.from?.focus?.();
    return true;
  }
}

/** Open or close one of the drawers that share a place; the others make room. */
export function openOnly(wanted, drawers) {
  const door = document.activeElement;
  // Closing gives the focus back to where it came from: it belongs to the door that was used now.
  for (const other of drawers) if (other !== wanted && other.hide()) door?.focus?.();
  wanted.toggle();
}
