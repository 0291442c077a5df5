/** An answer of a model: thinking, tool calls, text, what is going on, and its figures. */
import { isStreaming } from "../protocol.js";
import { visible } from "../text.js";
import { Actions, Branches } from "./actions.js";
import { Body } from "./body.js";
import { copyText, flash, h, iconButton, setText, show } from "./dom.js";
import { Ending, REASONS } from "./ending.js";
import { Figures } from "./figures.js";
import { PhaseLine } from "./phase.js";
import { Thinking } from "./thinking.js";
import { ToolCalls } from "./toolcalls.js";

/** A message of a model. */
export class AnswerTurn {
  constructor(chat) {
    this.chat = chat;
    this.turn = null;
    /** Whether it was seen on its way: only then is it read aloud. */
    this.watched = false;
    /** What a screen reader is told after the last block. */
    this.last = null;
    this.services = {
      late: chat.late,
      insert: (source) => chat.insert(this.turn.mid, this.#codeIndex(source), source),
      announce: (block) => this.watched && chat.announcer.block(block),
    };
    this.body = new Body(this.services);
    this.thinking = new Thinking(this.services);
    this.calls = new ToolCalls(chat.late);
    this.phase = new PhaseLine();
    this.figures = new Figures();
    this.job = (deadline) => this.#pump(deadline);
    this.#build();
  }

  #build() {
    this.model = h("span", { class: "wb-who" });
    this.toy = h("span", { class: "wb-badge", hidden: true }, "toy");
    this.dropped = h("p", { class: "wb-note", hidden: true });
    this.ending = new Ending({ retry: () => this.regenerate(), swap: (again) => this.#swap(again) });
    this.branches = new Branches(this.chat);
    this.copyButton = iconButton("copy", "Copy answer", () => this.copy());
    this.cellButton = iconButton("cell", "Insert answer as cell", () => {
      this.chat.insert(this.turn.mid);
      flash(this.cellButton, "check", "Inserted");
    });
    this.tools = new Actions(
      this.branches.el,
      this.copyButton,
      iconButton("redo", "Regenerate answer", () => this.regenerate(), { class: "wb-write" }),
      this.cellButton,
    );
    this.foot = h("div", { class: "wb-foot" }, this.figures.el, this.tools.el);
    this.el = h(
      "article",
      { class: "wb-turn wb-answer", tabindex: "-1" },
      h("div", { class: "wb-turn-head" }, this.model, this.toy),
      this.dropped,
      this.thinking.el,
      this.body.el,
      this.calls.el,
      this.phase.el,
      this.ending.error,
      this.ending.reason,
      this.foot,
    );
  }

  update(turn, last) {
    const was = this.turn;
    this.turn = turn;
    const streaming = isStreaming(turn);
    this.watched ||= streaming;
    this.el.classList.toggle("wb-last", last);
    this.el.classList.toggle("wb-live", streaming);
    setText(this.model, visible(turn.model ?? "Model"));
    this.el.setAttribute("aria-label", `Answer of ${turn.model ?? "the model"}`);
    show(this.toy, Boolean(turn.toy));
    show(this.dropped, turn.dropped > 0);
    if (turn.dropped)
      setText(this.dropped, `${turn.dropped} earlier messages did not fit the context and were left out.`);
    this.branches.update(turn.sib);
    this.calls.update(turn, streaming);
    this.ending.update(turn, streaming);
    this.figures.update(turn.fig, this.chat.state?.limits?.ctx);
    show(this.foot, !streaming);
    if (!streaming) this.phase.hide();
    else if (!this.phase.shown) this.phase.update({ phase: turn.phase }, null, this.chat.state);
    if (was && isStreaming(was) && !streaming) this.last = turn.error ? "The answer broke off." : (REASONS[turn.reason] ?? "Answer finished.");
    this.progress();
  }

  /** Let others leave memory for the model, and ask again. */
  #swap(again) {
    if (this.chat.state.conv.read_only || this.chat.protocol.streaming) return false;
    // What goes wrong is told in a notice, and the person may try again.
    this.chat.onError = again;
    return this.chat.send({ t: "swap", mid: this.turn.mid });
  }

  /** Take the texts as they are now; drawing happens in the pump. */
  progress() {
    const streaming = isStreaming(this.turn);
    this.body.set(this.turn.text ?? "", !streaming);
    this.thinking.set(this.turn.think ?? "", !streaming, Boolean(this.turn.text));
    if (streaming) this.calls.update(this.turn, true);
    if (!this.body.idle || !this.thinking.idle) this.chat.pump.add(this.job);
  }

  /** Show what is going on. */
  status(status, stopping) {
    this.phase.update(status ?? { phase: this.turn.phase }, stopping, this.chat.state);
    this.thinking.phase(status?.phase ?? this.turn.phase);
  }

  #pump(deadline) {
    const more = this.body.pump(deadline);
    if (this.last && this.body.idle) {
      this.chat.announcer.say(this.last);
      this.last = null;
    }
    return this.thinking.pump(deadline) || more;
  }

  /** The number of a code block among those of the answer. */
  #codeIndex(source) {
    const blocks = [...this.body.el.querySelectorAll(".wb-code code")];
    const index = blocks.findIndex((code) => code.textContent.trimEnd() === visible(source).trimEnd());
    return index < 0 ? null : index;
  }

  async copy() {
    const done = await copyText(this.turn.text);
    flash(this.copyButton, done ? "check" : "close", done ? "Copied" : "Could not copy");
  }

  regenerate() {
    if (!this.chat.state.conv.read_only) this.chat.regenerate(this.turn.mid);
  }

  close() {
    this.chat.pump.remove(this.job);
  }
}
