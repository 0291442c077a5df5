/** A turn in a panel with several models: who speaks, the text by the chat's renderer, its figures. */
import { isStreaming } from "../protocol.js";
import { visible } from "../text.js";
import { Actions } from "../view/actions.js";
import { Body } from "../view/body.js";
import { copyText, flash, h, iconButton, setText, show } from "../view/dom.js";
import { Ending, REASONS } from "../view/ending.js";
import { Figures } from "../view/figures.js";
import { PhaseLine } from "../view/phase.js";
import { Thinking } from "../view/thinking.js";

/**
 * @typedef {object} LaneTurnParts What a panel adds to a turn.
 * @property {((turn: object) => void)|null} [retry] Asks again after an error.
 * @property {((turn: object, again: () => void) => boolean)|null} [swap] Consents to what leaves memory.
 * @property {HTMLElement[]} [actions] More buttons.
 * @property {HTMLElement|null} [below] What stands below the text, such as a question to the person.
 * @property {(turn: object) => string|null} [note] A quiet line above the text.
 * @property {(turn: object) => string|null} [facts] More figures, as text.
 * @property {(turn: object) => string} [detail] What a pointer on the figures tells.
 * @property {(turn: object) => string[]} [badges] Words beside the name.
 */

/** An answer of a model in its lane. */
export class LaneTurn {
  /** @param {import("../view/live.js").LiveView} panel @param {LaneTurnParts} [parts] */
  constructor(panel, parts = {}) {
    this.panel = panel;
    this.parts = parts;
    this.turn = null;
    const services = {
      late: panel.late,
      insert: (source) => panel.insert(this.turn.mid, null, source),
      announce: null,
    };
    this.body = new Body(services);
    this.thinking = new Thinking(services);
    this.phase = new PhaseLine();
    this.figures = new Figures();
    this.job = (deadline) => this.#pump(deadline);
    this.#build();
  }

  #build() {
    const { actions = [], below = null } = this.parts;
    this.who = h("span", { class: "wb-who" });
    this.model = h("span", { class: "wb-lane-model" });
    this.badges = h("span", { class: "wb-row" });
    this.note = h("p", { class: "wb-note", hidden: true });
    this.dropped = h("p", { class: "wb-note", hidden: true });
    this.facts = h("span", { class: "wb-lane-more" });
    this.ending = new Ending({
      retry: () => this.parts.retry?.(this.turn),
      swap: (again) => this.parts.swap?.(this.turn, again) ?? false,
    });
    this.copyButton = iconButton("copy", "Copy turn", () => this.copy());
    this.cellButton = iconButton("cell", "Insert turn as cell", () => {
      this.panel.insert(this.turn.mid);
      flash(this.cellButton, "check", "Inserted");
    });
    this.tools = new Actions(this.copyButton, this.cellButton, ...actions);
    this.foot = h("div", { class: "wb-foot" }, this.figures.el, this.facts, this.tools.el);
    this.el = h(
      "article",
      { class: "wb-turn wb-answer wb-lane-turn", tabindex: "-1" },
      h("div", { class: "wb-turn-head" }, h("span", { class: "wb-swatch" }), this.who, this.model, this.badges),
      this.note,
      this.dropped,
      this.thinking.el,
      this.body.el,
      this.phase.el,
      this.ending.error,
      this.ending.reason,
      below,
      this.foot,
    );
  }

  update(turn, last) {
    const was = this.turn;
    this.turn = turn;
    const streaming = isStreaming(turn);
    this.el.classList.toggle("wb-last", last);
    this.el.classList.toggle("wb-live", streaming);
    this.el.dataset.colour = turn.colour ?? 0;
    this.el.dataset.status = turn.status ?? "";
    setText(this.who, visible(turn.who ?? ""));
    setText(this.model, visible(turn.model ?? ""));
    this.el.setAttribute("aria-label", `Turn of ${turn.who || turn.model}`);
    this.#words(turn);
    this.ending.update(turn, streaming);
    this.figures.update(turn.fig, null);
    setText(this.facts, this.parts.facts?.(turn) ?? "");
    this.foot.title = this.parts.detail?.(turn) ?? "";
    show(this.foot, !streaming);
    if (!streaming) this.phase.hide();
    else if (!this.phase.shown) this.phase.update({ phase: turn.phase }, null, this.panel.state);
    if (was && isStreaming(was) && !streaming) this.#said(turn);
    this.progress();
  }

  #words(turn) {
    const badges = this.parts.badges?.(turn) ?? [];
    if (this.shownBadges !== badges.join("\n")) {
      this.shownBadges = badges.join("\n");
      this.badges.replaceChildren(...badges.map((text) => h("span", { class: "wb-badge" }, text)));
    }
    const note = this.parts.note?.(turn) ?? null;
    show(this.note, Boolean(note));
    setText(this.note, visible(note ?? ""));
    show(this.dropped, turn.dropped > 0);
    if (turn.dropped) setText(this.dropped, `${turn.dropped} earlier turns did not fit the context and were left out.`);
  }

  /** One announcement per turn: several lanes that read their blocks aloud would talk over each other. */
  #said(turn) {
    const how = turn.error ? "failed." : (REASONS[turn.reason] ?? "");
    this.panel.announcer.say(`${turn.who || turn.model}: ${how} ${turn.text}`);
  }

  /** Take the texts as they are now; drawing happens in the pump. */
  progress() {
    const streaming = isStreaming(this.turn);
    this.body.set(this.turn.text ?? "", !streaming);
    this.thinking.set(this.turn.think ?? "", !streaming, Boolean(this.turn.text));
    if (!this.body.idle || !this.thinking.idle) this.panel.pump.add(this.job);
  }

  /** Show what is going on. */
  status(status, stopping) {
    this.phase.update(status ?? { phase: this.turn.phase }, stopping, this.panel.state);
    this.thinking.phase(status?.phase ?? this.turn.phase);
  }

  #pump(deadline) {
    const more = this.body.pump(deadline);
    return this.thinking.pump(deadline) || more;
  }

  async copy() {
    const done = await copyText(this.turn.text);
    flash(this.copyButton, done ? "check" : "close", done ? "Copied" : "Could not copy");
  }

  close() {
    this.panel.pump.remove(this.job);
  }
}

/** What a person said: shown as it is, in every lane. */
export class SaidTurn {
  constructor() {
    this.turn = null;
    this.who = h("span", { class: "wb-who" });
    this.text = h("div", { class: "wb-said-text", dir: "auto" });
    this.el = h(
      "article",
      { class: "wb-turn wb-said", tabindex: "-1" },
      h("div", { class: "wb-turn-head" }, this.who),
      this.text,
    );
  }

  update(turn) {
    this.turn = turn;
    setText(this.who, visible(turn.who ?? "you"));
    setText(this.text, visible(turn.text));
    this.el.setAttribute("aria-label", `${turn.who ?? "you"} said`);
  }

  close() {}
}
