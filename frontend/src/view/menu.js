/** A list that opens below a button, with the keyboard of a menu. */
import { h, show } from "./dom.js";

/** A button with a popup; `fill` makes its items anew each time it opens. */
export class Menu {
  /**
   * @param {HTMLElement} button
   * @param {{label: string, role?: string, fill: () => HTMLElement[]}} options
   */
  constructor(button, { label, role = "menu", fill }) {
    this.button = button;
    this.fill = fill;
    this.popup = h("div", { class: "wb-popup", role, "aria-label": label, hidden: true });
    this.el = h("div", { class: "wb-menu" }, button, this.popup);
    button.setAttribute("aria-haspopup", role);
    button.setAttribute("aria-expanded", "false");
    button.addEventListener("click", () => this.toggle());
    this.el.addEventListener("keydown", (event) => this.#key(event));
    this.outside = (event) => {
      if (!event.composedPath().includes(this.el)) this.hide();
    };
  }

  get open() {
    return !this.popup.hidden;
  }

  toggle() {
    if (this.open) this.hide();
    else this.show();
  }

  show() {
    this.popup.replaceChildren(...this.fill());
    show(this.popup, true);
    this.button.setAttribute("aria-expanded", "true");
    document.addEventListener("pointerdown", this.outside, true);
    (this.popup.querySelector('[aria-selected="true"]') ?? this.#items()[0])?.focus();
  }

  /** Fill it anew while it is open, such as when a fit became known; the focus stays where it is. */
  refresh() {
    if (!this.open) return;
    const items = this.fill();
    const { children } = this.popup;
    if (items.length === children.length && items.every((el, at) => el.isEqualNode(children[at]))) return;
    const at = this.#items().indexOf(document.activeElement);
    this.popup.replaceChildren(...items);
    this.#items()[at]?.focus();
  }

  /** Close it; says whether it was open. */
  hide() {
    if (!this.open) return false;
    const inside = this.popup.contains(document.activeElement);
    show(this.popup, false);
    this.button.setAttribute("aria-expanded", "false");
    document.removeEventListener("pointerdown", this.outside, true);
    if (inside) this.button.focus();
    return true;
  }

  #items() {
    return [...this.popup.querySelectorAll("button:not([disabled])")];
  }

  #key(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (!step || event.altKey) return;
    event.preventDefault();
    if (!this.open) return this.show();
    const items = this.#items();
    const at = items.indexOf(document.activeElement);
    return items[(at + step + items.length) % items.length]?.focus();
  }

  close() {
    document.removeEventListener("pointerdown", this.outside, true);
  }
}

/** One entry of a menu. */
export function menuItem(label, onClick, props = {}) {
  return h(
    "button",
    { type: "button", role: "menuitem", class: "wb-item", ...props, on: { click: onClick } },
    label,
  );
}
