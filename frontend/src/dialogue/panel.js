/** The dialogue panel as a whole: takes what the protocol says and lets the parts draw it. */
import { askLab } from "../lab.js";
import { laneKeys } from "../lanes/keys.js";
import { Lanes } from "../lanes/lanes.js";
import { isStreaming } from "../protocol.js";
import { visible } from "../text.js";
import { h, iconButton, setText, show } from "../view/dom.js";
import { LiveView } from "../view/live.js";
import { Bar } from "./bar.js";
import { Header } from "./header.js";
import { PersonDrawer } from "./params.js";
import { PlanStrip, ProblemBox } from "./plan.js";
import { SetupForm } from "./setup.js";
import { StoredDrawer } from "./stored.js";
import { dialogueTurn } from "./turn.js";

/** One view of a dialogue. */
export class DialogueView extends LiveView {
  /**
   * @param {object} model The anywidget model.
   * @param {HTMLElement} el
   */
  constructor(model, el) {
    super(model, "dialogue");
    this.stopping = null;
    this.mutes = new Map();
    this.#build();
    this.begin(el);
  }

  #build() {
    this.person = new PersonDrawer(this);
    this.stored = new StoredDrawer(this);
    this.header = new Header(this);
    this.plan = new PlanStrip();
    this.problem = new ProblemBox({
      again: () => this.send({ t: this.#begun ? "retry" : "foresee" }),
      swap: () => this.send({ t: "retry", swap: true }),
    });
    this.lanes = new Lanes(this, {
      turn: () => dialogueTurn(this),
      tools: (lane) => this.#tools(lane),
      resized: () => this.#drawOpening(this.state),
    });
    this.openingText = h("span", {});
    this.opening = h("div", { class: "wb-opening-band", hidden: true }, h("span", { class: "wb-who" }, "Opening"), this.openingText);
    this.setup = new SetupForm(this);
    this.bar = new Bar(this);
    this.stage = h("div", { class: "wb-stage" }, this.lanes.el, this.setup.el, this.stored.el, this.person.el);
    this.root = h(
      "section",
      { class: "wb-root wb-dialogue wb-waiting", "data-lm-suppress-shortcuts": "true", "aria-label": "Dialogue" },
      this.header.el,
      this.notices.el,
      this.plan.el,
      this.opening,
      this.stage,
      this.problem.el,
      this.silence.el,
      this.bar.el,
      this.announcer.el,
    );
    laneKeys(this.root, { lanes: this.lanes, escape: () => this.#escape(), key: (event) => this.#key(event) });
  }

  get #begun() {
    return this.state?.run?.state === "failed";
  }

  #tools(lane) {
    const mute = iconButton("mute", `Mute ${lane.name}`, () => this.#mute(lane.key), { class: "wb-write" });
    this.mutes.set(lane.key, mute);
    return [mute, this.person.doorOf(`Parameters of ${lane.name}`, () => lane.key)];
  }

  #mute(key) {
    const lane = this.state.lanes.find((item) => item.key === key);
    this.send({ t: "mute", name: key, on: !lane.muted });
  }

  /** Stop the dialogue; the view shows at once that it was heard. */
  stop() {
    if (!this.state?.run?.active || this.stopping !== null) return;
    this.stopping = performance.now();
    this.send({ t: "stop" });
    const { comm_id } = this.state.env ?? {};
    if (comm_id) askLab(this.root, "stop", { comm_id });
    this.#drawLive();
  }

  #escape() {
    if (this.header.closeMenus() || this.person.hide() || this.stored.hide()) return;
    this.stop();
  }

  /** `c` copies the turn that has the focus. */
  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.key !== "c") return false;
    if (event.target.closest("input, textarea, select, button, a, summary, pre")) return false;
    const turn = this.lanes.turnOf(event.target);
    turn?.copy?.();
    return Boolean(turn);
  }

  /** Draw everything anew. */
  draw() {
    const { state } = this;
    if (!state.run?.active) this.stopping = null;
    this.header.update(state);
    this.plan.update(state.plan);
    this.problem.update(state.run?.failed_turn ? null : state.problem, this.#begun);
    this.setup.update(state);
    show(this.lanes.el, Boolean(state.run));
    this.root.classList.toggle("wb-idle", !state.run?.active || state.run.state === "paused");
    if (state.run) this.lanes.update(state);
    for (const lane of state.lanes) this.#drawMute(lane);
    this.person.update(state);
    this.stored.update(state);
    this.#drawOpening(state);
    this.#drawLive();
    this.root.setAttribute("aria-busy", String(Boolean(state.busy)));
  }

  #drawOpening(state) {
    const text = state.turns[0]?.opening ? state.turns[0].text : "";
    // A short opening is the title already.
    show(this.opening, this.lanes.split && text !== "" && text !== state.conv.title);
    setText(this.openingText, visible(text));
    this.opening.title = text;
  }

  #drawMute(lane) {
    const button = this.mutes.get(lane.key);
    if (!button) return;
    const label = lane.muted ? `Let ${lane.name} speak` : `Mute ${lane.name}`;
    button.setAttribute("aria-pressed", String(lane.muted));
    button.setAttribute("aria-label", label);
    button.title = label;
  }

  #drawLive() {
    const speaking = this.state.turns.filter(isStreaming).map((turn) => turn.who);
    this.bar.update(this.state, speaking, this.stopping !== null);
    if (this.state.run) this.lanes.progress(new Set(), this.stopping);
  }

  /** Draw what grew. */
  progress(result) {
    if (this.state.run) this.lanes.progress(result.texts, this.stopping);
  }

  event(event, buffers) {
    if (super.event(event, buffers)) return true;
    if (event.t === "stored") this.stored.take(event);
    return event.t === "stored";
  }

  tick() {
    if (this.state && (this.protocol.streaming || this.stopping !== null)) this.#drawLive();
  }

  /** Keep what is there when the kernel is gone. */
  lose() {
    const { state } = this;
    if (state) {
      for (const turn of state.turns) if (isStreaming(turn)) Object.assign(turn, { reason: "interrupted", phase: null });
      state.busy = null;
      this.stopping = null;
      for (const lane of state.lanes) if (lane.status.phase !== "done" && lane.status.phase !== "idle") lane.status = { phase: "done", detail: "interrupted" };
      if (state.run) {
        Object.assign(state.run, { state: "done", active: false, reason: "the kernel is gone" });
        this.lanes.update(state);
      }
      this.#drawLive();
      this.root.setAttribute("aria-busy", "false");
    }
    this.bar.disable();
    this.lanes.freeze();
    this.header.disable();
    this.setup.el.inert = this.person.body.inert = true;
  }

  closeParts() {
    this.header.close();
    this.lanes.close();
  }
}
