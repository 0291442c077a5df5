/** What stands below a row: a question, or how the last action ended. */
import { memory, visible } from "../text.js";
import { h, iconButton, prose, setText, textButton } from "../view/dom.js";
import { swatch } from "./swatch.js";
import { about, names, noteText, short } from "./words.js";

/** The space below a model. */
export class Strip {
  constructor(row) {
    this.row = row;
    this.el = h("div", { class: "wbm-strip" });
    this.deleting = false;
  }

  /** Ask whether the model's files may go. */
  askDelete() {
    this.deleting = true;
    this.#draw();
    this.el.querySelector("button")?.focus();
  }

  /** @param {object} model @param {object|undefined} old */
  update(model, old) {
    const key = JSON.stringify([model.ask, model.note, model.warnings]);
    if (key === this.key) return;
    this.key = key;
    if (model.note && JSON.stringify(model.note) !== JSON.stringify(old?.note)) this.deleting = false;
    this.#draw();
    if (model.note && old) this.row.panel.say(`${short(model.name)}: ${noteText(model.note)}`);
    if (model.ask && !old?.ask) {
      const out = names((model.ask.evict ?? []).map((item) => item.model));
      this.row.panel.say(`Loading ${short(model.name)} takes out ${out || "others"}. Shall it?`);
      if (this.row.el.contains(document.activeElement)) this.el.querySelector("button")?.focus();
    }
  }

  #draw() {
    const { row: model } = this.row;
    const had = this.el.contains(document.activeElement);
    const parts = [];
    if (this.deleting) parts.push(this.#deleteQuestion(model));
    if (model.ask) parts.push(this.#swapQuestion(model, model.ask));
    for (const text of model.warnings ?? []) parts.push(h("p", { class: "wbm-note", "data-level": "warn" }, visible(text)));
    if (model.note) parts.push(this.#note(model.note));
    this.el.replaceChildren(...parts);
    if (had && !this.el.contains(document.activeElement)) this.row.el.focus();
  }

  #note(note) {
    const level = note.level ?? "info";
    return h(
      "div",
      { class: "wbm-note", "data-level": level, role: level === "error" ? "alert" : "status" },
      h(
        "div",
        {},
        h("span", {}, visible(noteText(note))),
        note.hint && h("span", { class: "wbm-hint" }, ` `, ...prose(note.hint)),
      ),
      iconButton("close", `Dismiss note on ${visible(short(this.row.row.name))}`, () => this.row.send("dismiss")),
    );
  }

  #swapQuestion(model, plan) {
    const name = visible(short(model.name));
    const victims = plan.evict ?? [];
    const rows = victims.map((item) =>
      h(
        "li",
        {},
        swatch(this.row.panel.rowOf(item.model, item.backend)),
        h("strong", {}, visible(short(item.model))),
        h(
          "span",
          { class: "wbm-hint" },
          [item.bytes && memory(item.bytes), item.reload_s && `loads again in ${about(item.reload_s)}`, item.reason && visible(item.reason)]
            .filter(Boolean)
            .join(" · "),
        ),
      ),
    );
    const numbers = [
      plan.needed_bytes && `It needs ${memory(plan.needed_bytes)}`,
      typeof plan.free_bytes === "number" && `${memory(plan.free_bytes)} ${plan.free_bytes === 1 ? "is" : "are"} free`,
      plan.estimated_s && `the swap takes ${about(plan.estimated_s)}`,
    ].filter(Boolean);
    const out = names(victims.map((item) => item.model)) || "others";
    return h(
      "div",
      { class: "wbm-ask", role: "group", "aria-label": `Swap for ${name}` },
      h("p", {}, victims.length ? `Loading ${name} takes out of memory:` : `Loading ${name} needs your consent.`),
      victims.length && h("ul", { class: "wbm-victims" }, ...rows),
      numbers.length && h("p", { class: "wbm-hint" }, `${numbers.join(", ")}.`),
      h(
        "div",
        { class: "wb-row" },
        textButton(`Swap: load ${name} and unload ${out}`, () => this.row.send("load", { swap: true }), {
          class: "wb-primary",
          text: `Unload ${out} and load`,
        }),
        textButton(`Keep ${out} in memory`, () => this.row.send("dismiss"), { text: "Leave as it is" }),
      ),
    );
  }

  #deleteQuestion(model) {
    const name = visible(short(model.name));
    const text = h("p", {});
    setText(text, `Delete ${name} from disk${model.size ? `, ${memory(model.size)}` : ""}? It must be downloaded again to be used.`);
    const close = () => {
      this.deleting = false;
      this.#draw();
    };
    const yes = () => {
      close();
      this.row.send("delete");
    };
    return h(
      "div",
      { class: "wbm-ask", role: "group", "aria-label": `Delete ${name}` },
      text,
      h(
        "div",
        { class: "wb-row" },
        textButton(`Keep ${name}`, close, { text: "Keep it" }),
        textButton(`Delete ${name} for good`, yes, { text: "Delete for good", class: "wb-danger" }),
      ),
    );
  }
}
