/** The sentences of the dialogue panel: pure, from what the kernel said. */
import { seconds } from "../text.js";

/** Swaps shorter than this, in seconds, are none. */
const NO_SWAP_S = 0.1;

const ORDERS = {
  round_robin: "one after the other",
  broadcast: "everybody to each round",
  debate: "debate",
  moderated: "a moderator picks",
};

/** How the speakers follow each other, in words. */
export function orderWord(order) {
  return ORDERS[order] ?? order;
}

/** What the dialogue does: a word, and what is to know beside it. */
export function runWords(run, speaking = []) {
  if (!run) return ["Not begun", ""];
  const progress = run.limit === null ? turns(run.taken) : `${run.taken} of ${turns(run.limit)}`;
  const who = speaking.length ? `${list(speaking)} ${speaking.length > 1 ? "speak" : "speaks"}` : "";
  const words = {
    ready: run.taken ? ["A branch, ready to go on", progress] : ["Ready", orderWord(run.order)],
    running: [run.pausing ? "Pauses after this turn" : who || "Running", progress],
    paused: ["Paused", [run.reason, progress].filter(Boolean).join(" · ")],
    waiting: ["Waits for you", [run.reason, progress].filter(Boolean).join(" · ")],
    failed: ["Failed", run.reason],
    // That all turns were taken is the reason already.
    done: ["Ended", [run.reason, run.taken === run.limit && run.reason ? "" : progress].filter(Boolean).join(" · ")],
  };
  return words[run.state] ?? [run.state, run.reason];
}

/** What a dialogue does to memory, on one line; and whether one should look. */
export function planWords(plan) {
  const { needs, together, loads, swap_s: wait, so_far: soFar, notices } = plan;
  const parts = [];
  if (needs.length === 1) parts.push("One model in memory");
  else if (together === true) parts.push(`${needs.length} models stay in memory together`);
  else if (together === false) parts.push(`${needs.length} models take turns in memory`);
  else parts.push("Whether the models fit in memory together is not known");
  if (typeof loads === "number" && loads > 0) {
    const long = typeof wait === "number" ? `about ${seconds(wait)}` : "how long is not known";
    parts.push(`${loads} ${loads === 1 ? "load" : "loads"} foreseen, ${long}`);
  }
  if (soFar && (soFar.measured >= NO_SWAP_S || soFar.foreseen >= NO_SWAP_S)) {
    const foreseen = typeof soFar.foreseen === "number" ? seconds(soFar.foreseen) : "not known";
    parts.push(`swaps so far ${seconds(soFar.measured)}, foreseen ${foreseen}`);
  }
  return { text: parts.join(" · "), level: notices.length || together === false ? "warn" : "info" };
}

/** The swap of a turn, as foreseen beside as measured; empty when there was none. */
export function swapWords([foreseen, measured] = [null, null]) {
  const some = (value) => typeof value === "number" && value >= NO_SWAP_S;
  if (!some(foreseen) && !some(measured)) return "";
  const before = typeof foreseen === "number" ? `foreseen ${seconds(foreseen)}` : "not foreseen";
  return typeof measured === "number" ? `swap ${seconds(measured)}, ${before}` : `swap ${before}`;
}

/** Marks beside a speaker's name. */
export function badgesOf(turn) {
  const marks = [];
  if (turn.picked === "moderator") marks.push("picked by the moderator");
  if (turn.picked === "fallback") marks.push("moderator named nobody: next in turn");
  if (turn.status === "skipped") marks.push("not heard by the others");
  if (turn.changed) marks.push("changed by you");
  return marks;
}

function turns(count) {
  return `${count} ${count === 1 ? "turn" : "turns"}`;
}

function list(names) {
  return names.length < 2 ? names.join("") : `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}
