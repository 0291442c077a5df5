/** The head of the chat: its title, the model that answers, and the doors to the drawers. */
import { stateWord } from "../states.js";
import { h, icon, iconButton, setText, show } from "./dom.js";
import { Menu, menuItem } from "./menu.js";
import { modelItem } from "./modelitem.js";

const FORMATS = [
  ["markdown", "Markdown (.md)"],
  ["notebook", "Notebook (.ipynb)"],
  ["json", "JSON (.json)"],
  ["jsonl", "JSON Lines (.jsonl)"],
];

/** The bar at the top. */
export class Header {
  constructor(chat) {
    this.chat = chat;
    this.title = h("h1", { class: "wb-title" });
    this.saved = h(
      "span",
      { class: "wb-badge", hidden: true, title: "This conversation is kept in memory only." },
      "not saved",
    );
    this.readOnly = h(
      "span",
      { class: "wb-badge", hidden: true, title: "Another notebook writes this conversation." },
      "read only",
    );
    this.models = this.#modelMenu();
    this.exports = new Menu(
      iconButton("download", "Export conversation", () => {}),
      {
        label: "Export as",
        fill: () => FORMATS.map(([fmt, label]) => menuItem(label, () => this.#export(fmt))),
      },
    );
    this.el = h(
      "header",
      { class: "wb-head" },
      chat.chats.door(iconButton("menu", "Conversations", () => chat.chats.toggle(), { class: "wb-open-chats" })),
      h("div", { class: "wb-title-box" }, this.title, this.saved, this.readOnly),
      this.models.el,
      h(
        "div",
        { class: "wb-head-tools" },
        iconButton("plus", "New conversation", () => chat.send({ t: "new" })),
        this.exports.el,
        chat.params.door(iconButton("sliders", "System prompt and parameters", () => chat.params.toggle())),
      ),
    );
  }

  #modelMenu() {
    this.dot = h("span", { class: "wb-dot" });
    this.name = h("span", { class: "wb-model-name" });
    this.word = h("span", { class: "wb-model-state" });
    this.toy = h("span", { class: "wb-badge", hidden: true }, "toy");
    const button = h(
      "button",
      { type: "button", class: "wb-model", "aria-label": "Model" },
      this.dot,
      this.name,
      this.toy,
      this.word,
      icon("chevron"),
    );
    return new Menu(button, { label: "Models", role: "listbox", fill: () => this.#modelItems() });
  }

  #modelItems() {
    const { models = [], model } = this.chat.state ?? {};
    if (!models.length) return [h("p", { class: "wb-empty" }, "No model found. Is the server running?")];
    return models.map((row) => modelItem(row, row.name === model?.name, () => this.#choose(row.name)));
  }

  #choose(name) {
    this.models.hide();
    this.chat.send({ t: "model", name });
    setText(this.name, name);
    setText(this.word, "choosing");
    this.chat.composer.focus();
  }

  #export(fmt) {
    this.exports.hide();
    this.chat.send({ t: "export", fmt });
  }

  update(state) {
    this.models.refresh();
    setText(this.title, state.conv.title || "New conversation");
    this.title.title = state.conv.title || "";
    show(this.saved, state.conv.saved === false);
    show(this.readOnly, Boolean(state.conv.read_only));
    const model = state.model;
    const [word, kind] = model ? stateWord(model.state) : ["choose one", "cold"];
    setText(this.name, model?.name ?? "No model");
    setText(this.word, word);
    this.dot.dataset.kind = kind;
    show(this.toy, Boolean(model?.toy));
    this.models.button.title = model
      ? [`${model.name}: ${word}`, model.reason].filter(Boolean).join("\n")
      : "Choose a model";
  }

  closeMenus() {
    return this.models.hide() || this.exports.hide();
  }

  disable() {
    for (const button of this.el.querySelectorAll("button")) button.disabled = true;
  }

  close() {
    this.models.close();
    this.exports.close();
  }
}
