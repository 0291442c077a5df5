/** What the dialogue panel adds to a turn: going back, another model, and the person's answer to it. */
import { isStreaming } from "../protocol.js";
import { LaneTurn } from "../lanes/turn.js";
import { h, iconButton, show, textButton } from "../view/dom.js";
import { fillModels } from "./fields.js";
import { badgesOf, swapWords } from "./words.js";

/**
 * Make the view of a turn.
 * @param {import("./panel.js").DialogueView} panel
 * @returns {LaneTurn}
 */
export function dialogueTurn(panel) {
  const extra = new TurnExtra(panel);
  const view = new LaneTurn(panel, {
    retry: () => panel.send({ t: "retry" }),
    swap: (_turn, again) => {
      panel.onError = again;
      return panel.send({ t: "retry", swap: true });
    },
    actions: extra.actions,
    below: extra.el,
    note: (turn) => [turn.note, isStreaming(turn) && swapWords(turn.swap)].filter(Boolean).join(" · "),
    facts: (turn) => swapWords(turn.swap),
    detail: (turn) => (typeof turn.seed === "number" ? `seed ${turn.seed}` : ""),
    badges: (turn) => {
      extra.update(turn);
      return badgesOf(turn);
    },
  });
  return view;
}

/** The inline part of a turn. */
class TurnExtra {
  constructor(panel) {
    this.panel = panel;
    this.turn = null;
    this.actions = [
      iconButton("back", "Go back to before this turn", () => this.#rewind(), { class: "wb-write wb-branching" }),
      iconButton("branch", "Continue with another model", () => this.#choose(), { class: "wb-write wb-branching" }),
    ];
    this.asking = h("div", { class: "wb-inline wb-asking", role: "group", "aria-label": "Does this turn stand?", hidden: true });
    this.inline = h("div", { class: "wb-inline", on: { keydown: (event) => this.#leave(event) } });
    this.el = h("div", {}, this.asking, this.inline);
  }

  update(turn) {
    this.turn = turn;
    if (Boolean(turn.waiting) === !this.asking.hidden) return;
    show(this.asking, Boolean(turn.waiting));
    if (turn.waiting) this.#ask();
  }

  #ask() {
    this.asking.replaceChildren(
      h(
        "div",
        { class: "wb-row" },
        h("span", { class: "wb-note" }, "Does this turn stand?"),
        textButton("Let it stand", () => this.#approve(true), { class: "wb-write wb-primary" }),
        textButton("Edit the turn", () => this.#edit(), { class: "wb-write", text: "Edit" }),
        textButton("Leave it out", () => this.#approve(false), { class: "wb-write" }),
      ),
    );
  }

  #approve(yes, text = null) {
    this.panel.send({ t: "approve", yes, text });
  }

  #edit() {
    const area = h("textarea", { class: "wb-edit", "aria-label": "Text of the turn", rows: "5", value: this.turn.text });
    const done = () => area.value.trim() && this.#approve(true, area.value.trim());
    area.addEventListener("keydown", (event) => {
      if (event.key === "Escape") this.#ask();
      else if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) done();
      else return;
      event.preventDefault();
    });
    this.asking.replaceChildren(
      area,
      h("div", { class: "wb-row" }, textButton("Cancel edit", () => this.#ask(), { text: "Cancel" }), textButton("Use the edited text", done, { class: "wb-primary" })),
    );
    area.focus();
  }

  /** Escape closes the choice of a model, and stops nothing. */
  #leave(event) {
    if (event.key !== "Escape") return;
    event.preventDefault();
    this.inline.replaceChildren();
  }

  #rewind() {
    this.panel.send({ t: "rewind", index: this.turn.index });
  }

  /** Choose the model that says this turn, and all after it in this role, anew. */
  #choose() {
    if (this.inline.childElementCount) return this.inline.replaceChildren();
    const select = h("select", { class: "wb-field", "aria-label": "Another model" });
    const rows = this.panel.state.models ?? [];
    fillModels(select, rows, rows.find((row) => row.name !== this.turn.model)?.name ?? rows[0]?.name ?? "");
    const go = () => {
      if (this.panel.send({ t: "continue", name: this.turn.who, model: select.value, index: this.turn.index })) this.inline.replaceChildren();
    };
    this.inline.replaceChildren(
      h(
        "div",
        { class: "wb-row wb-choosing" },
        h("span", { class: "wb-note" }, `${this.turn.who} from here on:`),
        select,
        textButton("Cancel branch", () => this.inline.replaceChildren(), { text: "Cancel" }),
        textButton("Continue as a branch", go, { class: "wb-primary" }),
      ),
    );
    select.focus();
    return undefined;
  }
}
