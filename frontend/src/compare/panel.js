/** A comparison as a whole: takes what the protocol says and lets the parts draw it. */
import { laneKeys } from "../lanes/keys.js";
import { askLab } from "../lab.js";
import { sentence, visible } from "../text.js";
import { h, prose, setText, show } from "../view/dom.js";
import { openOnly } from "../view/drawer.js";
import { LiveView } from "../view/live.js";
import { Composer } from "./composer.js";
import { DiffView } from "./diffview.js";
import { Header } from "./header.js";
import { SideDrawer } from "./params.js";
import { ProgressBar } from "./progress.js";
import { RankingDrawer } from "./ranking.js";
import { SetupDrawer } from "./setup.js";
import { CompareLanes } from "./sides.js";
import { VoteBar } from "./vote.js";
import { Welcome } from "./welcome.js";
import { heldWords, nextToVote } from "./words.js";

const EDITABLE = "input, textarea, select, [contenteditable]";
const VOTES = { 1: "a", 2: "b", 3: "tie", 0: "both_bad" };

/** One view of a comparison. */
export class CompareView extends LiveView {
  /**
   * @param {object} model The anywidget model.
   * @param {HTMLElement} el
   */
  constructor(model, el) {
    super(model, "comparison");
    this.stopping = null;
    this.differences = false;
    this.seenVerdict = null;
    this.#build();
    this.begin(el);
  }

  #build() {
    this.side = new SideDrawer(this);
    this.setup = new SetupDrawer(this);
    this.ranking = new RankingDrawer(this);
    this.header = new Header(this);
    this.progressBar = new ProgressBar(this);
    this.question = h("div", { class: "wbc-question-text", dir: "auto" });
    this.prompt = h("div", { class: "wbc-question", role: "group", "aria-label": "Prompt", tabindex: "0", hidden: true }, this.question);
    this.held = h("p", { class: "wbc-held", role: "status", hidden: true });
    this.lanes = new CompareLanes(this);
    this.diff = new DiffView();
    this.welcome = new Welcome(this);
    this.votes = new VoteBar(this);
    this.composer = new Composer(this);
    this.problem = h("div", { class: "wb-error wbc-problem", role: "alert", hidden: true });
    this.root = h(
      "section",
      { class: "wb-root wbc-root wb-waiting", "data-lm-suppress-shortcuts": "true", "aria-label": "Comparison of models" },
      this.header.el,
      this.notices.el,
      this.progressBar.el,
      this.prompt,
      this.held,
      h("div", { class: "wb-stage" }, this.lanes.el, this.diff.el, this.welcome.el, this.side.el, this.setup.el, this.ranking.el),
      this.votes.el,
      this.problem,
      this.silence.el,
      this.composer.el,
      this.announcer.el,
    );
    laneKeys(this.root, { lanes: this.lanes, escape: () => this.#escape(), key: (event) => this.#key(event) });
  }

  /** The names of the two answers that are judged, from the left. */
  get pairNames() {
    const { prompt, lanes } = this.state ?? {};
    return (prompt?.pair ?? [0, 1]).map((place) => visible(lanes?.[place]?.name ?? ""));
  }

  /** Draw everything anew. */
  draw() {
    const { state } = this;
    if (!state.busy) this.stopping = null;
    this.#drawQuestion(state);
    for (const part of [this.header, this.progressBar, this.lanes, this.welcome, this.votes, this.composer, this.side, this.setup, this.ranking])
      part.update(state);
    this.#drawDiff();
    this.#drawProblem(state);
    this.#announceVote(state);
    this.root.setAttribute("aria-busy", String(Boolean(state.busy)));
  }

  #drawQuestion({ prompt, busy }) {
    show(this.prompt, Boolean(prompt));
    setText(this.question, visible(prompt?.text ?? ""));
    const waits = Boolean(busy) && !prompt;
    show(this.held, Boolean(prompt?.held) || waits);
    setText(this.held, waits ? "Asking the server about the models …" : prompt?.held ? heldWords(prompt.counts) : "");
  }

