/** Several models in one panel: heads with live figures, and below one thread or a column each. */
import { isStreaming } from "../protocol.js";
import { h, show } from "../view/dom.js";
import { MessageList } from "../view/list.js";
import { LaneHead } from "./head.js";
import { SaidTurn } from "./turn.js";

/** Below this width in pixels, or beyond so many lanes, columns would be too narrow to read. */
const NARROW = 640;
const COLUMN = 250;

/**
 * @typedef {object} LanesParts What a panel says about its lanes.
 * @property {(turn: object) => object} turn Makes what draws an answer: a `LaneTurn`.
 * @property {(lane: object) => HTMLElement[]} [tools] Makes the buttons of a head.
 * @property {() => void} [resized] Called when columns became a thread, or the other way round.
 */

/** Heads and transcripts. */
export class Lanes {
  /** @param {import("../view/live.js").LiveView} panel @param {LanesParts} parts */
  constructor(panel, parts) {
    this.panel = panel;
    this.parts = parts;
    this.heads = new Map();
    this.columns = new Map();
    this.lanes = [];
    this.turns = [];
    this.locked = false;
    this.make = (turn) => (turn.role === "user" ? new SaidTurn() : parts.turn(turn));
    this.thread = new MessageList(panel, { make: this.make, label: "Turns" });
    this.headRow = h("div", { class: "wb-heads" });
    this.body = h("div", { class: "wb-cols" }, this.thread.el);
    this.el = h("div", { class: "wb-lanes" }, this.headRow, this.body);
    panel.pump.before = () => this.#lists().forEach((list) => list.beforeDraw());
    panel.pump.after = () => this.#lists().forEach((list) => list.afterDraw());
    this.sizes = new ResizeObserver(() => this.#resized());
    this.sizes.observe(this.el);
  }

  /** Whether there is a column per lane now. */
  get split() {
    return this.wanted === "lanes" && this.lanes.length > 1 && !this.narrow;
  }

  /** Whether the width allows columns. */
  get narrow() {
    const width = this.el.clientWidth || Infinity;
    return width < NARROW || width / Math.max(1, this.lanes.length) < COLUMN;
  }

  #lists() {
    return this.split ? this.lanes.map((lane) => this.columns.get(lane.key)) : [this.thread];
  }

  #resized() {
    const [conv, wanted] = [this.conv, this.wanted];
    if (!conv || this.split === this.drawnSplit) return;
    this.update({ conv, lanes: this.lanes, turns: this.turns, layout: wanted });
    this.parts.resized?.();
  }

  /**
   * @param {{conv: object, lanes: object[], turns: object[], layout: "thread"|"lanes"}} state A lane
   *   has `key`, `name`, `model`, `colour`, `status`; a turn the `lane` it belongs to, a person's
   *   (role `user`) stands in all.
   */
  update({ conv, lanes, turns, layout }) {
    Object.assign(this, { conv, lanes, turns, wanted: layout });
    this.el.style.setProperty("--wb-lanes", lanes.length);
    this.#drawHeads();
    const { split } = this;
    const changed = split !== this.drawnSplit;
    this.drawnSplit = split;
    this.el.classList.toggle("wb-split", split);
    this.#drawLists(split, changed);
    this.progress(new Set());
  }

  #drawLists(split, changed) {
    const { conv, lanes, turns } = this;
    const keys = new Set(lanes.map((lane) => lane.key));
    for (const [key, list] of this.columns) if (!split || !keys.has(key)) this.#drop(key, list);
    show(this.thread.el, !split);
    if (!split) {
      this.thread.update({ conv, turns });
      if (changed) this.thread.toBottom();
      return;
    }
    if (changed) this.thread.update({ conv, turns: [] });
    lanes.forEach((lane, place) => {
      const own = turns.filter((turn) => turn.lane === lane.key || (turn.role === "user" && !turn.opening));
      const list = this.#column(lane);
      list.el.dataset.colour = lane.colour;
      // Moving an element loses where it was scrolled to.
      const there = this.body.children[place + 1] ?? null;
      if (there !== list.el) this.body.insertBefore(list.el, there);
      list.update({ conv, turns: own });
    });
  }

  #column(lane) {
    let list = this.columns.get(lane.key);
    if (!list) {
      const moved = (top) => this.#moved(list, top);
      list = new MessageList(this.panel, { make: this.make, label: `Turns of ${lane.name}`, moved });
      this.columns.set(lane.key, list);
    }
    return list;
  }

  #drop(key, list) {
    list.close();
    list.el.remove();
    this.columns.delete(key);
  }

  #drawHeads() {
    const keys = new Set(this.lanes.map((lane) => lane.key));
    for (const [key, head] of this.heads)
      if (!keys.has(key)) {
        head.el.remove();
        this.heads.delete(key);
      }
    this.lanes.forEach((lane, place) => {
      if (!this.heads.has(lane.key)) this.heads.set(lane.key, new LaneHead(this.parts.tools?.(lane) ?? []));
      const { el } = this.heads.get(lane.key);
      if (this.headRow.children[place] !== el) this.headRow.insertBefore(el, this.headRow.children[place] ?? null);
    });
  }

  /** Draw what grew, and what the models do. */
  progress(mids, stopping = null) {
    const { statuses } = this.panel.protocol;
    for (const list of this.#lists()) list.progress(mids, statuses, stopping);
    const live = new Map(this.turns.filter(isStreaming).map((turn) => [turn.lane, turn]));
    for (const lane of this.lanes) {
      const turn = live.get(lane.key) ?? null;
      this.heads.get(lane.key).update(lane, turn, turn && (statuses.get(turn.mid) ?? null));
    }
  }

  /** Let all columns scroll together, or each by itself. */
  lock(on) {
    this.locked = on;
  }

  #moved(from, top) {
    if (!this.locked) return;
    for (const list of this.columns.values()) if (list !== from) list.follow(top);
  }

  /** The view of the turn an element belongs to. */
  turnOf(el) {
    return this.#lists()
      .map((list) => list.el.contains(el) && list.turnOf(el))
      .find(Boolean);
  }

  /** Move the focus to the turn before or after. */
  focusBy(step) {
    const lists = this.#lists();
    (lists.find((list) => list.el.contains(document.activeElement)) ?? lists[0])?.focusBy(step);
  }

  /** Move the focus to the lane beside. */
  focusLane(step) {
    const lists = this.#lists();
    const at = lists.findIndex((list) => list.el.contains(document.activeElement));
    const next = lists[at < 0 ? 0 : Math.max(0, Math.min(lists.length - 1, at + step))];
    const turn = next?.items.lastElementChild ?? next?.log;
    turn?.focus({ preventScroll: true });
    turn?.scrollIntoView({ block: "nearest" });
  }

  toBottom() {
    this.#lists().forEach((list) => list.toBottom());
  }

  freeze() {
    for (const button of this.el.querySelectorAll(".wb-write, .wb-retry, .wb-lane-tools button")) button.disabled = true;
  }

  close() {
    this.sizes.disconnect();
    [this.thread, ...this.columns.values()].forEach((list) => list.close());
  }
}
