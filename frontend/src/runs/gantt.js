/** The steps of a run in time: a row for each, a bar for each attempt. */
import { visible } from "../text.js";
import { h, setText } from "../view/dom.js";
import { stateGlyph } from "./glyphs.js";
import { moveAlong, rove } from "./keys.js";
import { scaleOf } from "./timeline.js";
import { stateOf, stepName, STEPS, stepTime, time } from "./words.js";

const LEAST_PCT = 0.35;

/** The timeline. */
export class Timeline {
  constructor(panel) {
    this.panel = panel;
    this.rows = new Map();
    this.axis = h("div", { class: "wbr-axis", "aria-hidden": "true" });
    this.folds = h("div", { class: "wbr-folds", "aria-hidden": "true" });
    this.list = h("ul", { class: "wbr-bars", "aria-label": "Steps in time", on: { keydown: (event) => moveAlong(event, this.#all()) } });
    this.told = h("p", { class: "wbr-hint wbr-told" });
    this.el = h("div", { class: "wbr-time", role: "group", "aria-label": "Steps as a timeline", hidden: true }, h("div", { class: "wbr-plot" }, this.folds, this.axis, this.list), this.told);
  }

  #all() {
    return [...this.rows.values()].map(({ button }) => button);
  }

  update(run) {
    const steps = JSON.stringify([run.id, run.steps]);
    if (this.steps !== steps) {
      this.steps = steps;
      this.rows = new Map(run.steps.map((step) => [step.id, this.#row(step)]));
      this.list.replaceChildren(...[...this.rows.values()].map(({ el }) => el));
      rove(this.#all());
    }
    this.tick();
    this.mark(this.panel.step.wanted);
  }

  #row(step) {
    const sign = h("span", { class: "wbr-sign" });
    const track = h("span", { class: "wbr-track" });
    const took = h("span", { class: "wbr-bar-time" });
    const button = h(
      "button",
      { type: "button", class: "wbr-bar-row", tabindex: "-1", "data-step": step.id, on: { click: () => this.panel.step.open(step.id) } },
      h("span", { class: "wbr-bar-name" }, sign, h("span", {}, visible(step.title || step.id))),
      track,
      took,
    );
    return { step, sign, track, took, button, el: h("li", {}, button) };
  }

  tick() {
    const { panel } = this;
    const now = panel.now();
    const states = [...this.rows.keys()].map((id) => panel.stepOf(id)).filter(Boolean);
    const scale = scaleOf(states.flatMap(({ spans }) => spans), now);
    this.axis.replaceChildren(...scale.ticks.map(({ at, seconds }) => tick(at, seconds)));
    this.folds.replaceChildren(...scale.folds.map(fold));
    for (const [id, row] of this.rows) this.#draw(row, panel.stepOf(id), scale, now);
    const waited = scale.folds.reduce((sum, { seconds }) => sum + seconds, 0);
    setText(this.told, waited ? `At work for ${time(scale.work)}; ${time(waited)} in which nothing was at work are folded.` : "");
  }

  #draw(row, state, scale, now) {
    if (!state) return;
    if (row.sign.dataset.status !== state.status) {
      row.sign.dataset.status = state.status;
      row.sign.replaceChildren(stateGlyph(state.status));
    }
    row.button.dataset.status = state.status;
    setText(row.took, stepTime(state, now) || stateOf(STEPS, state.status).word);
    const label = stepName(row.step, state, now);
    if (row.button.getAttribute("aria-label") !== label) row.button.setAttribute("aria-label", label);
    const bars = state.spans.map(({ at, to, kind }) => {
      const [left, right] = [scale.place(at), scale.place(to ?? now)];
      const width = Math.max((right - left) * 100, LEAST_PCT);
      return { left: Math.min(left * 100, 100 - width), width, kind };
    });
    const shown = JSON.stringify(bars);
    if (row.track.dataset.shown === shown) return;
    row.track.dataset.shown = shown;
    row.track.replaceChildren(...bars.map(({ left, width, kind }) => {
      const bar = h("span", { class: "wbr-span", "data-kind": kind });
      bar.style.left = `${left}%`;
      bar.style.width = `${width}%`;
      return bar;
    }));
  }

  focusOn(id) {
    const row = this.rows.get(id);
    if (row) rove(this.#all(), row.button).focus({ preventScroll: true });
  }

  /** Show which step is open. */
  mark(id) {
    for (const [name, { button }] of this.rows) {
      if (name === id) button.setAttribute("aria-current", "true");
      else button.removeAttribute("aria-current");
    }
  }
}

function tick(at, seconds) {
  const text = seconds < 1 && seconds > 0 ? `${seconds.toFixed(1)} s` : seconds % 60 && seconds >= 60 ? time(seconds) : seconds >= 60 ? short(seconds) : `${Math.round(seconds * 10) / 10} s`;
  const el = h("span", { class: "wbr-tick" }, h("span", {}, text));
  el.style.left = `${at * 100}%`;
  return el;
}

function short(seconds) {
  return seconds >= 3600 ? `${Math.round((seconds / 3600) * 10) / 10} h` : `${seconds / 60} min`;
}

function fold({ at, width, seconds }) {
  const el = h("span", { class: "wbr-fold" }, h("span", {}, time(seconds)));
  el.style.left = `${(at - width / 2) * 100}%`;
  el.style.width = `${width * 100}%`;
  return el;
}
