/** What a run was given and where it lies: for those who want to know. */
import { visible } from "../text.js";
import { h, show } from "../view/dom.js";
import { moment } from "./words.js";

/** The part below the steps. */
export class Facts {
  constructor(panel) {
    this.panel = panel;
    this.goal = h("p", { class: "wbr-goal" });
    this.trouble = h("p", { class: "wbr-hint" });
    this.body = h("div", {});
    this.details = h("details", { class: "wbr-facts" }, h("summary", {}, "About this run"), this.body);
    this.el = h("div", { class: "wbr-about" }, this.goal, this.trouble, this.details);
  }

  update(run, row) {
    const shown = JSON.stringify([run, row.mode]);
    if (this.shown === shown) return;
    this.shown = shown;
    this.goal.textContent = visible(run.goal);
    show(this.goal, Boolean(run.goal));
    this.trouble.textContent = run.trouble ? `The plan cannot be read as a whole: ${visible(run.trouble)}` : "";
    show(this.trouble, Boolean(run.trouble));
    const now = this.panel.now();
    const facts = [
      ["run", run.id],
      ["folder", run.folder],
      ["notebook", run.notebook],
      ["started by", run.who],
      ["begun", run.executions.map((at) => moment(at, now)).join(", ")],
      ["replay of", run.replay_of],
      ["part of", run.parent],
      ["plan hash", run.plan_hash],
      ["run key", run.run_key],
      ["not replayable", run.not_replayable.join("; ")],
    ].filter(([, value]) => value);
    const params = Object.entries(run.params).map(([name, value]) => [name, paramText(value)]);
    this.body.replaceChildren(
      ...(params.length ? [h("h4", {}, "Parameters"), pairs(params)] : []),
      h("h4", {}, "Identity"),
      pairs(facts),
      ...(run.log ? [h("h4", {}, "Last words of its process"), h("pre", { class: "wbr-text", tabindex: "0" }, visible(run.log))] : []),
    );
  }
}

/** A value as a person reads it; of a secret only where it stands. */
function paramText(value) {
  if (typeof value === "string") return value;
  if (value && typeof value === "object" && Object.keys(value).join() === "env") return `from the environment: ${value.env}`;
  if (Array.isArray(value) && value.every((item) => typeof item !== "object")) return value.join(", ");
  return JSON.stringify(value);
}

/** Names and values in two columns. */
export function pairs(rows) {
  return h("dl", { class: "wbr-pairs" }, ...rows.flatMap(([name, value]) => [h("dt", {}, visible(name)), h("dd", {}, visible(value))]));
}
