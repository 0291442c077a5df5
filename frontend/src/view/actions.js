/** The small buttons below a message, and the arrows between its versions. */
import { h, iconButton, setText, show } from "./dom.js";

/** A row of buttons that shows itself when the message has the pointer or the focus. */
export class Actions {
  constructor(...children) {
    this.el = h("div", { class: "wb-actions" }, ...children);
  }
}

/** `< 2/3 >`: goes to another version of a message. */
export class Branches {
  constructor(chat) {
    this.chat = chat;
    this.sib = null;
    this.back = iconButton("left", "Previous version", () => this.#go(2));
    this.forth = iconButton("right", "Next version", () => this.#go(3));
    this.label = h("span", { class: "wb-count" });
    this.el = h(
      "span",
      { class: "wb-branches", role: "group", "aria-label": "Versions", hidden: true },
      this.back,
      this.label,
      this.forth,
    );
  }

  #go(which) {
    if (this.sib?.[which]) this.chat.send({ t: "goto", mid: this.sib[which] });
  }

  /** @param {[number, number, string|null, string|null]|null} sib */
  update(sib) {
    this.sib = sib;
    const many = Boolean(sib && sib[1] > 1);
    show(this.el, many);
    if (!many) return;
    setText(this.label, `${sib[0] + 1}/${sib[1]}`);
    this.back.disabled = !sib[2];
    this.forth.disabled = !sib[3];
  }
}
