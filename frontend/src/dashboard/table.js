/** The requests, a page at a time; each row opens its detail. */
import { count, visible } from "../text.js";
import { h, iconButton, setText, show } from "../view/dom.js";
import { moment, number, rate, statusOf, time } from "./words.js";

const COLUMNS = [
  { key: "ts", label: "Time (UTC)", show: (row) => moment(row.ts) },
  { key: "model", label: "Model" },
  { key: "status", label: "Status" },
  { key: "duration_s", label: "Duration", show: (row) => time(row.duration_s), figure: true },
  { key: "ttft_s", label: "First token", show: (row) => time(row.ttft_s), figure: true },
  { key: "load_s", label: "Load", show: (row) => (row.load_s ? time(row.load_s) : "–"), figure: true },
  { key: "input_tokens", label: "Input", show: (row) => number(row.input_tokens), figure: true },
  { key: "output_tokens", label: "Output", show: (row) => number(row.output_tokens), figure: true },
  { key: "tokens_per_s", label: "Tokens/s", show: (row) => rate(row.tokens_per_s), figure: true },
  { key: "client", label: "Client", show: (row) => visible(row.client ?? "–") },
];

/** The list. */
export class Requests {
  constructor(panel) {
    this.panel = panel;
    this.heads = COLUMNS.map((column) => this.#head(column));
    this.body = h("tbody", {});
    this.range = h("span", { class: "wbd-hint" });
    this.back = iconButton("left", "Previous page", () => this.#turn(-1));
    this.on = iconButton("right", "Next page", () => this.#turn(1));
    this.none = h("p", { class: "wbd-none" }, "No request matches the filters.");
    this.table = h("table", { class: "wbd-table", "aria-label": "Requests" }, h("thead", {}, h("tr", {}, ...this.heads)), this.body);
    this.el = h(
      "section",
      { class: "wbd-requests" },
      h("div", { class: "wbd-requests-head" }, h("h3", {}, "Requests"), this.range, this.back, this.on),
      h("div", { class: "wbd-scroll" }, this.table),
      this.none,
    );
    this.body.addEventListener("click", (event) => this.#open(event.target.closest("tr")));
    this.body.addEventListener("keydown", (event) => this.#key(event));
  }

  #head({ key, label, figure }) {
    const arrow = h("span", { class: "wbd-arrow", "aria-hidden": "true" });
    const button = h("button", { type: "button", "aria-label": `Order by ${label.toLowerCase()}`, on: { click: () => this.#order(key) } }, label, arrow);
    return h("th", { scope: "col", class: `wbd-c-${key} ${figure ? "wbd-figure" : ""}` }, button);
  }

  #order(key) {
    const { by, desc } = this.shown ?? { by: "ts", desc: true };
    this.panel.send({ t: "page", by: key, desc: by === key ? !desc : true, offset: 0 });
  }

  #turn(step) {
    this.panel.send({ t: "page", offset: Math.max(0, this.shown.offset + step * this.shown.page) });
  }

  #open(row) {
    if (row) this.panel.detail.open(row.dataset.id, row);
  }

  #key(event) {
    const row = event.target.closest("tr");
    if (!row || event.altKey || event.ctrlKey || event.metaKey) return;
    const rows = [...this.body.rows];
    const at = rows.indexOf(row);
    const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: rows.length - 1 }[event.key];
    if (next !== undefined) this.#focus(rows[Math.min(Math.max(next, 0), rows.length - 1)]);
    else if (event.key === "Enter" || event.key === " ") this.#open(row);
    else return;
    event.preventDefault();
  }

  #focus(row) {
    for (const other of this.body.rows) other.tabIndex = other === row ? 0 : -1;
    row.focus();
    row.scrollIntoView({ block: "nearest" });
  }

  update({ table, headline }) {
    if (!table) return;
    const moved = this.shown && (table.offset !== this.shown.offset || table.by !== this.shown.by || table.desc !== this.shown.desc);
    this.shown = table;
    COLUMNS.forEach(({ key }, index) => {
      const on = table.by === key;
      const head = this.heads[index];
      if (on) head.setAttribute("aria-sort", table.desc ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
      setText(head.querySelector(".wbd-arrow"), on ? (table.desc ? "↓" : "↑") : "");
    });
    this.#rows(table.rows);
    const total = headline?.now.requests ?? 0;
    const last = table.offset + table.rows.length;
    setText(this.range, table.rows.length ? `${count(table.offset + 1)}–${count(last)} of ${count(Math.max(total, last))}` : "");
    this.back.disabled = table.offset === 0;
    this.on.disabled = table.rows.length < table.page;
    show(this.none, table.rows.length === 0);
    show(this.table, table.rows.length > 0);
    if (moved) this.el.scrollIntoView({ block: "nearest" });
  }

  /** Keep rows that are there: a person may be reading them, or stand on one. */
  #rows(rows) {
    const focused = this.body.contains(document.activeElement) ? document.activeElement.dataset.id : null;
    const old = new Map([...this.body.rows].map((row) => [row.dataset.id, row]));
    const made = rows.map((row) => {
      const kept = old.get(row.id);
      const state = JSON.stringify(row);
      if (kept?.dataset.state === state) return kept;
      const tr = this.#row(row);
      tr.dataset.state = state;
      return tr;
    });
    this.body.replaceChildren(...made);
    const at = made.findIndex((row) => row.dataset.id === focused);
    made.forEach((row, index) => (row.tabIndex = index === Math.max(at, 0) ? 0 : -1));
    if (at >= 0) made[at].focus({ preventScroll: true });
    this.mark(this.panel.detail.wanted);
  }

  #row(row) {
    const cells = COLUMNS.map(({ key, show: text, figure }) =>
      h("td", { class: `wbd-c-${key} ${figure ? "wbd-figure" : ""}` }, ...(key === "model" ? model(row) : key === "status" ? status(row) : [text(row)])),
    );
    return h("tr", { "data-id": row.id, "aria-label": `${visible(row.model ?? "unknown model")}, ${statusOf(row.status).word}, ${moment(row.ts)}` }, ...cells);
  }

  /** Show which row's detail is open. */
  mark(id) {
    for (const row of this.body.rows) row.classList.toggle("wbd-open", row.dataset.id === id);
  }
}

/** A model's colour and name. */
export function model(row) {
  const swatch = h("span", { class: "wbd-swatch", "aria-hidden": "true", "data-pattern": row.pattern });
  swatch.style.setProperty("--wbd-c", row.color);
  return [swatch, h("span", { class: "wbd-name" }, visible(row.model ?? "unknown model"))];
}

function status(row) {
  const { word, kind } = statusOf(row.status);
  const reason = row.error_type && row.status !== "ok" ? visible(row.error_type) : "";
  return [h("span", { class: "wb-dot", "data-kind": kind, "aria-hidden": "true" }), h("span", { class: "wbd-word", title: reason || null }, word)];
}
