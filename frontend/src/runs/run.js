/** One run: what it is at, what it asks, its steps as a graph or in time, and what can be done. */
import { visible } from "../text.js";
import { copyText, flash, h, icon, iconButton, prose, setText, show, textButton } from "../view/dom.js";
import { Asks } from "./ask.js";
import { Facts } from "./facts.js";
import { stateGlyph } from "./glyphs.js";
import { Graph } from "./graph.js";
import { Timeline } from "./gantt.js";
import { canResume, errorWords, isActive, moment, RUNS, stateOf, ticking, time, took } from "./words.js";

const VIEWS = { graph: "Graph", time: "Timeline" };
const ACTS = { cancel: "stopping …", resume: "starting …" };

/** The page of a run. */
export class RunPage {
  constructor(panel) {
    this.panel = panel;
    this.view = "graph";
    this.title = h("h2", { class: "wbr-title", tabindex: "-1" });
    this.chip = h("span", { class: "wbr-chip" });
    this.meta = h("span", { class: "wbr-hint wbr-meta" });
    this.resume = textButton("Resume", () => panel.send({ t: "resume", run: panel.openId }), { class: "wb-primary wbr-needs-kernel" });
    this.cancel = textButton("Cancel run", () => this.#askCancel(), { text: "Cancel", class: "wbr-needs-kernel" });
    this.open = h("button", { type: "button", class: "wb-tb wbr-open", "aria-label": "Open notebook", on: { click: () => panel.openNotebook() } }, icon("file"), h("span", {}, "Notebook"));
    this.question = h("div", { class: "wbr-question", role: "alertdialog", "aria-label": "Cancel this run?", hidden: true });
    this.path = h("p", { class: "wbr-notebook", hidden: true });
    this.error = h("div", { class: "wbr-error", role: "note", "aria-label": "Error of the run", hidden: true });
    this.asks = new Asks(panel);
    this.graph = new Graph(panel);
    this.timeline = new Timeline(panel);
    this.facts = new Facts(panel);
    this.views = new Map(Object.entries(VIEWS).map(([name, label]) => [name, h("button", { type: "button", class: "wbr-group", on: { click: () => this.choose(name) } }, label)]));
    this.reading = h("p", { class: "wbr-waiting", hidden: true }, h("span", { class: "wb-pulse", "aria-hidden": "true" }), "Reading the run …");
    this.steps = h("div", { class: "wbr-views" }, h("h3", {}, "Steps"), h("div", { class: "wbr-groups", role: "group", "aria-label": "Show steps as" }, ...this.views.values()));
    this.body = h("div", { class: "wbr-body" }, this.question, this.path, this.asks.el, this.error, this.steps, this.graph.el, this.timeline.el, this.facts.el, this.reading);
    this.el = h(
      "div",
      { class: "wbr-page" },
      h(
        "header",
        { class: "wbr-head wbr-run-head" },
        iconButton("left", "Back to the runs", () => panel.openRun(null)),
        h("div", { class: "wbr-title-box" }, this.title, this.chip, this.meta),
        this.resume,
        this.cancel,
        this.open,
      ),
      this.body,
    );
    this.choose("graph");
  }

  focus() {
    this.title.focus({ preventScroll: true });
  }

  /** Show the steps as a graph, or in time. */
  choose(view) {
    this.view = view;
    for (const [name, button] of this.views) button.setAttribute("aria-pressed", String(name === view));
    show(this.graph.el, view === "graph");
    show(this.timeline.el, view === "time");
    if (this.panel.picture?.run) this.update(this.panel.picture);
  }

  /** Put the focus back on a step. */
  focusStep(id) {
    (this.view === "graph" ? this.graph : this.timeline).focusOn(id);
  }

  update(picture) {
    const row = this.panel.run;
    const ready = Boolean(picture.run) && picture.run.id === this.panel.openId;
    const broken = row?.status === "broken";
    show(this.reading, !ready && !broken);
    for (const el of [this.steps, this.facts.el]) show(el, ready);
    show(this.graph.el, ready && this.view === "graph");
    show(this.timeline.el, ready && this.view === "time");
    show(this.open, ready && Boolean(picture.run.notebook));
    if (this.shownId !== this.panel.openId) this.#newRun();
    if (!row) return;
    this.#head(row, picture);
    this.#error(row);
    this.asks.update(ready ? picture : null, row);
    if (!ready) return;
    const part = this.view === "graph" ? this.graph : this.timeline;
    part.update(picture.run);
    this.facts.update(picture.run, row);
  }

  #newRun() {
    this.shownId = this.panel.openId;
    this.dropQuestion();
    show(this.path, false);
    this.body.scrollTop = 0;
  }

