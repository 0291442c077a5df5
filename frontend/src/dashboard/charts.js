/** The charts: drawn when they come into view, one at a time, by the page's one plotly.js. */
import { h, setText } from "../view/dom.js";
import { onTheme, themed } from "./theme.js";

const CONFIG = { displayModeBar: false, displaylogo: false, responsive: false, scrollZoom: false };

/** The grid of charts. */
export class Charts {
  constructor(panel) {
    this.panel = panel;
    this.cells = new Map();
    this.waiting = new Set();
    this.drawing = false;
    this.el = h("div", { class: "wbd-charts", role: "group", "aria-label": "Charts" });
    this.sight = new IntersectionObserver((entries) => entries.forEach((entry) => this.#seen(entry)), { rootMargin: "200px" });
    this.size = new ResizeObserver((entries) => entries.forEach(({ target }) => this.#resized(target)));
    this.endTheme = onTheme(() => this.#again());
  }

  /** Take the charts that changed. */
  update(rows, names) {
    for (const name of names) {
      if (rows[name]) this.#put(name, rows[name]);
      else this.#remove(name);
    }
  }

  #put(name, chart) {
    let cell = this.cells.get(name);
    if (!cell) {
      cell = this.#make(name);
      this.cells.set(name, cell);
      const after = [...this.cells.values()].filter((other) => other.chart && other.chart.at < chart.at);
      const last = after.sort((a, b) => a.chart.at - b.chart.at).at(-1);
      if (last) last.el.after(cell.el);
      else this.el.prepend(cell.el);
    }
    cell.chart = chart;
    setText(cell.title, chart.title);
    cell.seat.setAttribute("aria-label", `${chart.title}. ${chart.tells}`);
    this.#ask(cell);
  }

  #make(name) {
    const title = h("h3", {});
    const seat = h("div", { class: "wbd-seat", role: "img" });
    const el = h("figure", { class: "wbd-chart", "data-chart": name }, title, seat);
    const cell = { name, el, title, seat, chart: null, inView: false, dirty: false, width: 0 };
    seat.wbdCell = cell;
    this.sight.observe(seat);
    this.size.observe(seat);
    return cell;
  }

  #remove(name) {
    const cell = this.cells.get(name);
    if (!cell) return;
    this.cells.delete(name);
    this.waiting.delete(cell);
    this.sight.unobserve(cell.seat);
    this.size.unobserve(cell.seat);
    this.panel.library.module?.purge(cell.seat);
    cell.el.remove();
  }

  #seen({ target, isIntersecting }) {
    const cell = target.wbdCell;
    cell.inView = isIntersecting;
    if (isIntersecting && cell.dirty) this.#ask(cell);
  }

  #resized(seat) {
    const cell = seat.wbdCell;
    if (cell.width && Math.abs(seat.clientWidth - cell.width) > 1) this.#ask(cell);
  }

  #again() {
    for (const cell of this.cells.values()) this.#ask(cell);
  }

  #ask(cell) {
    cell.dirty = true;
    if (!cell.inView || !cell.chart) return;
    this.waiting.add(cell);
    if (this.drawing) return;
    this.drawing = true;
    this.panel.library.when((plotly) => this.#next(plotly));
  }

  /** Draw one, then let the page breathe. */
  #next(plotly) {
    const [cell] = this.waiting;
    this.drawing = Boolean(cell) && !this.closed;
    if (!this.drawing) return;
    this.waiting.delete(cell);
    this.#draw(plotly, cell);
    setTimeout(() => this.#next(plotly), 0);
  }

  #draw(plotly, cell) {
    const width = cell.seat.clientWidth;
    if (!width) return;
    const { data, layout } = cell.chart.figure;
    cell.dirty = false;
    cell.width = width;
    // Plotly writes into what it is given.
    plotly.react(cell.seat, structuredClone(data), themed(structuredClone(layout), this.panel.root, width), CONFIG);
    cell.seat.dataset.drawn = "true";
  }

  /** End it. */
  close() {
    this.closed = true;
    this.endTheme();
    this.sight.disconnect();
    this.size.disconnect();
    for (const name of [...this.cells.keys()]) this.#remove(name);
  }
}
