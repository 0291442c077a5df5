/** The drawer of parameters: system prompt, options and presets; an empty field is the model's default. */
import { h, setText, show, textButton } from "./dom.js";
import { Drawer } from "./drawer.js";

/** Options with a field: name, label, limits, help. */
export const FIELDS = [
  ["temperature", "Temperature", { min: 0, max: 5, step: 0.05 }, "Higher is more varied"],
  ["top_p", "Top p", { min: 0, max: 1, step: 0.01 }, "Share of likely words kept"],
  ["top_k", "Top k", { min: 0, step: 1 }, "Number of likely words kept"],
  ["repeat_penalty", "Repeat penalty", { min: 0, max: 5, step: 0.05 }, "Above 1 avoids repetition"],
  ["num_ctx", "Context length", { min: 1, step: 1 }, "Tokens; changing it loads the model again"],
  ["num_predict", "Longest answer", { min: -2, step: 1 }, "Tokens"],
  ["seed", "Seed", { step: 1 }, "The same seed repeats an answer"],
];
/** How hard a model thinks: value and label. */
export const THINK = [
  ["", "Model's default"],
  ["true", "On"],
  ["false", "Off"],
  ["low", "Low"],
  ["medium", "Medium"],
  ["high", "High"],
];

/** The drawer. */
export class ParamsDrawer extends Drawer {
  constructor(chat) {
    super("right", "Parameters");
    this.chat = chat;
    this.inputs = new Map();
    this.#build();
  }

  #build() {
    const changed = () => this.#send();
    this.system = h("textarea", {
      class: "wb-field",
      rows: "5",
      "aria-label": "System prompt",
      placeholder: "None",
      on: { change: changed },
    });
    this.think = h(
      "select",
      { class: "wb-field", "aria-label": "Thinking", on: { change: changed } },
      ...THINK.map(([value, text]) => h("option", { value }, text)),
    );
    const fields = FIELDS.map(([name, label, limits, help]) => {
      const input = h("input", {
        class: "wb-field",
        type: "number",
        "aria-label": label,
        placeholder: "default",
        ...limits,
        on: { change: changed },
      });
      this.inputs.set(name, input);
      return h("label", { class: "wb-param", title: help }, h("span", {}, label), input);
    });
    this.body.append(
      this.#presets(),
      h("label", { class: "wb-param wb-wide" }, h("span", {}, "System prompt"), this.system),
      h(
        "div",
        { class: "wb-params" },
        ...fields,
        h("label", { class: "wb-param" }, h("span", {}, "Thinking"), this.think),
      ),
      h(
        "p",
        { class: "wb-note" },
        "Empty fields leave the model's default. Changes count from the next answer on.",
      ),
    );
    this.fields = [this.system, this.think, ...this.inputs.values()];
    this.known = new Map();
  }

  #presets() {
    this.preset = h("select", {
      class: "wb-field",
      "aria-label": "Preset",
      on: { change: () => this.#use() },
    });
    this.name = h("input", {
      class: "wb-field",
      "aria-label": "Preset name",
      placeholder: "Name",
      on: { keydown: (e) => e.key === "Enter" && this.#save() },
    });
    this.remove = textButton("Delete preset", () => this.#delete(), { text: "Delete" });
    this.saveRow = h(
      "div",
      { class: "wb-row", hidden: true },
      this.name,
      textButton("Save preset as named", () => this.#save(), { text: "Save", class: "wb-primary" }),
    );
    const open = textButton("Save as preset", () => this.#askName(), { text: "Save …" });
    return h(
      "div",
      { class: "wb-presets" },
      h(
        "label",
        { class: "wb-param wb-wide" },
        h("span", {}, "Preset"),
        h("div", { class: "wb-row" }, this.preset, open, this.remove),
      ),
      this.saveRow,
    );
  }

  #askName() {
    show(this.saveRow, this.saveRow.hidden);
    this.name.value = this.preset.value;
    this.name.focus();
  }

  #use() {
    if (this.preset.value) this.chat.send({ t: "preset", op: "use", name: this.preset.value });
  }

  #save() {
    const name = this.name.value.trim();
    if (!name) return;
    this.#send();
    this.chat.send({ t: "preset", op: "save", name });
    show(this.saveRow, false);
  }

  #delete() {
    if (this.preset.value) this.chat.send({ t: "preset", op: "delete", name: this.preset.value });
  }

  #send() {
    const params = {};
    for (const [name, input] of this.inputs) {
      if (!input.checkValidity()) {
        input.reportValidity();
        return;
      }
      if (input.value !== "") params[name] = Number(input.value);
    }
    const think = this.think.value;
    this.chat.send({
      t: "config",
      system: this.system.value,
      params: { ...this.#others(), ...params },
      think: think === "" ? null : think === "true" ? true : think === "false" ? false : think,
    });
  }

  /** Options set from Python that have no field here stay. */
  #others() {
    const all = Object.entries(this.chat.state?.params ?? {});
    return Object.fromEntries(all.filter(([name]) => !this.inputs.has(name)));
  }

  update(state) {
    const other = state.conv.cid !== this.cid;
    this.cid = state.conv.cid;
    // A field follows the kernel only when the kernel's value is a new one: the state may be older
    // than what was just typed here and is still on its way.
    const set = (input, value) => {
      const text = value === null || value === undefined ? "" : String(value);
      if (input === document.activeElement) return;
      if (other || this.known.get(input) !== text) input.value = text;
      this.known.set(input, text);
    };
    set(this.system, state.system);
    set(this.think, state.think);
    for (const [name, input] of this.inputs) set(input, state.params?.[name]);
    this.#updatePresets(state);
    for (const field of this.fields) field.disabled = Boolean(state.conv.read_only);
  }

  #updatePresets(state) {
    const names = (state.presets ?? []).map((preset) => preset.name);
    const key = names.join("\n");
    if (key !== this.key) {
      this.key = key;
      const first = h("option", { value: "" }, names.length ? "None" : "None saved yet");
      this.preset.replaceChildren(first, ...names.map((name) => h("option", { value: name }, name)));
    }
    this.preset.value = names.includes(state.preset) ? state.preset : "";
    this.remove.disabled = !this.preset.value;
    setText(this.preset.options[0], names.length ? "None" : "None saved yet");
  }
}
