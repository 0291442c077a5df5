/** A field for each type of parameter, with its help and its error beside it. */
import { visible } from "../text.js";
import { h, prose, show } from "../view/dom.js";

let made = 0;

/**
 * Make a field.
 * @param {object} field `{name, type, help, required, default, choices, env, env_set}`
 * @returns {{el: HTMLElement, input: HTMLElement, value: () => any, fail: (error: object|null) => void, offer?: (models: string[]) => void}}
 */
export function makeField(field) {
  made += 1;
  const id = `wbr-field-${made}`;
  const control = controlOf(field, id);
  const help = h("p", { class: "wbr-hint", id: `${id}-help` }, visible(helpOf(field)));
  const error = h("p", { class: "wbr-field-error", id: `${id}-error`, role: "alert", hidden: true });
  control.input.setAttribute("aria-describedby", `${id}-help ${id}-error`);
  const label = h("label", { for: control.group ? null : id, id: `${id}-label` }, visible(field.name), field.required ? h("span", { class: "wbr-must", title: "needed" }, " needed") : null);
  const el = h("div", { class: "wbr-field", "data-type": field.type, "data-name": field.name }, label, control.el, help, error);
  if (control.group) control.el.setAttribute("aria-labelledby", `${id}-label`);
  show(help, Boolean(help.textContent));
  return {
    ...control,
    el,
    fail(found) {
      show(error, Boolean(found));
      error.replaceChildren(...prose(found ? [found.text, found.hint].filter(Boolean).join(" ") : ""));
      if (found) control.input.setAttribute("aria-invalid", "true");
      else control.input.removeAttribute("aria-invalid");
    },
  };
}

function helpOf({ type, help, env, env_set: set }) {
  const kinds = { int: "A whole number.", float: "A number.", file: "Path of a file, from the folder of this notebook.", "list[int]": "Whole numbers, one per line.", "list[float]": "Numbers, one per line.", "list[str]": "One per line." };
  const told = sentence(help);
  if (type === "secret") return [told, `Name of the environment variable that holds it; the value itself is never stored.${env ? ` ${env} is ${set ? "set" : "not set"} here.` : ""}`].filter(Boolean).join(" ");
  return [told, kinds[type]].filter(Boolean).join(" ");
}

/** A help text as a sentence, whatever its author wrote. */
function sentence(text) {
  const trimmed = text.trim();
  return trimmed && trimmed[0].toUpperCase() + trimmed.slice(1) + (/[.!?:]$/.test(trimmed) ? "" : ".");
}

function controlOf(field, id) {
  if (field.type === "bool") return checkbox(field, id);
  if (field.type === "choice") return choice(field, id);
  if (field.type === "model") return modelInput(field, id);
  if (field.type === "list[model]") return modelList(field);
  if (field.type.startsWith("list[")) return lines(field, id);
  return line(field, id);
}

function line({ type, default: value, env }, id) {
  const modes = { int: "numeric", float: "decimal" };
  const text = type === "secret" ? (env ?? "") : (value ?? "");
  const input = h("input", { class: "wb-field", id, type: "text", inputmode: modes[type] ?? null, value: String(text), autocomplete: "off", spellcheck: type === "str" ? null : "false" });
  return { el: input, input, value: () => input.value };
}

function lines({ default: value }, id) {
  const input = h("textarea", { class: "wb-field wbr-lines-field", id, rows: String(Math.min(8, Math.max(2, (value ?? []).length + 1))), spellcheck: "false", value: (value ?? []).join("\n") });
  return { el: input, input, value: () => input.value.split("\n").filter((text) => text.trim()) };
}

function checkbox({ default: value }, id) {
  const input = h("input", { type: "checkbox", class: "wbr-check", id });
  input.checked = Boolean(value);
  return { el: input, input, value: () => input.checked };
}

function choice({ default: value, choices, required }, id) {
  const input = h("select", { class: "wb-field", id }, ...(value === null ? [h("option", { value: "" }, required ? "Choose …" : "None")] : []), ...choices.map((one) => h("option", { value: one }, visible(one))));
  input.value = value ?? "";
  return { el: input, input, value: () => input.value || null };
}

/** A name can always be written; the models that are there are offered. */
function modelInput({ default: value }, id) {
  const list = h("datalist", { id: `${id}-models` });
  const input = h("input", { class: "wb-field", id, type: "text", list: `${id}-models`, value: value ?? "", autocomplete: "off", spellcheck: "false", placeholder: "Name of a model" });
  return { el: h("div", {}, input, list), input, value: () => input.value, offer: (models) => offer(list, models) };
}

function offer(list, models) {
  if (list.childElementCount !== models.length) list.replaceChildren(...models.map((name) => h("option", { value: name })));
}

/** Models to tick, and a line for others. */
function modelList({ default: value }) {
  const ticked = new Set(value ?? []);
  const boxes = h("div", { class: "wbr-ticks" });
  const input = h("input", { class: "wb-field", type: "text", "aria-label": "Other models, separated by commas", placeholder: "Other models, separated by commas", autocomplete: "off", spellcheck: "false", value: [...ticked].join(", ") });
  let known = [];
  const written = () => input.value.split(",").map((name) => name.trim()).filter(Boolean);
  const value_ = () => [...known.filter((name) => ticked.has(name)), ...written()];
  const draw = (models) => {
    if (models.join() === known.join()) return;
    const all = value_();
    known = models;
    ticked.clear();
    all.forEach((name) => ticked.add(name));
    input.value = all.filter((name) => !models.includes(name)).join(", ");
    boxes.replaceChildren(...models.map((name) => tick(name, ticked)));
  };
  return { el: h("div", { role: "group" }, boxes, input), input, group: true, value: value_, offer: draw };
}

function tick(name, ticked) {
  const box = h("input", { type: "checkbox", class: "wbr-check", on: { change: () => (box.checked ? ticked.add(name) : ticked.delete(name)) } });
  box.checked = ticked.has(name);
  return h("label", { class: "wbr-choice" }, box, visible(name));
}
