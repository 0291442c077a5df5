/** The steps of a run as a graph: boxes where the layout puts them, lines of SVG between. */
import { visible } from "../text.js";
import { h, setText, show } from "../view/dom.js";
import { stateGlyph } from "./glyphs.js";
import { rove } from "./keys.js";
import { layout, line } from "./layout.js";
import { stepLine, stepName } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 196;
const NARROW = 142;
const NARROW_ROOM = 480;
const HEIGHT = 62;
const PAD = 6;
const WAYS = { ArrowRight: [1, 0], ArrowLeft: [-1, 0], ArrowDown: [0, 1], ArrowUp: [0, -1] };
const FINISHED = ["done", "cached", "kept"];
const LOOKED_AT = ["waiting", "failed", "running", "retrying", "lost"];

/** The graph. */
export class Graph {
  constructor(panel) {
    this.panel = panel;
    this.nodes = new Map();
    this.lines = [];
    this.svg = document.createElementNS(SVG, "svg");
    this.svg.setAttribute("aria-hidden", "true");
    this.svg.setAttribute("class", "wbr-lines");
    this.canvas = h("div", { class: "wbr-canvas" });
    this.canvas.append(this.svg);
    this.el = h("div", { class: "wbr-graph", role: "group", "aria-label": "Steps as a graph", on: { keydown: (event) => this.#key(event) } }, this.canvas);
    this.size = new ResizeObserver(() => this.#fit());
    this.size.observe(this.el);
  }

  update(run) {
    const steps = JSON.stringify([run.id, run.steps]);
    if (this.steps !== steps) {
      this.steps = steps;
      this.run = run;
      this.#make(run);
    }
    for (const [id, node] of this.nodes) node.update(this.panel.stepOf(id), this.panel.now());
    this.#colourLines();
    this.mark(this.panel.step.wanted);
  }

  #make(run) {
    for (const node of this.nodes.values()) node.el.remove();
    this.nodes = new Map(run.steps.map((step) => [step.id, new Node(this.panel, step)]));
    this.canvas.append(...[...this.nodes.values()].map(({ el }) => el));
    rove(this.#all());
    this.shape = null;
    this.#fit();
  }

  #all() {
    return [...this.nodes.values()].map(({ el }) => el);
  }

  /** Let the steps go to the right where they fit, else whichever way sticks out less. */
  #fit() {
    const room = this.el.clientWidth - 2 * PAD;
    // While a step is open beside it, the graph keeps its shape.
    if (!this.run || room <= 0 || (this.shape && this.panel.step.wanted !== null)) return;
    const width = room < NARROW_ROOM ? NARROW : WIDTH;
    const right = layout(this.run.steps, { along: width, across: HEIGHT, gapAlong: 34, gapAcross: 16 });
    const down = layout(this.run.steps, { along: HEIGHT, across: width, gapAlong: 30, gapAcross: 14 });
    const toRight = right.along <= room || right.along < down.across;
    const shape = `${toRight} ${width} ${this.steps}`;
    if (this.shape === shape) return;
    this.shape = shape;
    this.canvas.style.setProperty("--wbr-node", `${width}px`);
    this.#put(toRight ? right : down, toRight);
    this.#lookAt(room);
  }

  /** Begin where something happens, when not all can be seen. */
  #lookAt(room) {
    const states = [...this.nodes.values()].map((node) => [node, this.panel.stepOf(node.step.id)?.status]);
    const found = LOOKED_AT.map((status) => states.find(([, now]) => now === status)).find(Boolean) ?? states[0];
    if (found) this.el.scrollLeft = found[0].at[0] - room / 2 + WIDTH / 2;
  }

  #put({ places, paths, along, across }, right) {
    const [width, height] = right ? [along, across] : [across, along];
    this.canvas.style.width = `${width + 2 * PAD}px`;
    this.canvas.style.height = `${height + 2 * PAD}px`;
    this.svg.setAttribute("viewBox", `${-PAD} ${-PAD} ${width + 2 * PAD} ${height + 2 * PAD}`);
    for (const [id, node] of this.nodes) {
      const place = places.get(id);
      const [x, y] = right ? [place.along, place.across] : [place.across, place.along];
      node.at = [x, y];
      node.el.style.left = `${x + PAD}px`;
      node.el.style.top = `${y + PAD}px`;
    }
    this.lines = paths.map(({ from, to, points }) => {
      const path = document.createElementNS(SVG, "path");
      path.setAttribute("d", line(points, right));
      path.setAttribute("class", "wbr-line");
      return { from, to, path };
    });
    this.svg.replaceChildren(...this.lines.map(({ path }) => path));
    this.#colourLines();
  }

