/** The drawer of a participant: its model, system prompt, options, and whom it hears. */
import { h, iconButton, setText, show } from "../view/dom.js";
import { Drawer } from "../view/drawer.js";
import { FIELDS, THINK } from "../view/params.js";
import { fillModels, Follower, labelled, numberIn } from "./fields.js";

/** The drawer. */
export class PersonDrawer extends Drawer {
  /** @param {import("./panel.js").DialogueView} panel */
  constructor(panel) {
    super("right", "Participant");
    this.panel = panel;
    this.key = null;
    this.follower = new Follower();
    this.inputs = new Map();
    this.#build();
  }

  #build() {
    const on = { change: () => this.#send() };
    this.model = h("select", { class: "wb-field", "aria-label": "Model", on });
    this.fixed = h("p", { class: "wb-note", hidden: true }, "To give this role another model, use “Continue with another model” on a turn.");
    this.system = h("textarea", { class: "wb-field", rows: "4", "aria-label": "System prompt", placeholder: "None", on });
    this.think = h("select", { class: "wb-field", "aria-label": "Thinking", on }, ...THINK.map(([value, text]) => h("option", { value }, text)));
    this.keep = h("input", { class: "wb-field", "aria-label": "Keep in memory", placeholder: "default", title: "After a turn: seconds, or a duration such as 10m; 0 unloads at once", on });
    const fields = FIELDS.map(([name, label, limits, help]) => {
      const input = h("input", { class: "wb-field", type: "number", "aria-label": label, placeholder: "default", ...limits, on });
      this.inputs.set(name, input);
      return labelled(label, input, { title: help });
    });
    this.sees = h("select", { class: "wb-field", "aria-label": "Hears", on: { change: () => this.#seesChanged() } });
    this.others = h("div", { class: "wb-row", role: "group", "aria-label": "Hears these", hidden: true });
    this.share = h("input", { type: "checkbox", "aria-label": "Others hear its thinking", on });
    this.body.append(
      labelled("Model", this.model, { class: "wb-wide" }),
      this.fixed,
      labelled("System prompt", this.system, { class: "wb-wide" }),
      h("div", { class: "wb-params" }, ...fields, labelled("Thinking", this.think), labelled("Keep in memory", this.keep), labelled("Hears", this.sees)),
      this.others,
      h("label", { class: "wb-row wb-check" }, this.share, "Others hear its thinking"),
      h("p", { class: "wb-note" }, "Empty fields leave the model's default. Changes count from the next turn on."),
    );
    this.fields = [this.model, this.system, this.think, this.keep, this.sees, this.share, ...this.inputs.values()];
  }

  /** Open it for a participant; for the one that is shown, close it. */
  toggleFor(name) {
    if (this.open && this.key === name) return void this.hide();
    this.key = name;
    this.update(this.panel.state, true);
    this.show();
  }

  /** Make a button that opens it for a participant, whose name may change. */
  doorOf(label, name) {
    return this.door(iconButton("sliders", label, () => this.toggleFor(name())), () => this.key === name());
  }

  #person(state) {
    return state?.people?.find((person) => person.name === this.key);
  }

  update(state, force = false) {
    const person = this.#person(state);
    if (!person) {
      if (this.open) this.hide();
      return;
    }
    setText(this.el.querySelector("h2"), person.name);
    const begun = Boolean(state.run?.taken || state.run?.failed_turn);
    fillModels(this.model, state.models ?? [], person.model);
    show(this.fixed, begun);
    const set = (input, value) => this.follower.set(input, value, { force });
    set(this.system, person.system);
    set(this.think, person.think);
    set(this.keep, person.keep_alive);
    for (const [name, input] of this.inputs) set(input, person.options?.[name]);
    this.share.checked = Boolean(person.share_thinking);
    this.#drawSees(person, state.people, force);
    for (const field of this.fields) field.disabled = Boolean(state.conv.read_only);
    this.model.disabled ||= begun;
  }

  #drawSees(person, people, force) {
    const names = people.map((item) => item.name).filter((name) => name !== person.name);
    const key = JSON.stringify([person.name, names, person.sees]);
    if (this.seesKey === key && !force) return;
    this.seesKey = key;
    const some = Array.isArray(person.sees);
    const options = [["all", "Everybody"], ["opening", "Only the opening"], ["some", "Some of them"]];
    this.sees.replaceChildren(...options.map(([value, text]) => h("option", { value }, text)));
    this.sees.value = some ? "some" : (person.sees ?? "all");
    show(this.others, some);
    this.others.replaceChildren(
      ...names.map((name) => {
        const box = h("input", { type: "checkbox", value: name, "aria-label": `Hears ${name}`, on: { change: () => this.#send() } });
        box.checked = !some || person.sees.includes(name);
        return h("label", { class: "wb-row wb-check" }, box, name);
      }),
    );
  }

  #seesChanged() {
    show(this.others, this.sees.value === "some");
    this.#send();
  }

  #send() {
    const person = this.#person(this.panel.state);
    if (!person) return;
    const options = Object.fromEntries(Object.entries(person.options ?? {}).filter(([name]) => !this.inputs.has(name)));
    for (const [name, input] of this.inputs) {
      const value = numberIn(input);
      if (value === undefined) return;
      if (value !== null) options[name] = value;
    }
    const think = { "": null, true: true, false: false }[this.think.value];
    const keep = this.keep.value.trim();
    const names = [...this.others.querySelectorAll("input:checked")].map((box) => box.value);
    const fields = {
      system: this.system.value,
      options,
      think: think === undefined ? this.think.value : think,
      keep_alive: keep === "" ? null : Number.isFinite(Number(keep)) ? Number(keep) : keep,
      sees: this.sees.value === "some" ? names : this.sees.value,
      share_thinking: this.share.checked,
    };
    if (this.model.value !== person.model) fields.model = this.model.value;
    this.panel.send({ t: "adjust", name: person.name, fields });
  }
}
