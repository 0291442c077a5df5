/** The head of the panel: what is in memory, search, and the doors to the drawers. */
import { memory } from "../text.js";
import { h, icon, iconButton, setText } from "../view/dom.js";
import { isResident } from "./row.js";

/** The bar at the top. */
export class Head {
  constructor(panel) {
    this.panel = panel;
    this.summary = h("span", { class: "wbm-summary" });
    this.search = h("input", {
      class: "wb-field",
      type: "search",
      "aria-label": "Search models",
      placeholder: "Search",
      on: { input: () => this.#filter() },
    });
    this.all = this.#choice("all");
    this.loaded = this.#choice("memory");
    this.get = h(
      "button",
      { type: "button", class: "wb-tb wbm-get", "aria-label": "Get a model", on: { click: () => panel.open(panel.get) } },
      icon("plus"),
      h("span", {}, "Get a model"),
    );
    this.gear = panel.settings.door(iconButton("sliders", "Settings", () => panel.open(panel.settings)));
    panel.get.door(this.get);
    this.el = h(
      "header",
      { class: "wbm-head" },
      h("div", { class: "wbm-title-box" }, h("h2", { class: "wbm-title" }, "Models"), this.summary),
      h("div", { class: "wb-search wbm-search" }, icon("search"), this.search),
      h("div", { class: "wbm-choices", role: "group", "aria-label": "Show" }, this.all, this.loaded),
      this.get,
      this.gear,
    );
    this.#mark();
  }

  #choice(value) {
    return h("button", { type: "button", class: "wbm-choice", on: { click: () => this.#choose(value) } });
  }

  #choose(value) {
    this.panel.list.only = value;
    this.#mark();
    this.panel.list.filter();
  }

  #mark() {
    const only = this.panel.list.only;
    this.all.setAttribute("aria-pressed", String(only === "all"));
    this.loaded.setAttribute("aria-pressed", String(only !== "all"));
  }

  #filter() {
    this.panel.list.query = this.search.value.trim();
    this.panel.list.filter();
  }

  /** Empty the search. */
  clear() {
    if (!this.search.value) return;
    this.search.value = "";
    this.#filter();
  }

  update(picture) {
    const rows = Object.values(picture.rows);
    const resident = rows.filter(isResident);
    setText(this.all, `All ${rows.length}`);
    setText(this.loaded, `In memory ${resident.length}`);
    const held = resident.reduce((sum, row) => sum + (row.size_loaded ?? 0), 0);
    setText(this.summary, held ? `${memory(held)} in use` : rows.length ? "nothing is in memory" : "");
  }
}
