/** The head of the panel: the title, how turns are laid out, and the doors to the drawers. */
import { h, iconButton, setText, show } from "../view/dom.js";
import { Menu, menuItem } from "../view/menu.js";

const FORMATS = [
  ["markdown", "Markdown (.md)"],
  ["notebook", "Notebook (.ipynb)"],
  ["json", "JSON (.json)"],
];

/** The bar at the top. */
export class Header {
  /** @param {import("./panel.js").DialogueView} panel */
  constructor(panel) {
    this.panel = panel;
    this.title = h("h1", { class: "wb-title" });
    this.saved = h("span", { class: "wb-badge", hidden: true, title: "This dialogue is kept in memory only." }, "not saved");
    this.readOnly = h("span", { class: "wb-badge", hidden: true, title: "Another kernel writes this dialogue." }, "read only");
    this.layouts = ["thread", "lanes"].map((layout) => iconButton(layout, layout === "thread" ? "One thread" : "A lane for each", () => panel.send({ t: "layout", layout }), { class: "wb-layout" }));
    this.layoutGroup = h("div", { class: "wb-head-tools wb-layouts", role: "group", "aria-label": "Layout" }, ...this.layouts);
    this.exports = new Menu(
      iconButton("download", "Export transcript", () => {}),
      {
        label: "Export as",
        fill: () => [
          ...FORMATS.map(([fmt, label]) => menuItem(label, () => this.#export(fmt))),
          menuItem("A cell of this notebook", () => this.#insert()),
        ],
      },
    );
    this.el = h(
      "header",
      { class: "wb-head" },
      panel.stored.door(iconButton("menu", "Dialogues", () => panel.stored.toggle())),
      h("div", { class: "wb-title-box" }, this.title, this.saved, this.readOnly),
      this.layoutGroup,
      h("div", { class: "wb-head-tools" }, iconButton("plus", "New dialogue", () => panel.send({ t: "new" })), this.exports.el),
    );
  }

  #export(fmt) {
    this.exports.hide();
    this.panel.send({ t: "export", fmt });
  }

  #insert() {
    this.exports.hide();
    this.panel.insert("opening");
  }

  update(state) {
    setText(this.title, state.conv.title || "New dialogue");
    this.title.title = state.conv.title || "";
    show(this.saved, state.conv.saved === false);
    show(this.readOnly, Boolean(state.conv.read_only));
    const begun = Boolean(state.run);
    show(this.layoutGroup, begun && state.lanes.length > 1 && state.lanes.length <= 4);
    this.exports.button.disabled = !begun;
    ["thread", "lanes"].forEach((layout, at) => this.layouts[at].setAttribute("aria-pressed", String(state.layout === layout)));
  }

  closeMenus() {
    return this.exports.hide();
  }

  disable() {
    for (const button of this.el.querySelectorAll("button")) button.disabled = true;
  }

  close() {
    this.exports.close();
  }
}
