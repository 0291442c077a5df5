/** The drawer of dialogues that are on disk. */
import { ago, visible } from "../text.js";
import { h, icon, textButton } from "../view/dom.js";
import { Drawer } from "../view/drawer.js";

const SEARCH_MS = 200;

/** The drawer. */
export class StoredDrawer extends Drawer {
  /** @param {import("./panel.js").DialogueView} panel */
  constructor(panel) {
    super("left", "Dialogues");
    this.panel = panel;
    this.search = h("input", {
      class: "wb-field",
      type: "search",
      "aria-label": "Search dialogues",
      placeholder: "Search",
      on: { input: () => this.#searchSoon() },
    });
    this.list = h("ul", { class: "wb-chats" });
    this.body.append(
      h("div", { class: "wb-search" }, icon("search"), this.search),
      textButton("Set up a new dialogue", () => this.#new()),
      this.list,
    );
  }

  show() {
    super.show();
    this.#ask();
  }

  #ask() {
    this.panel.send({ t: "stored", query: this.search.value.trim() });
  }

  #searchSoon() {
    clearTimeout(this.timer);
    this.timer = setTimeout(() => this.#ask(), SEARCH_MS);
  }

  #new() {
    this.panel.send({ t: "new" });
    this.hide();
  }

  /** Take the list the kernel sent; an answer to an older search is dropped. */
  take(event) {
    if ((event.query ?? "") !== this.search.value.trim()) return;
    const none = this.search.value ? "Nothing found." : "No dialogue is saved yet.";
    const rows = event.items.map((item) => this.#row(item));
    this.list.replaceChildren(...(rows.length ? rows : [h("li", { class: "wb-empty" }, none)]));
  }

  #row(item) {
    const title = visible(item.title);
    const facts = [ago(item.updated_at), `${item.turns} ${item.turns === 1 ? "turn" : "turns"}`, item.who.join(", ")];
    const current = item.id === this.panel.state?.conv.cid;
    const open = h(
      "button",
      { type: "button", class: "wb-chat-open", "aria-label": `Open ${title}`, on: { click: () => this.#open(item) } },
      h("span", { class: "wb-chat-title" }, title),
      h("small", {}, visible(facts.filter(Boolean).join(" · "))),
    );
    return h("li", { class: "wb-chat", "aria-current": current ? "true" : null }, open);
  }

  #open(item) {
    this.panel.send({ t: "open", id: item.id });
    this.hide();
  }
}
