/** What an empty conversation shows: a line, the model, and three questions to begin with. */
import { h, icon, show } from "./dom.js";

/** The empty state. */
export class Welcome {
  constructor(chat) {
    this.chat = chat;
    this.model = h("p", { class: "wb-welcome-model" });
    this.examples = h("div", { class: "wb-examples" });
    this.el = h(
      "div",
      { class: "wb-welcome", hidden: true },
      h("h2", {}, "What would you like to know?"),
      this.model,
      this.examples,
    );
  }

  update(state) {
    const empty = !state.turns.length && !this.chat.pending;
    show(this.el, empty);
    if (!empty) return;
    this.model.replaceChildren(...modelLine(state.model));
    const texts = state.conv.read_only || !state.model ? [] : (state.examples ?? []);
    const shown = [...this.examples.children].map((button) => button.dataset.text);
    if (shown.join("\n") === texts.join("\n")) return;
    this.examples.replaceChildren(...texts.map((text) => this.#example(text)));
  }

  #example(text) {
    const button = h(
      "button",
      {
        type: "button",
        class: "wb-example",
        "aria-label": `Ask: ${text}`,
        on: { click: () => this.chat.composer.propose(text) },
      },
      h("span", {}, text),
      icon("right"),
    );
    button.dataset.text = text;
    return button;
  }
}

function modelLine(model) {
  if (!model) return ["No model can chat yet. Pull one, or start the server with a model file."];
  const toy = model.toy ? " It is a toy: tiny, here to try things out, often wrong." : "";
  const leaves = model.evicts?.length ? ` ${model.evicts.join(", ")} leaves memory for it.` : "";
  return [h("strong", {}, model.name), " will answer.", toy, leaves];
}
