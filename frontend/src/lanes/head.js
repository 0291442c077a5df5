/** The head of a lane: who it is, the model, and what the model does now with its figures. */
import { isStreaming } from "../protocol.js";
import { visible } from "../text.js";
import { h, setText, show } from "../view/dom.js";
import { REASONS } from "../view/ending.js";
import { paceFacts } from "../view/figures.js";
import { factsOf, wordOf } from "../view/phase.js";

/** One head; `tools` are buttons a panel adds. */
export class LaneHead {
  /** @param {HTMLElement[]} [tools] */
  constructor(tools = []) {
    this.name = h("span", { class: "wb-lane-name" });
    this.model = h("span", { class: "wb-lane-model" });
    this.badges = h("span", { class: "wb-row" });
    this.pulse = h("span", { class: "wb-pulse", "aria-hidden": "true", hidden: true });
    this.word = h("span", { class: "wb-phase-word" });
    this.facts = h("span", { class: "wb-lane-facts" });
    this.since = [null, 0];
    this.el = h(
      "div",
      { class: "wb-lane-head", role: "group" },
      h(
        "div",
        { class: "wb-lane-line" },
        h("span", { class: "wb-swatch" }),
        h("span", { class: "wb-lane-names" }, this.name, this.model),
        this.badges,
        h("span", { class: "wb-lane-tools" }, ...tools),
      ),
      h("div", { class: "wb-lane-now" }, this.pulse, this.word, this.facts),
    );
  }

  /**
   * @param {object} lane `name`, `model`, `colour`, `badges`, `status` when nothing arrives.
   * @param {object|null} turn Its turn on the way.
   * @param {object|null} status Of that turn.
   */
  update(lane, turn, status) {
    setText(this.name, visible(lane.name));
    setText(this.model, visible(lane.model ?? ""));
    this.model.title = lane.title ?? "";
    this.el.dataset.colour = lane.colour;
    this.el.classList.toggle("wb-muted", Boolean(lane.muted));
    this.el.setAttribute("aria-label", `${lane.name}${lane.model ? `, ${lane.model}` : ""}`);
    const badges = lane.badges ?? [];
    if (this.shownBadges !== badges.join("\n")) {
      this.shownBadges = badges.join("\n");
      this.badges.replaceChildren(...badges.map((text) => h("span", { class: "wb-badge" }, text)));
    }
    const live = Boolean(turn && isStreaming(turn));
    this.live(live ? (status ?? { phase: turn.phase }) : null, lane.status ?? {});
  }

  /** Show what goes on, or how it ended. */
  live(status, rest) {
    show(this.pulse, Boolean(status));
    if (!status) {
      const [word, facts] = restWords(rest);
      setText(this.word, word);
      setText(this.facts, facts);
      return;
    }
    const now = performance.now();
    if (this.since[0] !== status.phase) this.since = [status.phase, now];
    setText(this.word, wordOf(status.phase, status));
    setText(this.facts, factsOf(status.phase, status, (now - this.since[1]) / 1000));
  }
}

/** A lane at rest: the word, and the figures of its last answer. */
export function restWords({ phase, detail, tps, tok, ttft }) {
  if (phase !== "done") return [phase === "idle" || !phase ? "Not asked yet" : "Waiting", ""];
  const ended = { stop: "Done", skipped: "Skipped", ...mapped() }[detail] ?? "Failed";
  return [ended, paceFacts(tps, tok, ttft).join(" · ")];
}

function mapped() {
  return Object.fromEntries(Object.entries(REASONS).map(([key, text]) => [key, text.replace(/\.$/, "")]));
}
