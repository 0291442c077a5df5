/** Fields that follow the kernel, and leave alone what a person is typing. */
import { h } from "../view/dom.js";

/** Sets inputs from the kernel's values. */
export class Follower {
  constructor() {
    this.known = new Map();
  }

  /**
   * Set a field when the kernel's value is a new one: the picture may be older than what was just
   * typed and is on its way.
   */
  set(input, value, { force = false } = {}) {
    const text = value === null || value === undefined ? "" : String(value);
    if (input === document.activeElement && !force) return;
    if (force || this.known.get(input) !== text) input.value = text;
    this.known.set(input, text);
  }
}

/** A field with its name above. */
export function labelled(name, input, props = {}) {
  return h("label", { ...props, class: `wb-param ${props.class ?? ""}` }, h("span", {}, name), input);
}

/** Fill a list of models and choose one; a name that is not installed stays, and says so. */
export function fillModels(select, models, chosen, none = null) {
  const names = models.map((row) => row.name);
  const missing = chosen && !names.includes(chosen) ? [[chosen, `${chosen} (not installed)`]] : [];
  const first = none === null ? [] : [["", none]];
  const known = models.map((row) => [row.name, row.toy ? `${row.name} (toy)` : row.name]);
  const options = [...first, ...missing, ...known];
  const key = JSON.stringify(options);
  if (select.dataset.key !== key) {
    select.dataset.key = key;
    select.replaceChildren(...options.map(([value, text]) => h("option", { value }, text)));
  }
  if (select !== document.activeElement || select.value !== (chosen ?? "")) select.value = chosen ?? "";
}

/** The number in a field; null when it is empty, undefined when it is none. */
export function numberIn(input) {
  if (!input.checkValidity()) {
    input.reportValidity();
    return undefined;
  }
  return input.value === "" ? null : Number(input.value);
}