  #colourLines() {
    for (const { from, to, path } of this.lines) {
      const [a, b] = [this.panel.stepOf(from)?.status, this.panel.stepOf(to)?.status];
      const kind = b === "blocked" || b === "skipped" ? b : FINISHED.includes(a) ? "done" : "open";
      if (path.dataset.kind !== kind) path.dataset.kind = kind;
    }
  }

  #key(event) {
    const way = WAYS[event.key];
    if (event.altKey || event.ctrlKey || event.metaKey) return;
    const from = [...this.nodes.values()].find(({ el }) => el === event.target);
    if (!from) return;
    const all = [...this.nodes.values()];
    const ends = { Home: all[0], End: all.at(-1) };
    const next = way ? nearest(all, from, way) : ends[event.key];
    if (!way && !next) return;
    event.preventDefault();
    if (!next) return;
    rove(this.#all(), next.el).focus({ preventScroll: true });
    next.el.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  focusOn(id) {
    const node = this.nodes.get(id);
    if (node) rove(this.#all(), node.el).focus({ preventScroll: true });
  }

  /** Let a step be seen. */
  reveal(id) {
    this.nodes.get(id)?.el.scrollIntoView({ block: "nearest", inline: "nearest" });
  }

  /** Show which step is open. */
  mark(id) {
    for (const [name, { el }] of this.nodes) {
      if (name === id) el.setAttribute("aria-current", "true");
      else el.removeAttribute("aria-current");
    }
  }

  tick() {
    for (const [id, node] of this.nodes) node.tick(this.panel.stepOf(id), this.panel.now());
  }

  close() {
    this.size.disconnect();
  }
}

/** The nearest box in a direction; what lies aside counts as twice as far. */
export function nearest(all, from, [dx, dy]) {
  let best = null;
  for (const node of all) {
    const [x, y] = [node.at[0] - from.at[0], node.at[1] - from.at[1]];
    const ahead = x * dx + y * dy;
    const aside = Math.abs(x * dy) + Math.abs(y * dx);
    const far = ahead + 2 * aside;
    if (node !== from && ahead > 1 && (!best || far < best.far)) best = { node, far };
  }
  return best?.node ?? null;
}

/** One box. */
class Node {
  constructor(panel, step) {
    this.step = step;
    this.at = [0, 0];
    this.sign = h("span", { class: "wbr-sign" });
    this.line = h("span", { class: "wbr-sub" });
    this.fill = h("span", { class: "wbr-fill" });
    this.bar = h("span", { class: "wbr-bar", "aria-hidden": "true", hidden: true }, this.fill);
    const name = step.title || step.id;
    this.el = h(
      "button",
      { type: "button", class: "wbr-node", tabindex: "-1", title: visible(step.title ? `${step.title}: ${step.id} (${step.kind})` : `${step.id} (${step.kind})`), "data-step": step.id, on: { click: () => panel.step.open(step.id) } },
      this.sign,
      h("span", { class: "wbr-node-text" }, h("span", { class: "wbr-node-name" }, visible(name)), this.line),
      this.bar,
    );
  }

  update(state, now) {
    if (!state) return;
    const shown = JSON.stringify(state);
    if (this.shown === shown) return this.tick(state, now);
    this.shown = shown;
    this.el.dataset.status = state.status;
    if (this.sign.dataset.status !== state.status) {
      this.sign.dataset.status = state.status;
      this.sign.replaceChildren(stateGlyph(state.status));
    }
    const bar = Boolean(state.items) && ["running", "retrying", "failed", "waiting", "lost"].includes(state.status);
    show(this.bar, bar);
    if (bar) this.fill.style.width = `${(state.done / state.items) * 100}%`;
    this.bar.classList.toggle("wbr-has-errors", state.errors > 0);
    return this.tick(state, now);
  }

  tick(state, now) {
    if (!state) return;
    setText(this.line, stepLine(state, now));
    const label = stepName(this.step, state, now);
    if (this.el.getAttribute("aria-label") !== label) this.el.setAttribute("aria-label", label);
  }
}
