/** Previews of what steps gave: text, JSON, tables, and figures by the page's one plotly.js. */
import { onTheme, themed } from "../dashboard/theme.js";
import { bytes, count, visible } from "../text.js";
import { copyText, flash, h, iconButton } from "../view/dom.js";

const CONFIG = { displayModeBar: false, displaylogo: false, responsive: false, scrollZoom: false };
const FIGURE_PX = 300;

/** Draws the figures of what is shown now. */
export class Figures {
  constructor(panel) {
    this.panel = panel;
    this.seats = new Map();
  }

  /** Make the place of a figure; `draw` fills it once it stands in the page. */
  seat(figure) {
    const title = typeof figure.layout.title === "string" ? figure.layout.title : (figure.layout.title?.text ?? "");
    const seat = h("div", { class: "wbr-seat", role: "img", "aria-label": visible(title || "A chart") });
    this.seats.set(seat, figure);
    return h("figure", { class: "wbr-chart" }, title ? h("figcaption", {}, visible(title)) : null, seat);
  }

  draw() {
    if (!this.seats.size) return;
    this.endTheme ??= onTheme(() => this.#drawAll());
    this.panel.library.when(() => this.#drawAll());
  }

  #drawAll() {
    const plotly = this.panel.library.module;
    for (const [seat, { data, layout }] of this.seats) {
      const width = seat.clientWidth;
      if (!width || !seat.isConnected || !plotly) continue;
      // Plotly writes into what it is given.
      const made = themed({ ...structuredClone(layout), height: FIGURE_PX }, this.panel.root, width);
      made.margin = { l: 52, b: 46, r: 14, ...layout.margin, t: 14 };
      delete made.template;
      made.paper_bgcolor = made.plot_bgcolor = "rgba(0,0,0,0)";
      plotly.react(seat, structuredClone(data), made, CONFIG);
      seat.dataset.drawn = "true";
    }
  }

  clear() {
    for (const seat of this.seats.keys()) this.panel.library.module?.purge(seat);
    this.seats.clear();
    this.endTheme?.();
    this.endTheme = null;
  }
}

/** Bytes as text, or nothing. */
export function size(value) {
  return value === null || value === undefined ? null : bytes(value);
}

/**
 * Return an element for a preview.
 * @param {object} shown What the kernel made of a value.
 * @param {Figures} figures
 */
export function preview(shown, figures) {
  const makers = {
    figure: () => figures.seat(shown.figure),
    table: () => table(shown),
    text: () => text(shown),
    json: () => text(shown, "wbr-json"),
    long: () => place(shown, "It is too large to be shown here."),
    gone: () => place(shown, `It cannot be shown: ${shown.text}`),
  };
  return makers[shown.form]?.() ?? h("p", { class: "wbr-hint" }, "This form of output is not known.");
}

function text({ text: value, cut }, style = "") {
  const copy = iconButton("copy", "Copy the text", async () => (await copyText(value)) && flash(copy, "check", "Copied"), { class: "wbr-copy" });
  return h("div", { class: "wbr-preview" }, h("pre", { class: `wbr-text ${style}`, tabindex: "0" }, visible(value)), copy, cut ? h("p", { class: "wbr-hint" }, `${count(cut)} more characters are left out.`) : null);
}

function place({ path }, words) {
  return h("div", {}, h("p", { class: "wbr-hint" }, visible(words)), path ? h("code", { class: "wbr-path" }, visible(path)) : null);
}

function table({ columns, cells, of, rows, hidden }) {
  const whole = of ?? rows ?? cells.length;
  const more = [whole > cells.length ? `${count(cells.length)} of ${count(whole)} rows` : "", hidden ? `${count(hidden)} more columns` : ""].filter(Boolean).join(", ");
  const cell = (value) => {
    const figure = typeof value === "number";
    const shown = value === null ? "–" : figure ? number(value) : visible(value);
    return h("td", { class: figure ? "wbr-figure" : "", title: shown.length > 24 ? shown : null }, shown);
  };
  return h(
    "div",
    {},
    h(
      "div",
      { class: "wbr-scroll", tabindex: "0", role: "group", "aria-label": "Rows" },
      h("table", { class: "wbr-table" }, h("thead", {}, h("tr", {}, ...columns.map((name) => h("th", { scope: "col" }, visible(name))))), h("tbody", {}, ...cells.map((row) => h("tr", {}, ...row.map(cell))))),
    ),
    more ? h("p", { class: "wbr-hint" }, more) : null,
  );
}

function number(value) {
  return Number.isInteger(value) ? String(value) : String(Number(value.toPrecision(6)));
}
