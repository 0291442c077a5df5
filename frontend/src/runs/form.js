/** Starting a run: choose a plan, fill in its parameters. */
import { visible } from "../text.js";
import { h, iconButton, prose, setText, show, textButton } from "../view/dom.js";
import { makeField } from "./fields.js";
import { planCards } from "./plans.js";

/** The page with the form. */
export class FormPage {
  constructor(panel) {
    this.panel = panel;
    this.title = h("h2", { class: "wbr-title", tabindex: "-1" }, "New run");
    this.cards = h("div", {});
    this.path = h("input", { class: "wb-field", type: "text", "aria-label": "Path of a plan file", placeholder: "path/to/plan.yaml", autocomplete: "off", spellcheck: "false" });
    const open = (event) => {
      event.preventDefault();
      if (this.path.value.trim()) panel.openForm(this.path.value.trim());
    };
    this.chooser = h(
      "div",
      { class: "wbr-chooser" },
      h("h3", {}, "Choose a plan"),
      this.cards,
      h("form", { class: "wbr-path-form", on: { submit: open } }, this.path, h("button", { type: "submit", class: "wb-tb wbr-needs-kernel" }, "Open")),
    );
    this.goal = h("p", { class: "wbr-goal" });
    this.error = h("div", { class: "wbr-error", role: "alert", hidden: true });
    this.fields = h("div", { class: "wbr-fields" });
    this.submit = h("button", { type: "submit", class: "wb-tb wb-primary wbr-needs-kernel" }, "Start run");
    this.state = h("span", { class: "wbr-hint", role: "status" });
    this.form = h(
      "form",
      { class: "wbr-form", novalidate: true, "aria-label": "Parameters", on: { submit: (event) => this.#start(event) } },
      this.goal,
      this.fields,
      h("div", { class: "wbr-form-foot" }, this.submit, textButton("Another plan", () => this.#another()), this.state),
    );
    this.el = h(
      "div",
      { class: "wbr-page" },
      h("header", { class: "wbr-head wbr-run-head" }, iconButton("left", "Back to the runs", () => this.back()), h("div", { class: "wbr-title-box" }, this.title)),
      h("div", { class: "wbr-body" }, this.error, this.chooser, this.form),
    );
  }

  focus() {
    this.title.focus();
  }

  /** One step back: from the form to the runs. */
  back() {
    this.panel.closeForm();
  }

  #another() {
    this.panel.send({ t: "form", path: null });
    this.panel.openForm();
  }

  #start(event) {
    event.preventDefault();
    const values = Object.fromEntries([...this.made].map(([name, field]) => [name, field.value()]));
    this.panel.send({ t: "start", values });
  }

  update({ form, plans, models }) {
    const open = Boolean(form) && form.state !== "broken";
    show(this.chooser, !open);
    show(this.form, open);
    setText(this.title, open ? visible(`New run of ${form.name}`) : "New run");
    this.#drawError(form);
    if (!open) return this.#drawPlans(plans);
    this.#drawFields(form, models);
    const starting = form.state === "starting";
    this.submit.disabled = starting || this.panel.link.gone;
    setText(this.state, starting ? "Starting …" : "");
    return undefined;
  }

  #drawPlans(plans) {
    const state = JSON.stringify(plans);
    if (this.cards.dataset.state === state) return;
    this.cards.dataset.state = state;
    const cards = plans && planCards(this.panel, plans);
    const words = plans === null ? "Looking for plans …" : "There is no plan in this folder, and none in its folder plans.";
    this.cards.replaceChildren(cards || h("p", { class: "wbr-hint" }, words));
  }

  #drawError(form) {
    const state = JSON.stringify([form?.path, form?.text, form?.hint, form?.problems]);
    show(this.error, Boolean(form?.text));
    if (this.error.dataset.state === state) return;
    this.error.dataset.state = state;
    if (!form?.text) return;
    const problems = (form.problems ?? []).map(({ line, text, hint }) => h("li", {}, line ? h("strong", {}, `line ${line}: `) : "", ...prose(text), hint ? h("span", { class: "wbr-hint" }, " ", ...prose(hint)) : ""));
    this.error.replaceChildren(
      h("strong", {}, ...prose(form.text)),
      ...(form.hint ? [h("p", { class: "wbr-hint" }, ...prose(form.hint))] : []),
      ...(problems.length ? [h("ul", {}, ...problems)] : []),
      ...(form.state === "broken" ? [h("code", { class: "wbr-path" }, visible(form.path))] : []),
    );
  }

  /** Make the fields once for a plan: a person is filling them in. */
  #drawFields(form, models) {
    const state = JSON.stringify([form.path, form.fields]);
    if (this.fields.dataset.state !== state) {
      this.fields.dataset.state = state;
      this.tries = undefined;
      this.made = new Map(form.fields.map((field) => [field.name, makeField(field)]));
      this.fields.replaceChildren(...[...this.made.values()].map(({ el }) => el), ...(form.fields.length ? [] : [h("p", { class: "wbr-hint" }, "This plan has no parameters.")]));
      setText(this.goal, visible(form.goal));
      show(this.goal, Boolean(form.goal));
      ([...this.made.values()][0]?.input ?? this.submit).focus();
    }
    const first = Object.keys(form.errors)[0];
    for (const [name, field] of this.made) {
      field.offer?.(models ?? []);
      field.fail(form.errors[name] ?? null);
    }
    if (first && this.tries !== form.tries) this.made.get(first)?.input.focus();
    this.tries = form.tries;
  }
}
