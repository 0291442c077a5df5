/** The foot of the panel: what the dialogue does, the buttons that steer it, and the person's word. */
import { h, icon, iconButton, setText, show, textButton } from "../view/dom.js";
import { visible } from "../text.js";
import { runWords } from "./words.js";

const DOTS = { running: "moving", waiting: "moving", paused: "moving", done: "ready" };

/** The bar. */
export class Bar {
  /** @param {import("./panel.js").DialogueView} panel */
  constructor(panel) {
    this.panel = panel;
    this.#build();
  }

  #build() {
    const { panel } = this;
    const button = (label, t, name, props = {}) =>
      h("button", { type: "button", class: `wb-tb wb-write wb-control ${props.class ?? ""}`, "aria-label": label, title: props.title, on: { click: () => panel.send({ t }) } }, icon(name), h("span", {}, props.text ?? label));
    this.dot = h("span", { class: "wb-dot" });
    this.word = h("span", { class: "wb-run-word" });
    this.reason = h("span", { class: "wb-run-reason" });
    this.more = h("input", { class: "wb-field wb-more-turns", type: "number", min: "1", step: "1", "aria-label": "More turns", value: "4" });
    this.moreField = h("label", { class: "wb-row wb-write" }, this.more, h("span", { class: "wb-note" }, "more turns"));
    this.startButton = button("Start the dialogue", "start", "play", { class: "wb-primary", text: "Start" });
    this.goOn = h("button", { type: "button", class: "wb-tb wb-write wb-control wb-primary", "aria-label": "Go on", on: { click: () => this.#goOn() } }, icon("play"), h("span", {}, "Go on"));
    this.pause = button("Pause after this turn", "pause", "pause", { text: "Pause" });
    this.resume = button("Resume", "resume", "play", { class: "wb-primary" });
    this.skip = button("Skip this turn", "skip", "skip", { text: "Skip" });
    this.retry = h("button", { type: "button", class: "wb-tb wb-write wb-control wb-primary", "aria-label": "Retry the failed turn", on: { click: () => panel.send({ t: "retry" }) } }, icon("redo"), h("span", {}, "Retry"));
    this.stopButton = h("button", { type: "button", class: "wb-tb wb-write wb-control wb-stop-all", "aria-label": "Stop the dialogue", on: { click: () => panel.stop() } }, icon("stop"), h("span", {}, "Stop"));
    this.area = h("textarea", {
      class: "wb-input",
      rows: "1",
      "aria-label": "Say something",
      placeholder: "Say something; the next turn hears it",
      on: { keydown: (event) => this.#key(event), input: () => this.#sized() },
    });
    this.sendButton = iconButton("send", "Say it", () => this.#say(), { class: "wb-send" });
    this.box = h("div", { class: "wb-box wb-say wb-write", hidden: true }, this.area, this.sendButton);
    this.reading = h("p", { class: "wb-note", hidden: true }, "Read only: another kernel writes this dialogue, or it was closed.");
    this.verdicts = h("ul", { class: "wb-verdicts", "aria-label": "Verdicts", hidden: true });
    this.el = h(
      "footer",
      { class: "wb-steer" },
      // Stop stands where nothing else comes after it: a second click must not begin anew.
      h(
        "div",
        { class: "wb-steer-line" },
        h("div", { class: "wb-run", role: "status", "aria-live": "polite" }, this.dot, this.word, this.reason),
        h("div", { class: "wb-controls" }, this.moreField, this.stopButton, this.skip, this.pause, this.startButton, this.goOn, this.retry, this.resume),
      ),
      this.verdicts,
      this.reading,
      this.box,
    );
  }

  update(state, speaking, stopping) {
    const { run } = state;
    const [word, reason] = stopping ? ["Stopping", ""] : runWords(run, speaking);
    setText(this.word, word);
    setText(this.reason, reason);
    this.dot.dataset.kind = run?.state === "failed" ? "bad" : (DOTS[run?.state] ?? "cold");
    const active = Boolean(run?.active);
    const paused = active && (run.state === "paused" || run.pausing);
    const atLimit = Boolean(run) && run.limit !== null && run.taken >= run.limit;
    const fresh = !run || (run.state === "ready" && !run.taken);
    const rest = Boolean(run) && !active && !fresh && run.state !== "failed";
    show(this.startButton, fresh);
    show(this.goOn, rest);
    show(this.moreField, rest && atLimit);
    show(this.retry, run?.state === "failed" && !active && run.failed_turn);
    show(this.resume, paused);
    show(this.pause, active && !paused && run.state === "running");
    show(this.skip, (active && run.state === "running") || (run?.state === "failed" && !active && run.failed_turn));
    show(this.stopButton, active);
    for (const item of [this.stopButton, this.skip, this.pause]) item.disabled = Boolean(stopping);
    show(this.box, Boolean(run) && run.human !== "off");
    show(this.reading, state.conv.read_only);
    if (this.cid !== state.conv.cid) {
      this.cid = state.conv.cid;
      this.more.value = String(Math.max(1, state.lanes.length * 2));
    }
    this.#judged(run?.verdicts ?? []);
  }

  #judged(verdicts) {
    show(this.verdicts, verdicts.length > 0);
    if (verdicts.length === this.verdicts.childElementCount && this.judgedOf === this.cid) return;
    this.judgedOf = this.cid;
    this.verdicts.replaceChildren(...verdicts.map((text) => h("li", {}, visible(text))));
  }

  #goOn() {
    const more = Number(this.more.value);
    this.panel.send({ t: "start", turns: this.moreField.hidden ? null : Math.max(1, Math.round(more) || 1) });
  }

  #key(event) {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    this.#say();
  }

  #say() {
    const text = this.area.value.trim();
    if (!text || !this.panel.send({ t: "say", text })) return;
    const said = this.area.value;
    this.panel.onError = () => {
      this.area.value ||= said;
    };
    this.area.value = "";
    this.#sized();
    this.panel.lanes.toBottom();
  }

  #sized() {
    this.area.style.height = "auto";
    this.area.style.height = `${Math.min(this.area.scrollHeight, 140)}px`;
  }

  disable() {
    for (const item of this.el.querySelectorAll("button, textarea, input")) item.disabled = true;
  }
}