  #head(row, { acts }) {
    const { word, tells, kind } = stateOf(RUNS, row.status);
    const act = acts[row.id];
    const shown = `${row.status} ${act}`;
    setText(this.title, visible(row.name || row.plan || "unknown plan"));
    if (this.chip.dataset.shown !== shown) {
      this.chip.dataset.shown = shown;
      this.chip.dataset.kind = kind;
      this.chip.title = tells;
      this.chip.replaceChildren(stateGlyph(row.status, RUNS), h("span", {}, act ? ACTS[act] : word));
    }
    show(this.cancel, isActive(row));
    show(this.resume, canResume(row));
    if (this.panel.link.gone) return this.tick();
    this.cancel.disabled = Boolean(act);
    this.resume.disabled = Boolean(act);
    if (!isActive(row)) this.dropQuestion();
    return this.tick();
  }

  #error(row) {
    const state = JSON.stringify([row.error, row.status]);
    show(this.error, Boolean(row.error) && ["failed", "broken", "lost"].includes(row.status));
    if (this.error.dataset.state === state || !row.error) return;
    this.error.dataset.state = state;
    this.error.replaceChildren(
      h("strong", {}, errorWords(row.error.type)),
      h("p", {}, ...prose(row.error.message)),
      row.error.hint ? h("p", { class: "wbr-hint" }, ...prose(row.error.hint)) : "",
    );
  }

  #askCancel() {
    const drop = () => {
      this.dropQuestion();
      this.cancel.focus();
    };
    const yes = textButton("Cancel the run", () => {
      this.dropQuestion();
      this.panel.send({ t: "cancel", run: this.panel.openId });
      this.title.focus();
    }, { class: "wb-danger" });
    const no = textButton("Go on", drop);
    this.question.replaceChildren(h("p", {}, "Cancel this run? Steps at work are broken off; what is done is kept, and the run can be resumed."), h("div", { class: "wb-row" }, yes, no));
    show(this.question, true);
    no.focus();
  }

  /** Take the question back; says whether there was one. */
  dropQuestion() {
    if (this.question.hidden) return false;
    const inside = this.question.contains(document.activeElement);
    show(this.question, false);
    if (inside) this.cancel.focus();
    return true;
  }

  /** Show where the notebook lies, to be copied. */
  showPath() {
    const { notebook } = this.panel.picture.run;
    const copy = iconButton("copy", "Copy the path", async () => (await copyText(notebook)) && flash(copy, "check", "Copied"));
    this.path.replaceChildren("The notebook of this run: ", h("code", { class: "wbr-path" }, visible(notebook)), copy);
    show(this.path, true);
    copy.focus();
  }

  tick() {
    const { panel } = this;
    const row = panel.run;
    if (!row) return;
    const now = panel.now();
    const seconds = took(row, now);
    const parts = [
      row.name ? visible(row.plan) : "",
      row.total ? `${row.done} of ${row.total} steps` : "",
      `started ${moment(row.started ?? row.created, now)}`,
      seconds === null ? "" : isActive(row) ? ticking(seconds) : time(seconds),
      row.mode === "replay" ? "a replay" : "",
    ];
    setText(this.meta, parts.filter(Boolean).join(" · "));
    if (!panel.picture.run || !isActive(row)) return;
    if (this.view === "graph") this.graph.tick();
    else this.timeline.tick();
  }

  close() {
    this.graph.close();
  }
}
