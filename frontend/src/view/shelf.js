/** The drawer of what is on disk: search, open, rename, delete, begin anew. */
import { ago, visible } from "../text.js";
import { h, icon, iconButton, textButton } from "./dom.js";
import { Drawer } from "./drawer.js";

const SEARCH_MS = 200;

/**
 * What stands on the shelf, such as conversations; a panel says what differs.
 * @typedef {object} Kind
 * @property {string} title Of the drawer.
 * @property {string} one One of them, in lower case: `conversation`.
 * @property {string} begin The label of the button that begins anew.
 * @property {string} list The message that asks for the list.
 * @property {string} id The field with the id, in items and messages.
 * @property {(item: object) => (string|null)[]} facts What stands below a title.
 */

/** The drawer. */
export class Shelf extends Drawer {
  /**
   * @param {{send: (message: object) => unknown}} panel
   * @param {Kind} kind
   */
  constructor(panel, kind) {
    super("left", kind.title);
    this.panel = panel;
    this.kind = kind;
    this.search = h("input", {
      class: "wb-field",
      type: "search",
      "aria-label": `Search ${kind.one}s`,
      placeholder: "Search",
      on: { input: () => this.#searchSoon() },
    });
    this.list = h("ul", { class: "wb-chats" });
    this.body.append(
      h("div", { class: "wb-search" }, icon("search"), this.search),
      textButton(kind.begin, () => this.begin()),
      this.list,
    );
  }

  show() {
    super.show();
    this.#ask();
  }

  #ask() {
    this.panel.send({ t: this.kind.list, query: this.search.value.trim() });
  }

  #searchSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#ask(), SEARCH_MS);
  }

  /** Begin anew. */
  begin() {
    this.panel.send({ t: "new" });
    this.hide();
  }

  update(state) {
    if (this.cid === state.conv.cid && this.title === state.conv.title) return;
    this.cid = state.conv.cid;
    this.title = state.conv.title;
    if (this.open) this.#ask();
  }

  /** Take the list the kernel sent; an answer to an older search is dropped. */
  take(event) {
    if ((event.query ?? "") !== this.search.value.trim()) return;
    const items = event.items ?? [];
    const focused = this.list.contains(document.activeElement) ? document.activeElement : null;
    // A title that is being typed is not thrown away; saving it asks for the list again.
    if (focused?.matches("input")) return;
    const name = focused?.getAttribute("aria-label");
    this.list.replaceChildren(...items.map((item) => this.#row(item)));
    if (!items.length)
      this.list.append(h("li", { class: "wb-empty" }, this.search.value ? "Nothing found." : `No ${this.kind.one} is saved yet.`));
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

  /** Send what is to be done with an item; the search stays. */
  #send(t, item, more) {
    const { id } = this.kind;
    this.panel.send({ t, [id]: item[id], query: this.search.value.trim(), ...more });
  }

  #row(item) {
    const title = visible(item.title || "Untitled");
    const facts = [ago(item.updated_at), ...this.kind.facts(item)].filter(Boolean).join(" · ");
    const row = h("li", { class: "wb-chat", "aria-current": item[this.kind.id] === this.cid ? "true" : null });
    row.append(
      h(
        "button",
        { type: "button", class: "wb-chat-open", "aria-label": `Open ${title}`, on: { click: () => this.#open(item) } },
        h("span", { class: "wb-chat-title" }, title),
        h("small", {}, visible(facts)),
      ),
      iconButton("edit", `Rename ${title}`, () => this.#rename(row, item)),
      iconButton("trash", `Delete ${title}`, () => this.#delete(row, item)),
    );
    return row;
  }

  #open(item) {
    this.#send("open", item);
    this.hide();
  }

  #rename(row, item) {
    const input = h("input", { class: "wb-field", "aria-label": "New title", value: item.title ?? "" });
    const done = () => {
      const title = input.value.trim();
      if (title) this.#send("rename", item, { title });
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
      this.#send("remove", item);
      const next = row.nextElementSibling ?? row.previousElementSibling;
      row.remove();
      this.#focus(() => true, next);
    };
    row.replaceChildren(
      h("span", { class: "wb-note" }, `Delete “${visible(item.title || "Untitled")}” for good?`),
      textButton(`Keep ${this.kind.one}`, () => this.#back(row, item, "Delete"), { text: "Keep" }),
      textButton("Confirm delete", yes, { text: "Delete", class: "wb-danger" }),
    );
    row.querySelector("button").focus();
  }
}

/** `1 turn`, `4 turns`. */
export function turnsOf({ turns }) {
  return turns ? `${turns} ${turns === 1 ? "turn" : "turns"}` : null;
}
