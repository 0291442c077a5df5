/** The head: the models with their states, and the doors to everything else. */
import { stateWord } from "../states.js";
import { visible } from "../text.js";
import { h, icon, iconButton, setText, show, textButton } from "../view/dom.js";
import { Menu, menuItem } from "../view/menu.js";
import { modelItem } from "../view/modelitem.js";

const FORMATS = [
  ["markdown", "Markdown (.md)"],
  ["notebook", "Notebook cells (.ipynb)"],
  ["json", "JSON (.json)"],
];

/** The bar at the top. */
export class Header {
  /** @param {import("./panel.js").CompareView} panel */
  constructor(panel) {
    this.panel = panel;
    this.chips = [];
    this.sides = h("div", { class: "wbc-sides", role: "group", "aria-label": "Models" });
    const open = h("button", { type: "button", class: "wb-tb wbc-add", "aria-label": "Add a model" }, "+ Model");
    this.add = new Menu(open, { label: "Models to add", role: "listbox", fill: () => this.#items(null, (name) => this.#added(name)) });
    this.blind = textButton("Blind", () => panel.send({ t: "setup", blind: !panel.state?.setup.blind }), {
      class: "wbc-toggle wbc-blind",
      "aria-pressed": "false",
      title: "Hide names, order and speed until the vote",
    });
    this.exports = new Menu(iconButton("download", "Export comparison", () => {}), {
      label: "Export as",
      fill: () => FORMATS.map(([fmt, label]) => menuItem(label, () => this.#export(fmt))),
    });
    this.rank = panel.ranking.door(textButton("Ranking", () => panel.open(panel.ranking), { class: "wbc-rank-open" }));
    this.el = h(
      "header",
      { class: "wb-head wbc-head" },
      h("h1", { class: "wb-title wbc-title" }, "Compare"),
      this.sides,
      this.add.el,
      h("div", { class: "wb-head-tools" }, this.blind, this.rank, this.exports.el, panel.setup.door(iconButton("sliders", "Settings", () => panel.open(panel.setup)))),
    );
  }

  #items(chosen, onChoose) {
    const { models = [] } = this.panel.state ?? {};
    if (!models.length) return [h("p", { class: "wb-empty" }, "No model found. Is the server running?")];
    return models.map((row) => modelItem(row, row.name === chosen, () => onChoose(row.name)));
  }

  #given() {
    return this.panel.state.setup.sides;
  }

  #added(name) {
    this.add.hide();
    this.panel.setSides([...this.#given(), { model: name, name }]);
  }

  #replaced(place, name) {
    this.chips[place].menu.hide();
    // A name that is not the model's own is a person's: it stays.
    this.panel.setSides(this.#given().map((side, at) => (at === place ? { ...side, model: name, name } : side)));
  }

  #removed(place) {
    this.panel.setSides(this.#given().filter((_, at) => at !== place));
  }

  #export(fmt) {
    this.exports.hide();
    this.panel.send({ t: "export", fmt });
  }

  #chip(place) {
    const chip = { dot: h("span", { class: "wb-dot" }), name: h("span", { class: "wb-model-name" }), word: h("span", { class: "wb-model-state" }) };
    const button = h("button", { type: "button", class: "wb-model" }, chip.dot, chip.name, chip.word, icon("chevron"));
    chip.button = button;
    chip.menu = new Menu(button, {
      label: "Models",
      role: "listbox",
      fill: () => this.#items(this.#given()[place]?.model, (name) => this.#replaced(place, name)),
    });
    const { side } = this.panel;
    chip.adjust = side.door(iconButton("sliders", "Parameters", () => side.openFor(place), { class: "wb-write" }), () => side.place === place);
    chip.remove = iconButton("close", "Remove", () => this.#removed(place), { class: "wb-write" });
    chip.el = h("div", { class: "wbc-chip", role: "group" }, chip.menu.el, chip.adjust, chip.remove);
    return chip;
  }

  update({ setup, models, busy, prompts }) {
    for (const menu of [this.add, ...this.chips.map((chip) => chip.menu)]) menu.refresh();
    while (this.chips.length > setup.sides.length) this.#drop(this.chips.pop());
    while (this.chips.length < setup.sides.length) {
      this.chips.push(this.#chip(this.chips.length));
      this.sides.append(this.chips.at(-1).el);
    }
    setup.sides.forEach((side, place) => this.#drawChip(this.chips[place], side, models, setup.sides.length > 1));
    this.blind.setAttribute("aria-pressed", String(setup.blind));
    for (const button of this.el.querySelectorAll(".wbc-chip button, .wbc-add")) button.disabled = Boolean(busy) || this.panel.link.gone;
    this.exports.button.disabled = prompts.length === 0;
  }

  #drawChip(chip, side, models, many) {
    const row = models.find((one) => one.name === side.model) ?? models.find((one) => one.name === side.model.replace(/:latest$/, "").split("@")[0]);
    const [word, kind] = row ? stateWord(row.state) : [models.length ? "not installed" : "", "cold"];
    const adjusted = Object.keys(side.params).length + (side.system ? 1 : 0) + (side.think === null ? 0 : 1);
    const name = visible(side.name);
    setText(chip.name, name);
    // One line above says that they are hidden; the word on each chip would crowd the head.
    const shown = row?.state === "hidden" ? "" : word;
    setText(chip.word, [shown, row?.toy && "toy"].filter(Boolean).join(" · "));
    chip.dot.dataset.kind = kind;
    chip.button.setAttribute("aria-label", `Model ${name}: ${word || "state unknown"}`);
    chip.button.title = `${visible(side.model)}: ${word}`;
    chip.el.setAttribute("aria-label", name);
    chip.adjust.setAttribute("aria-label", `Parameters of ${name}`);
    chip.adjust.title = adjusted ? `Parameters of ${name}: ${adjusted} set` : `Parameters of ${name}`;
    chip.adjust.classList.toggle("wbc-adjusted", adjusted > 0);
    chip.remove.setAttribute("aria-label", `Remove ${name}`);
    chip.remove.title = `Remove ${name}`;
    show(chip.remove, many);
  }

  #drop(chip) {
    chip.menu.close();
    this.panel.side.doors.delete(chip.adjust);
    const inside = chip.el.contains(document.activeElement);
    chip.el.remove();
    // Who removes a model by keyboard goes on where it stood.
    if (inside) (this.chips.at(-1)?.button ?? this.add.button).focus();
  }

  closeMenus() {
    return [this.add, this.exports, ...this.chips.map((chip) => chip.menu)].some((menu) => menu.hide());
  }

  disable() {
    for (const button of this.el.querySelectorAll("button")) button.disabled = true;
  }

  close() {
    for (const menu of [this.add, this.exports, ...this.chips.map((chip) => chip.menu)]) menu.close();
  }
}
