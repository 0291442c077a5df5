/** What an empty comparison shows: who would answer, and three prompts to begin with in one click. */
import { visible } from "../text.js";
import { h, icon, show } from "../view/dom.js";
import { listed } from "./words.js";

/** The empty state. */
export class Welcome {
  /** @param {import("./panel.js").CompareView} panel */
  constructor(panel) {
    this.panel = panel;
    this.who = h("p", { class: "wb-welcome-model" });
    this.examples = h("div", { class: "wb-examples" });
    this.el = h("div", { class: "wb-welcome", hidden: true }, h("h2", {}, "Which one answers better?"), this.who, this.examples);
  }

  update({ prompts, busy, setup, models, examples, unasked }) {
    const empty = !prompts.length && !busy;
    show(this.el, empty);
    if (!empty) return;
    this.who.replaceChildren(...whoWords(setup.sides, models, setup.blind));
    const texts = setup.sides.length && !unasked.length ? examples : [];
    const key = texts.join("\n");
    if (key === this.key) return;
    this.key = key;
    this.examples.replaceChildren(...texts.map((text) => this.#example(text)));
  }

  #example(text) {
    const ask = () => this.panel.run(text);
    return h("button", { type: "button", class: "wb-example", "aria-label": `Compare: ${text}`, on: { click: ask } }, h("span", {}, text), icon("right"));
  }
}

function whoWords(sides, models, blind) {
  if (!sides.length) return ["No model can answer yet. Pull one, or start the server with a model file."];
  const toys = sides.every((side) => models.find((row) => row.name === side.model)?.toy);
  const names = h("strong", {}, visible(listed(sides.map((side) => side.name))));
  const what = blind ? " answer the same prompt; who said what is hidden until you vote." : " answer the same prompt, side by side.";
  return [names, what, toys ? " They are toys: tiny, here to try things out, often wrong." : ""];
}