  #drawDiff() {
    const { state } = this;
    const pair = this.differences ? state.prompt?.pair : null;
    show(this.diff.el, Boolean(pair));
    if (!pair) return;
    const texts = pair.map((place) => state.turns.find((turn) => turn.lane === place)?.text ?? "");
    this.diff.update(texts, this.pairNames, pair);
  }

  #drawProblem({ problem, unasked, busy }) {
    show(this.problem, Boolean(problem) && !busy);
    if (!problem) return;
    const key = JSON.stringify([problem, unasked]);
    if (this.problem.dataset.key === key) return;
    this.problem.dataset.key = key;
    this.problem.replaceChildren(
      h("div", {}, h("strong", {}, unasked.length ? "Nothing was asked. " : "These models cannot be asked. "), sentence(problem.text)),
      problem.hint ? h("div", { class: "wb-note" }, ...prose(problem.hint)) : "",
      unasked.length ? h("button", { type: "button", class: "wb-tb wb-retry", on: { click: () => this.run("") } }, "Try again") : "",
    );
  }

  #announceVote({ prompt, lanes }) {
    const verdict = prompt?.pairs.find((one) => one[0] === prompt.pair?.[0] && one[1] === prompt.pair?.[1])?.[2] ?? null;
    const key = `${this.state.conv.cid}:${prompt?.index}:${verdict}`;
    if (key === this.seenVerdict) return;
    if (this.seenVerdict !== null && verdict) {
      const who = prompt.hidden ? "" : ` ${lanes.map((lane) => `${lane.letter} is ${lane.name}`).join(", ")}.`;
      this.announcer.say(`Vote recorded.${who}`);
    }
    this.seenVerdict = key;
  }

  /** Draw what grew. */
  progress(result) {
    this.lanes.progress(result.texts, this.stopping);
  }

  tick() {
    if (this.protocol.streaming) this.lanes.progress(new Set(), this.stopping);
  }

  // --- what a person does

  /** Ask what is written; without a text, what could not be asked, or the same prompts again. */
  run(text, lines = false) {
    if (this.state?.busy) return false;
    return this.send({ t: "run", text, lines });
  }

  /** Stop all answers; the view shows at once that it was heard. */
  stop(lane = null) {
    if (!this.state?.busy) return;
    if (lane !== null) {
      this.send({ t: "stop", lane });
      return;
    }
    if (this.stopping !== null) return;
    this.stopping = performance.now();
    this.send({ t: "stop" });
    const { comm_id } = this.state.env ?? {};
    if (comm_id) askLab(this.root, "stop", { comm_id });
    this.composer.update(this.state);
    this.lanes.progress(new Set(), this.stopping);
  }

  /** Judge the two answers. */
  vote(verdict) {
    if (this.state?.prompt?.pair && !this.link.gone) this.send({ t: "vote", verdict });
  }

  /** Show another prompt. */
  goto(n) {
    const count = this.state?.prompts.length ?? 0;
    if (n >= 0 && n < count && n !== this.state.prompt?.index) this.send({ t: "prompt", n });
  }

  /** Show the next prompt that has answers and no vote, else the next one. */
  next() {
    const { progress, prompt } = this.state ?? {};
    if (!prompt) return;
    this.goto(nextToVote(progress, prompt.index) ?? prompt.index + 1);
  }

  /** Show the differences of the two answers, or the lanes. */
  toggleDiff(on = !this.differences) {
    this.differences = on;
    if (this.state) this.draw();
    if (on) this.diff.el.focus();
  }

  /** Change the sides; what is shown stays until the next run. */
  setSides(sides) {
    this.send({ t: "sides", sides });
  }

  /** Open a drawer and close the others. */
  open(drawer) {
    openOnly(drawer, [this.side, this.setup, this.ranking]);
  }

  #escape() {
    if (this.header.closeMenus()) return;
    if ([this.side, this.setup, this.ranking].some((drawer) => drawer.hide())) return;
    if (this.differences) this.toggleDiff(false);
    else this.stop();
  }

  #key(event) {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest(EDITABLE)) return false;
    if (event.key in VOTES) {
      this.vote(VOTES[event.key]);
      return true;
    }
    const { prompt } = this.state ?? {};
    const action = {
      n: () => this.next(),
      p: () => this.goto((prompt?.index ?? 0) - 1),
      d: () => this.toggleDiff(),
      s: () => this.progressBar.toggleLock(),
      c: () => this.lanes.turnOf(event.target)?.copy?.(),
      r: () => this.lanes.turnOf(event.target)?.again?.(),
    }[event.key];
    action?.();
    return Boolean(action);
  }

  /** Keep what is there when the kernel is gone. */
  lose() {
    if (this.state) {
      for (const turn of this.state.turns) if (turn.phase && !turn.reason) Object.assign(turn, { reason: "interrupted", phase: null });
      this.state.busy = null;
      this.draw();
    }
    this.composer.disable();
    this.header.disable();
    this.votes.disable();
    this.lanes.freeze();
  }

  closeParts() {
    this.header.close();
    this.lanes.close();
  }
}
