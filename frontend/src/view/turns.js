/** Messages that are shown as they are: questions, and results of tools. */
import { bytes, visible } from "../text.js";
import { Actions, Branches } from "./actions.js";
import { copyText, h, icon, iconButton, flash, setText, show, textButton } from "./dom.js";

/** A question of the person. */
export class UserTurn {
  constructor(chat) {
    this.chat = chat;
    this.turn = null;
    this.bubble = h("div", { class: "wb-bubble", dir: "auto" });
    this.chips = h("div", { class: "wb-chips" });
    this.branches = new Branches(chat);
    this.copyButton = iconButton("copy", "Copy message", () => this.copy());
    this.tools = new Actions(
      this.branches.el,
      this.copyButton,
      iconButton("edit", "Edit message", () => this.edit(), { class: "wb-write" }),
      iconButton("trash", "Delete message", () => this.#remove(), { class: "wb-write" }),
    );
    this.extra = h("div", { class: "wb-inline", on: { keydown: (event) => this.#key(event) } });
    this.el = h(
      "article",
      { class: "wb-turn wb-user", tabindex: "-1", "aria-label": "You" },
      this.chips,
      h("div", { class: "wb-user-row" }, this.tools.el, this.bubble),
      this.extra,
    );
  }

  update(turn) {
    const old = this.turn;
    this.turn = turn;
    this.branches.update(turn.sib);
    if (old && old.text === turn.text) return;
    setText(this.bubble, visible(turn.text));
    show(this.bubble, turn.text !== "");
    this.chips.replaceChildren(...chipsOf(turn));
  }

  async copy() {
    const done = await copyText(this.turn.text);
    flash(this.copyButton, done ? "check" : "close", done ? "Copied" : "Could not copy");
  }

  /** Let the person write the question anew, in its place. */
  edit() {
    if (this.chat.state.conv.read_only || this.chat.protocol.streaming || this.chat.link.gone) return;
    const area = h("textarea", {
      class: "wb-edit",
      "aria-label": "Edit message text",
      rows: "3",
      dir: "auto",
      value: this.turn.text,
    });
    const save = () => {
      const text = area.value.trim();
      if (text && this.chat.edit(this.turn.mid, text)) this.#closeExtra();
    };
    area.addEventListener("keydown", (event) => {
      if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
        event.preventDefault();
        save();
      }
    });
    const note = h("span", { class: "wb-note" }, "The old version stays beside it.");
    this.#openExtra(
      area,
      h(
        "div",
        { class: "wb-row" },
        note,
        textButton("Cancel edit", () => this.#closeExtra(), { text: "Cancel" }),
        textButton("Send edited message", save, { text: "Send", class: "wb-primary" }),
      ),
    );
    this.bubble.hidden = true;
    area.style.height = `${Math.min(area.scrollHeight + 4, 300)}px`;
    area.focus();
  }

  /** Escape leaves the edit, or the question whether to delete. */
  #key(event) {
    if (event.key !== "Escape" || event.isComposing) return;
    event.preventDefault();
    this.#closeExtra();
  }

  #remove() {
    const question = h("span", { class: "wb-note" }, "Delete this message and everything after it?");
    const yes = () => {
      this.chat.send({ t: "delete", mid: this.turn.mid });
      this.#closeExtra();
    };
    this.#openExtra(
      h(
        "div",
        { class: "wb-row", role: "group", "aria-label": "Confirm delete" },
        question,
        textButton("Keep message", () => this.#closeExtra(), { text: "Keep" }),
        textButton("Confirm delete", yes, { text: "Delete", class: "wb-danger" }),
      ),
    );
    this.extra.querySelector("button").focus();
  }

  #openExtra(...children) {
    this.extra.replaceChildren(...children);
    this.el.classList.add("wb-has-inline");
  }

  #closeExtra() {
    this.extra.replaceChildren();
    this.el.classList.remove("wb-has-inline");
    this.bubble.hidden = this.turn.text === "";
    this.el.focus({ preventScroll: true });
  }

  close() {}
}

/** Chips of what went with a question. */
function chipsOf(turn) {
  const images = Array.isArray(turn.images) ? turn.images.length : (turn.images ?? 0);
  const chips = (turn.attachments ?? []).map((item) =>
    h(
      "span",
      { class: "wb-chip" },
      icon(item.kind === "image" ? "image" : "file"),
      h("span", {}, visible(item.name)),
      item.bytes ? h("small", {}, bytes(item.bytes)) : null,
    ),
  );
  const named = (turn.attachments ?? []).filter((item) => item.kind === "image").length;
  if (images > named)
    chips.push(h("span", { class: "wb-chip" }, icon("image"), images === 1 ? "1 image" : `${images} images`));
  return chips;
}

/** What a tool gave back. */
export class ToolTurn {
  constructor() {
    this.name = h("span", { class: "wb-tool-name" });
    this.text = h("pre", { class: "wb-json", tabindex: "0", "aria-label": "Result" });
    this.el = h(
      "article",
      { class: "wb-turn wb-tool-turn", tabindex: "-1", "aria-label": "Tool result" },
      h("details", { class: "wb-tool" }, h("summary", {}, icon("tool"), "Result of ", this.name), this.text),
    );
  }

  update(turn) {
    setText(this.name, visible(turn.name ?? "tool"));
    setText(this.text, visible(turn.text ?? ""));
  }

  close() {}
}
