/** The answers side by side: the lanes of all panels, with a Stop and a letter each. */
import { Lanes } from "../lanes/lanes.js";
import { LaneTurn } from "../lanes/turn.js";
import { isStreaming } from "../protocol.js";
import { seconds } from "../text.js";
import { iconButton, show, textButton } from "../view/dom.js";
import { letter } from "./words.js";

/** Below this width in pixels lanes stand below each other; above it many lanes scroll sideways. */
const NARROW = 560;

/** Lanes of a comparison. */
export class CompareLanes extends Lanes {
  /** @param {import("./panel.js").CompareView} panel */
  constructor(panel) {
    super(panel, {
      turn: () => new SideTurn(panel),
      resized: () => this.#read(),
      tools: (lane) => [iconButton("stop", `Stop lane ${lane.letter}`, () => panel.stop(lane.key), { class: "wbc-stop-lane" })],
    });
    this.at = null;
  }

  get narrow() {
    return (this.el.clientWidth || Infinity) < NARROW;
  }

  update(state) {
    this.panel.root?.classList.toggle("wbc-narrow", this.narrow);
    // A change of width draws what is there once more.
    if (!("prompts" in state)) return super.update(state);
    const lanes = state.lanes.map((lane) => ({ ...lane, badges: badgesOf(lane) }));
    const at = `${state.conv.cid}:${state.prompt?.index ?? ""}`;
    super.update({ conv: { cid: at }, lanes, turns: state.turns, layout: "lanes" });
    for (const lane of state.lanes) {
      const stop = this.heads.get(lane.key).el.querySelector(".wbc-stop-lane");
      show(stop, Boolean(state.busy) && (lane.open || lane.away !== null));
      const chosen = state.prompt?.pair?.includes(lane.key) && state.lanes.length > 2;
      this.heads.get(lane.key).el.classList.toggle("wbc-judged", Boolean(chosen));
    }
    if (at !== this.at) this.#read();
    this.at = at;
  }

  /** Answers that are there already are read from their beginning. */
  #read() {
    if (this.turns.some((turn) => turn.phase && !turn.reason)) return;
    for (const list of [this.thread, ...this.columns.values()]) {
      list.stuck = list.pinned = false;
      list.place(0);
    }
  }
}

function badgesOf(lane) {
  return lane.away ? [lane.letter, `on prompt ${lane.away.prompt + 1}`] : [lane.letter];
}

function noteOf({ held, reason, text, think, error }) {
  if (held) return "Hidden until every answer is there.";
  return reason && reason !== "cancelled" && reason !== "interrupted" && !text && !think && !error ? "The answer is empty." : null;
}

/** An answer in its lane. */
class SideTurn extends LaneTurn {
  constructor(panel) {
    const redo = iconButton("redo", "Ask again", () => this.again(), { class: "wb-write" });
    // Where lanes stand below each other their heads, with a Stop each, are not shown.
    const stop = textButton("Stop this answer", () => panel.stop(this.turn.lane), { class: "wbc-stop-here", text: "Stop" });
    super(panel, {
      retry: (turn) => panel.send({ t: "again", mid: turn.mid }),
      swap: (turn, again) => {
        if (panel.state.busy) return false;
        panel.onError = again;
        return panel.send({ t: "swap", mid: turn.mid });
      },
      actions: [redo],
      below: stop,
      badges: (turn) => [letter(turn.lane)],
      note: noteOf,
      facts: ({ fig }) => (fig?.load_s >= 0.1 ? `load ${seconds(fig.load_s)}` : null),
    });
    this.redo = redo;
    this.stop = stop;
  }

  update(turn, last) {
    super.update(turn, last);
    show(this.foot, Boolean(turn.reason));
    show(this.stop, isStreaming(turn));
    // Which model begins to answer would tell whose answer it is.
    show(this.redo, !this.panel.state.prompt?.hidden);
  }

  /** Ask the same once more. */
  again() {
    if (!this.panel.state.busy && this.turn.reason && !this.redo.hidden) this.panel.send({ t: "again", mid: this.turn.mid });
  }
}
