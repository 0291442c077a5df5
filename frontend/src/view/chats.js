/** The drawer of conversations: search, open, rename, delete, begin anew. */
import { ago, visible } from "../text.js";
import { h, icon, iconButton, textButton } from "./dom.js";
import { Drawer } from "./drawer.js";

const SEARCH_MS = 200;

/** The drawer. */
export class ChatsDrawer extends Drawer {
  constructor(chat) {
    super("left", "Conversations");
    this.chat = chat;
    this.items = [];
    this.search = h("input", {
      class: "wb-field",
      type: "search",
      "aria-label": "Search conversations",
      placeholder: "Search",
      on: { input: () => this.#searchSoon() },
    });
    this.list = h("ul", { class: "wb-chats" });
    this.body.append(
      h("div", { class: "wb-search" }, icon("search"), this.search),
      textButton("Begin a new conversation", () => this.#new(), { class: "wb-new" }),
      this.list,
    );
  }

  show() {
    super.show();
    this.#ask();
  }

  #ask() {
    this.chat.send({ t: "chats", query: this.search.value.trim() });
  }

  #searchSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#ask(), SEARCH_MS);
  }

  #new() {
    this.chat.send({ t: "new" });
    this.hide();
    this.chat.composer.focus();
  }

  update(state) {
    if (this.cid === state.conv.cid && this.title === state.conv.title) return;
    this.cid = state.conv.cid;
    this.title = state.conv.title;
    if (this.open) this.#ask();
  }

  /** Take the list the kernel sent; an answer to an older search is dropped. */
  take(event) {
    if ((event.query ?? "") !== this.search.value.trim() && event.query) return;
    this.items = event.items ?? [];
    if (!this.items.length) {
      this.list.replaceChildren(
        h(
          "li",
          { class: "wb-empty" },
          this.search.value ? "Nothing found." : "No conversation is saved yet.",
        ),
      );
      return;
    }
    const focused = this.list.contains(document.activeElement) ? document.activeElement : null;
    const name = focused?.getAttribute("aria-label");
    this.list.replaceChildren(...this.items.map((item) => this.#row(item)));
    if (focused) this.#focus((el) => el.getAttribute("aria-label") === name);
  }

  /** Focus a control of the list, else the search: what is gone must not take the focus with it. */
  #focus(wanted, root = this.list) {
    const controls = [...(root?.querySelectorAll("button, input") ?? [])];
    (controls.find(wanted) ?? this.search).focus();
  }

  /** Draw a row as it was before it asked something, with the focus where it came from. */
  #back(row, item, door) {
    const plain = this.#row(item);
    row.replaceWith(plain);
    this.#focus((el) => el.getAttribute("aria-label").startsWith(door), plain);
  }

  #row(item) {
    const title = visible(item.title || "Untitled");
    const row = h("li", { class: "wb-chat", "aria-current": item.cid === this.cid ? "true" : null });
    const open = h(
      "button",
      {
        type: "button",
        class: "wb-chat-open",
        "aria-label": `Open ${title}`,
        on: { click: () => this.#open(item) },
      },
      h("span", { class: "wb-chat-title" }, title),
      h(
        "small",
        {},
        [
          ago(item.updated_at),
          item.turns ? `${item.turns} ${item.turns === 1 ? "turn" : "turns"}` : null,
          item.model,
        ]
          .filter(Boolean)
          .join(" · "),
      ),
    );
    row.append(
      open,
      iconButton("edit", `Rename ${title}`, () => this.#rename(row, item)),
      iconButton("trash", `Delete ${title}`, () => this.#delete(row, item)),
    );
    return row;
  }

  #open(item) {
    this.chat.send({ t: "open", cid: item.cid });
    this.hide();
  }

  #rename(row, item) {
    const input = h("input", { class: "wb-field", "aria-label": "New title", value: item.title ?? "" });
    const done = () => {
      const title = input.value.trim();
      if (title) this.chat.send({ t: "rename", cid: item.cid, title });
      this.#back(row, { ...item, title: title || item.title }, "Rename");
    };
    input.addEventListener("keydown", (event) => {
      if (event.key === "Enter") {
        // Else the same Enter presses the button that has the focus then.
        event.preventDefault();
        done();
      }
      if (event.key === "Escape") {
        event.stopPropagation();
        this.#back(row, item, "Rename");
      }
    });
    row.replaceChildren(input, textButton("Save title", done, { text: "Save" }));
    input.select();
  }

  #delete(row, item) {
    const yes = () => {
      this.chat.send({ t: "remove", cid: item.cid });
      const next = row.nextElementSibling ?? row.previousElementSibling;
      row.remove();
      this.#focus(() => true, next);
    };
    row.replaceChildren(
      h("span", { class: "wb-note" }, `Delete “${visible(item.title || "Untitled")}” for good?`),
      textButton("Keep conversation", () => this.#back(row, item, "Delete"), { text: "Keep" }),
      textButton("Confirm delete", yes, { text: "Delete", class: "wb-danger" }),
    );
    row.querySelector("button").focus();
  }
}
