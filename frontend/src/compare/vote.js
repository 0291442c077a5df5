/** The bar below the answers: which two are judged, four verdicts, and what comes after. */
import { h, setText, show, textButton } from "../view/dom.js";
import { letter, verdictWords } from "./words.js";

const VERDICTS = [
  ["a", "1"],
  ["b", "2"],
  ["tie", "3"],
  ["both_bad", "0"],
];

/** The bar. */
export class VoteBar {
  /** @param {import("./panel.js").CompareView} panel */
  constructor(panel) {
    this.panel = panel;
    this.pairs = h("select", { class: "wb-field wbc-pairs", "aria-label": "Answers to judge", on: { change: () => this.#pick() } });
    this.buttons = new Map(VERDICTS.map(([verdict, key]) => [verdict, this.#button(verdict, key)]));
    this.said = h("span", { class: "wbc-verdict" });
    this.reveal = textButton("Show the names", () => panel.send({ t: "reveal" }), { class: "wbc-reveal", title: "Later votes on this prompt do not count as blind" });
    this.next = h("button", { type: "button", class: "wb-tb wb-primary", "aria-label": "Next prompt", on: { click: () => panel.next() } }, "Next prompt ", h("kbd", {}, "N"));
    this.el = h(
      "div",
      { class: "wbc-votes", role: "group", "aria-label": "Vote", hidden: true },
      this.pairs,
      h("div", { class: "wbc-verdicts" }, ...this.buttons.values()),
      this.said,
      this.reveal,
      this.next,
    );
  }

  #button(verdict, key) {
    const label = h("span", {});
    const button = h(
      "button",
      { type: "button", class: "wb-tb wbc-vote", "aria-keyshortcuts": key, "aria-pressed": "false", on: { click: () => this.panel.vote(verdict) } },
      label,
      h("kbd", { "aria-hidden": "true" }, key),
    );
    button.words = label;
    return button;
  }

  #pick() {
    const [a, b] = this.pairs.value.split(",").map(Number);
    this.panel.send({ t: "pair", a, b });
  }

  update(state) {
    const { prompt, lanes } = state;
    const pair = prompt?.pair ?? null;
    const stuck = Boolean(prompt?.hidden && !prompt.held);
    show(this.el, Boolean(pair) || stuck);
    if (!pair && !stuck) return;
    show(this.el.querySelector(".wbc-verdicts"), Boolean(pair));
    show(this.reveal, prompt.hidden);
    if (!pair) {
      setText(this.said, "There are no two answers to judge.");
      show(this.pairs, false);
      show(this.next, state.prompts.length > 1);
      return;
    }
    const verdict = prompt.pairs.find((one) => one[0] === pair[0] && one[1] === pair[1])?.[2] ?? null;
    this.#drawButtons(pair, verdict);
    this.#drawPairs(prompt, pair);
    setText(this.said, verdict ? this.#verdict(prompt, lanes, pair, verdict) : "Which answer is better?");
    show(this.next, Boolean(verdict) && prompt.index + 1 < state.prompts.length);
  }

  #verdict(prompt, lanes, pair, verdict) {
    const who = pair.map((place) => (prompt.hidden ? `Answer ${letter(place)}` : lanes[place].name));
    const told = prompt.hidden ? "" : ` A is ${lanes[0]?.name}, B is ${lanes[1]?.name}.`;
    return `${verdictWords(verdict, who)}.${lanes.length === 2 ? told : ""}`;
  }

  #drawButtons(pair, verdict) {
    const words = { a: `${letter(pair[0])} is better`, b: `${letter(pair[1])} is better`, tie: "Tie", both_bad: "Both bad" };
    for (const [name, button] of this.buttons) {
      setText(button.words, words[name]);
      button.setAttribute("aria-label", words[name]);
      button.setAttribute("aria-pressed", String(name === verdict));
      button.disabled = this.panel.link.gone;
    }
  }

  #drawPairs(prompt, pair) {
    show(this.pairs, prompt.pairs.length > 1);
    const options = prompt.pairs.map(([a, b, verdict]) => [`${a},${b}`, `${letter(a)} and ${letter(b)}${verdict ? " ✓" : ""}`]);
    const key = JSON.stringify(options);
    if (this.key !== key) {
      this.key = key;
      this.pairs.replaceChildren(...options.map(([value, text]) => h("option", { value }, text)));
    }
    this.pairs.value = pair.join(",");
  }

  disable() {
    for (const control of this.el.querySelectorAll("button, select")) control.disabled = true;
  }
}
