/** The drawer of the ranking: who wins how often, with intervals, and why a number is missing. */
import { count, visible } from "../text.js";
import { h, setText, show } from "../view/dom.js";
import { Drawer } from "../view/drawer.js";
import { strengthWords, winWords } from "./words.js";

const SCOPES = { here: "Votes of this panel", all: "All votes in the metrics" };

/** The drawer. */
export class RankingDrawer extends Drawer {
  /** @param {import("./panel.js").CompareView} panel */
  constructor(panel) {
    super("right", "Ranking");
    this.el.classList.add("wbc-ranking");
    this.panel = panel;
    this.scope = h("select", { class: "wb-field", "aria-label": "Votes to rank by", on: { change: () => this.#ask(true) } });
    this.none = h("p", { class: "wb-note" });
    this.rows = h("tbody", {});
    this.table = h(
      "table",
      { class: "wbc-rank", "aria-label": "Ranking of models" },
      h("thead", {}, h("tr", {}, ...["", "Model", "Win rate", "Strength"].map((text) => h("th", { scope: "col" }, text)))),
      this.rows,
    );
    this.notes = h("div", { class: "wbc-notes" });
    this.body.append(this.scope, this.none, this.table, this.notes);
  }

  show() {
    super.show();
    this.#ask(true);
  }

  hide() {
    const was = super.hide();
    if (was) this.#ask(false);
    return was;
  }

  #ask(open) {
    this.panel.send({ t: "ranking", open, scope: this.scope.value || "here" });
  }

  update({ ranking, setup, scope }) {
    if (this.scope.options.length !== setup.scopes.length)
      this.scope.replaceChildren(...setup.scopes.map((value) => h("option", { value }, SCOPES[value])));
    if (this.scope !== document.activeElement) this.scope.value = scope;
    show(this.scope, setup.scopes.length > 1);
    const rows = ranking?.rows ?? [];
    show(this.table, rows.length > 0);
    show(this.none, rows.length === 0);
    const nothing = ranking?.waiting ? "No vote is counted yet." : "No votes yet. Judge two answers with the buttons below them.";
    setText(this.none, ranking ? nothing : "Counting …");
    const key = JSON.stringify(ranking);
    if (key === this.key) return;
    this.key = key;
    this.rows.replaceChildren(...rows.flatMap((row) => this.#row(row)));
    this.notes.replaceChildren(...(ranking?.notes ?? []).map((text) => h("p", { class: "wb-note" }, visible(text))));
  }

  #row(row) {
    const cells = h(
      "tr",
      {},
      h("td", {}, String(row.rank)),
      h("th", { scope: "row" }, visible(row.name), h("span", { class: "wbc-record" }, `${count(row.wins)} won, ${count(row.losses)} lost, ${count(row.ties)} tied`)),
      h("td", {}, bar(row), h("span", { class: "wbc-figure" }, winWords(row))),
      h("td", {}, h("span", { class: "wbc-figure" }, strengthWords(row))),
    );
    if (!row.note) return [cells];
    return [cells, h("tr", { class: "wbc-why" }, h("td", {}), h("td", { colspan: "3" }, visible(`${row.note}.`)))];
  }
}

/** A win rate as a bar, its interval as a line over it. */
function bar(row) {
  if (row.win === null) return null;
  const percent = (value) => `${(Math.min(1, Math.max(0, value)) * 100).toFixed(1)}%`;
  const fill = h("span", { class: "wbc-bar-fill" });
  fill.style.width = percent(row.win);
  const range = h("span", { class: "wbc-range" });
  const [low, high] = [row.win_low, row.win_high];
  show(range, low !== null || high !== null);
  range.style.left = percent(low ?? 0);
  range.style.right = `${(100 - Math.min(1, high ?? 1) * 100).toFixed(1)}%`;
  return h("span", { class: "wbc-bar", "aria-hidden": "true" }, fill, range);
}
