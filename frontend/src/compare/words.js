/** The panel's sentences; pure, so that they are tested without a page. */
import { count, seconds } from "../text.js";

const VERDICTS = { tie: "It is a tie", both_bad: "Both are bad" };
const STAGES = {
  ".": "waits",
  w: "is being answered",
  d: "answered",
  f: "an answer is missing",
  v: "voted on",
};

/** A, B and so on. */
export function letter(place) {
  return place < 26 ? String.fromCharCode(65 + place) : String(place + 1);
}

/** Names with commas and `and`. */
export function listed(names) {
  if (names.length < 2) return names.join("");
  return `${names.slice(0, -1).join(", ")} and ${names.at(-1)}`;
}

/** What is done, going on, next: one text per step, with its state. */
export function orderOf(plan) {
  return (plan?.steps ?? []).map((step) => ({ state: step.state, text: stepWords(step, plan.known) }));
}

function stepWords(step, known) {
  const names = listed(step.models.flatMap((model) => model.names));
  if (step.state === "done") return names;
  if (step.state === "now") return `${names}, ${count(step.left)} of ${count(step.all)} answers left`;
  const loads = step.models.filter((model) => !model.loaded);
  if (!known) return names;
  if (!loads.length) return `${names}, in memory`;
  const times = loads.map((model) => model.swap_s);
  const load = names.includes(" and ") ? "load" : "loads";
  if (times.includes(null)) return `${names}, not in memory yet`;
  const guessed = loads.some((model) => model.source !== "measured") ? "about " : "";
  return `${names}, ${load} in ${guessed}${seconds(times.reduce((a, b) => a + b, 0))}`;
}

/** Why the work is done in this order. */
export function orderReason(plan) {
  if (!plan?.known) return "Each model is loaded once, whatever the number of prompts.";
  const facts = [];
  if (plan.steps.length === 1 && plan.steps[0].models.length > 1) facts.push("They fit into memory together and answer at the same time.");
  else if (plan.together === false) facts.push(`They take turns in memory: ${plan.reason}.`);
  else if (plan.together === null && plan.reason) facts.push(`Whether they fit together is not known: ${plan.reason}.`);
  if (plan.loads > 1 && plan.swap_s !== null) facts.push(`${plan.loads} loads, ${seconds(plan.swap_s)} in all.`);
  facts.push("Each model is loaded once, whatever the number of prompts.", ...plan.notices);
  return facts.join(" ");
}

/** A verdict, `a` being the left one. */
export function verdictWords(verdict, [left, right]) {
  const won = { a: left, b: right }[verdict];
  return won ? `${won} is better` : (VERDICTS[verdict] ?? verdict);
}

/** What is said while answers wait for each other. */
export function heldWords({ ended, all }) {
  return `Blind: the answers are shown together when all are there. ${ended} of ${all} ended.`;
}

/** How many prompts are answered and voted on. */
export function progressWords(progress) {
  const all = progress.length;
  const voted = [...progress].filter((stage) => stage === "v").length;
  const answered = [...progress].filter((stage) => "dfv".includes(stage)).length;
  const facts = [];
  if (answered < all) facts.push(`${count(answered)} of ${count(all)} answered`);
  if (voted || all > 1) facts.push(`${count(voted)} of ${count(all)} voted on`);
  return facts.join(" · ");
}

/** A prompt of the list, for a tooltip and a screen reader. */
export function promptWords(index, text, stage) {
  return `Prompt ${index + 1}, ${STAGES[stage] ?? "waits"}: ${text}`;
}

/** The next prompt that is answered and not voted on, after one; null when there is none. */
export function nextToVote(progress, from) {
  const order = [...progress].map((_, index) => (from + 1 + index) % progress.length);
  const found = order.find((index) => progress[index] === "d");
  return found === undefined || found === from ? null : found;
}

/** How alike two answers are, from the counts of `diff`. */
export function diffWords({ same, left, right }, [nameA, nameB]) {
  if (!left && !right) return "The two answers have the same words.";
  const all = Math.max(1, same + Math.max(left, right));
  return `${Math.round((same / all) * 100)} % of the words are the same; ${count(left)} only in ${nameA}, ${count(right)} only in ${nameB}. They are in boxes.`;
}

function share(value) {
  return `${Math.round(value * 100)} %`;
}

function strength(value) {
  return `${value < 0 ? "−" : "+"}${Math.abs(value).toFixed(2)}`;
}

/** An estimate with its interval; an end without a bound says so. */
function ranged(value, low, high, form) {
  if (value === null) return "none";
  const ends = [low, high].map((end) => (end === null ? "no bound" : form(end)));
  return low === null && high === null ? form(value) : `${form(value)} (${ends.join(" to ")})`;
}

/** The win rate of a model of the ranking. */
export function winWords(row) {
  return ranged(row.win, row.win_low, row.win_high, share);
}

/** Its strength. */
export function strengthWords(row) {
  return ranged(row.strength, row.strength_low, row.strength_high, strength);
}

/** What the composer asks for. */
export function askWords(sides) {
  if (!sides.length) return "Choose a model first";
  return sides.length === 1 ? `Ask ${sides[0].name}` : `Ask ${sides.length} models the same`;
}
