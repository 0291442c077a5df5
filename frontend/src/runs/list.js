/** The list of runs, the newest first. */
import { visible } from "../text.js";
import { h, icon, iconButton, setText, show, textButton } from "../view/dom.js";
import { glyph, stateGlyph } from "./glyphs.js";
import { moveAlong, rove } from "./keys.js";
import { planCards } from "./plans.js";
import { badge, chosen, doing, GROUPS, moment, RUNS, shortId, stateOf, ticking, time, took, isActive } from "./words.js";

/** The first page. */
export class ListPage {
  constructor(panel) {
    this.panel = panel;
    this.group = "all";
    this.plan = "";
    this.rows = new Map();
    this.badge = h("span", { class: "wbr-badges", role: "status", "aria-label": "Runs that need a look" });
    this.groups = new Map(Object.keys(GROUPS).map((name) => [name, h("button", { type: "button", class: "wbr-group", on: { click: () => this.#choose(name) } })]));
    this.select = h("select", { class: "wb-field wbr-select", "aria-label": "Plan", on: { change: () => this.#choose(this.group) } });
    this.start = h(
      "button",
      { type: "button", class: "wb-tb wbr-start wbr-needs-kernel", "aria-label": "New run", on: { click: () => panel.openForm() } },
      icon("plus"),
      h("span", {}, "New run"),
    );
    this.none = h("p", { class: "wbr-none", hidden: true });
    this.body = h("ul", { class: "wbr-list", "aria-label": "Runs", on: { keydown: (event) => moveAlong(event, this.buttons()) } });
    this.more = textButton("List older runs", () => panel.send({ t: "more" }), { class: "wbr-more", hidden: true });
    this.empty = h("div", { class: "wbr-empty", hidden: true });
    this.foot = h("p", { class: "wbr-foot" });
    this.filters = h("div", { class: "wbr-filters" }, h("div", { class: "wbr-groups", role: "group", "aria-label": "Show" }, ...this.groups.values()), this.select);
    this.el = h(
      "div",
      { class: "wbr-page" },
      h(
        "header",
        { class: "wbr-head" },
        h("div", { class: "wbr-title-box" }, h("h2", { class: "wbr-title" }, "Runs"), this.badge),
        this.start,
        iconButton("redo", "Refresh", () => panel.send({ t: "refresh" }), { class: "wbr-needs-kernel" }),
      ),
      h("div", { class: "wbr-body" }, this.filters, this.body, this.none, this.more, this.empty),
      this.foot,
    );
  }

  buttons() {
    return [...this.body.querySelectorAll(".wbr-run")].filter((el) => !el.parentElement.hidden);
  }

  #choose(group) {
    this.group = group;
    this.plan = this.select.value;
    this.#filter();
  }

  /** Put the focus on a run, or on what is first. */
  focusOn(id) {
    const row = this.rows.get(id)?.button;
    (row && !row.parentElement.hidden ? rove(this.buttons(), row) : this.start).focus();
  }

  update({ store, plans }) {
    const runs = this.panel.runs;
    const nothing = store.state === "empty" && !runs.length;
    show(this.empty, nothing);
    show(this.filters, !nothing);
    show(this.body, !nothing);
    if (nothing) this.#fillEmpty(plans);
    this.#drawBadge(runs);
    this.#drawRows(runs);
    this.#drawSelect(runs);
    this.#filter();
    show(this.more, store.more > 0);
    setText(this.more, `List older runs (${store.more ?? 0} more)`);
    setText(this.foot, visible(store.folder));
    this.foot.title = visible(store.folder);
  }

  #drawBadge(runs) {
    const told = badge(runs);
    const state = JSON.stringify(told);
    if (this.badge.dataset.state === state) return;
    this.badge.dataset.state = state;
    this.badge.replaceChildren(...told.map(({ kind, text }) => h("span", { class: "wbr-badge", "data-kind": kind }, glyph(kind === "ask" ? "ask" : "running", kind), text)));
  }

  #drawSelect(runs) {
    const plans = [...new Set(runs.map(({ plan }) => plan).filter(Boolean))].sort();
    const state = JSON.stringify(plans);
    show(this.select, plans.length > 1);
    if (this.select.dataset.state === state) return;
    this.select.dataset.state = state;
    this.select.replaceChildren(h("option", { value: "" }, "All plans"), ...plans.map((name) => h("option", { value: name }, visible(name))));
    this.select.value = plans.includes(this.plan) ? this.plan : "";
  }

  #drawRows(runs) {
    const known = new Set(runs.map(({ id }) => id));
    for (const [id, row] of this.rows) {
      if (known.has(id)) continue;
      row.el.remove();
      this.rows.delete(id);
    }
    for (const run of runs) {
      if (!this.rows.has(run.id)) this.rows.set(run.id, new RunRow(this.panel, run));
      this.rows.get(run.id).update(run, this.panel.now());
    }
    const wanted = [...this.rows.values()].sort((a, b) => (a.run.id < b.run.id ? 1 : -1)).map(({ el }) => el);
    wanted.forEach((el, index) => {
      if (this.body.children[index] !== el) this.body.insertBefore(el, this.body.children[index] ?? null);
    });
  }

  #filter() {
    const runs = this.panel.runs;
    const found = new Set(chosen(runs, this).map(({ id }) => id));
    for (const [id, { el }] of this.rows) show(el, found.has(id));
    for (const [name, button] of this.groups) {
      const count = chosen(runs, { group: name, plan: this.plan }).length;
      setText(button, `${GROUPS[name][0]} ${count}`);
      button.setAttribute("aria-pressed", String(name === this.group));
    }
    show(this.none, runs.length > 0 && !found.size);
    setText(this.none, "No run is like this.");
    rove(this.buttons());
  }

  #fillEmpty(plans) {
    if (plans === null && !this.asked) this.asked = this.panel.send({ t: "plans" });
    const state = JSON.stringify(plans);
    if (this.empty.dataset.state === state) return;
    this.empty.dataset.state = state;
    const steps = h("div", { class: "wbr-sketch", "aria-hidden": "true" }, ...["done", "done", "running", "pending"].map((status) => h("span", {}, stateGlyph(status))));
    const cards = planCards(this.panel, plans ?? []);
    this.empty.replaceChildren(
      steps,
      h("h3", {}, "No run yet"),
      h("p", {}, "A plan is a file of steps that ask models, run code, check results and wait for your word. A run of it goes on when the notebook is closed, and is resumed where it stopped."),
      ...(cards ? [h("p", {}, "Start one of these, or one of your own:"), cards] : [plans === null ? h("p", {}, "Looking for plans …") : textButton("Choose a plan", () => this.panel.openForm(), { class: "wb-primary" })]),
      h("pre", { class: "wbr-example" }, "workbench run plan.yaml"),
    );
  }

  tick() {
    for (const row of this.rows.values()) if (!row.el.hidden) row.tick(this.panel.now());
  }
}

/** One run. */
class RunRow {
  constructor(panel, run) {
    this.state = h("span", { class: "wbr-state" });
    this.name = h("span", { class: "wbr-name" }, visible(run.name || run.plan || "unknown plan"));
    this.id = h("span", { class: "wbr-id", title: run.id }, shortId(visible(run.id)));
    this.fill = h("span", { class: "wbr-fill" });
    this.bar = h("span", { class: "wbr-bar", "aria-hidden": "true" }, this.fill);
    this.steps = h("span", { class: "wbr-steps" });
    this.doing = h("span", { class: "wbr-doing" });
    this.when = h("span", { class: "wbr-when" });
    this.took = h("span", { class: "wbr-took" });
    this.button = h(
      "button",
      { type: "button", class: "wbr-run", tabindex: "-1", on: { click: () => panel.openRun(run.id) } },
      this.state,
      h("span", { class: "wbr-who" }, h("span", { class: "wbr-name-line" }, this.name, this.id), this.doing),
      h("span", { class: "wbr-progress" }, this.bar, this.steps),
      this.when,
      this.took,
    );
    this.el = h("li", {}, this.button);
  }

  update(run, now) {
    const state = JSON.stringify(run);
    this.run = run;
    if (this.shown === state) return this.tick(now);
    this.shown = state;
    const { word } = stateOf(RUNS, run.status);
    this.button.dataset.status = run.status;
    this.state.replaceChildren(stateGlyph(run.asks.length ? "waiting" : run.status, RUNS), h("span", {}, word));
    setText(this.doing, doing(run));
    this.doing.title = doing(run);
    show(this.doing, Boolean(doing(run)));
    show(this.bar, run.total > 0);
    this.fill.style.width = `${run.total ? (run.done / run.total) * 100 : 0}%`;
    setText(this.steps, run.total ? `${run.done} of ${run.total}` : "");
    return this.tick(now);
  }

  tick(now) {
    const { run } = this;
    const took_s = took(run, now);
    setText(this.when, moment(run.started ?? run.created, now));
    setText(this.took, took_s === null ? "" : isActive(run) ? ticking(took_s) : time(took_s));
    const { word } = stateOf(RUNS, run.status);
    const parts = [this.name.textContent, word, run.total ? `${run.done} of ${run.total} steps` : "", doing(run), `started ${this.when.textContent}`];
    const label = parts.filter(Boolean).join(", ");
    if (this.button.getAttribute("aria-label") !== label) this.button.setAttribute("aria-label", label);
  }
}
