/** The figures and states of runs as text; no DOM. */
import { seconds as spoken, visible } from "../text.js";

/**
 * States of a step: word, kind of colour, glyph, and what it means.  Each has its own word and its
 * own glyph, so that no state is told by its colour alone.
 */
export const STEPS = {
  pending: ["not begun", "dim", "pending", "It begins when the steps it needs are done."],
  running: ["running", "busy", "running", ""],
  retrying: ["tries again", "warn", "retry", "An attempt failed; the next one follows."],
  waiting: ["waits for you", "ask", "ask", "It goes on when you have answered."],
  answered: ["answered", "busy", "answered", "The run reads the answer when it goes on."],
  done: ["done", "ok", "done", ""],
  cached: ["from the cache", "ok", "cached", "The same step with the same inputs was done before."],
  kept: ["kept", "ok", "kept", "It was done before the run was resumed, and not done again."],
  failed: ["failed", "bad", "failed", ""],
  blocked: ["blocked", "dim", "blocked", "A step it needs has failed."],
  skipped: ["skipped", "dim", "skipped", ""],
  cancelled: ["cancelled", "dim", "cancelled", ""],
  lost: ["broken off", "warn", "lost", "The run lost its process while this step was at work."],
};

/** States of a run likewise. */
export const RUNS = {
  starting: ["starting", "busy", "running", "Its process is starting."],
  running: ["running", "busy", "running", ""],
  waiting: ["waits for you", "ask", "ask", "It goes on when you have answered."],
  done: ["done", "ok", "done", ""],
  failed: ["failed", "bad", "failed", "What was done is kept; resume goes on from there."],
  cancelled: ["cancelled", "dim", "cancelled", "What was done is kept; resume goes on from there."],
  lost: ["lost", "warn", "lost", "Its process is gone without a word. What was done is kept; resume goes on from there."],
  broken: ["cannot be read", "bad", "lost", ""],
};

const UNKNOWN = ["unknown", "dim", "pending", ""];
const DAY_S = 86400;

/** Return `{word, kind, glyph, tells}` of a state. */
export function stateOf(table, status) {
  const [word, kind, glyph, tells] = table[status] ?? UNKNOWN;
  return { word, kind, glyph, tells };
}

/** A run that goes on. */
export function isActive(row) {
  return row.status === "running" || row.status === "starting";
}

/** A run that can be gone on with. */
export function canResume(row) {
  return ["failed", "cancelled", "lost"].includes(row.status) || (row.status === "waiting" && !row.asks.length);
}

/** Whether a person has to do something. */
export function asksSomebody(row) {
  return row.asks.length > 0 || (row.status === "waiting" && !row.answered?.length);
}

/** What the buttons above the list choose. */
export const GROUPS = {
  all: ["All", () => true],
  active: ["Running", isActive],
  asks: ["Waiting", asksSomebody],
  failed: ["Failed", (row) => ["failed", "lost", "broken"].includes(row.status)],
  done: ["Done", (row) => row.status === "done"],
};

/** The runs of a choice, the newest first. */
export function chosen(rows, { group, plan }) {
  const fits = GROUPS[group][1];
  return rows.filter((row) => fits(row) && (!plan || row.plan === plan)).sort((a, b) => (a.id < b.id ? 1 : -1));
}

/** How many run, wait and have failed, in words; empty when nothing needs a look. */
export function badge(rows) {
  const running = rows.filter(isActive).length;
  const waiting = rows.filter(asksSomebody).length;
  return [waiting && { kind: "ask", text: `${waiting} ${waiting === 1 ? "waits" : "wait"} for you` }, running && { kind: "busy", text: `${running} running` }].filter(Boolean);
}

/** Seconds for people: `0.42 s`, `3 min 5 s`, `2 h 4 min`, `3 d 2 h`. */
export function time(value) {
  if (value === null || value === undefined) return "–";
  if (value < 3600) return spoken(Math.max(0, value));
  const [whole, big, rest, small] = value < DAY_S ? [3600, "h", 60, "min"] : [DAY_S, "d", 3600, "h"];
  const left = Math.floor((value % whole) / rest);
  return `${Math.floor(value / whole)} ${big}${left ? ` ${left} ${small}` : ""}`;
}

/** Time that goes on, without hundredths that nobody can read. */
export function ticking(value) {
  return value < 60 ? `${Math.max(0, Math.floor(value))} s` : time(value);
}

const CLOCK = { hour: "2-digit", minute: "2-digit" };

/** A moment for people: `just now`, `5 min ago`, `14:02`, `24 Nov 14:02`. */
export function moment(at, now) {
  if (at === null || at === undefined) return "–";
  const ago = now - at;
  if (ago < 60) return "just now";
  if (ago < 3600) return `${Math.floor(ago / 60)} min ago`;
  const [when, today] = [new Date(at * 1000), new Date(now * 1000)];
  const clock = when.toLocaleTimeString("en-GB", CLOCK);
  if (when.toDateString() === today.toDateString()) return clock;
  const year = when.getFullYear() === today.getFullYear() ? {} : { year: "numeric" };
  return `${when.toLocaleDateString("en-GB", { day: "numeric", month: "short", ...year })} ${clock}`;
}

/** How long a run has taken; what goes on counts until now. */
export function took(row, now) {
  if (row.started === null) return null;
  if (isActive(row)) return now - row.started;
  return row.ended === null ? null : row.ended - row.started;
}

/** What a run does now, for its row. */
export function doing(row) {
  if (row.asks.length) return `Your answer is needed at ${row.asks.length > 1 ? "steps" : "step"} ${row.asks.map(visible).join(", ")}`;
  if (row.status === "waiting") return "Answered; it goes on when it is resumed";
  if (row.error && ["failed", "broken"].includes(row.status)) return visible(row.error.message).replaceAll("`", "");
  if (row.status === "lost") return "Its process is gone";
  if (!isActive(row) || !row.active.length) return "";
  const [first] = row.active;
  const items = first.items ? ` ${first.done} of ${first.items}` : "";
  const phase = first.phase ? `, ${first.phase}` : "";
  const others = row.active.length > 1 ? ` and ${row.active.length - 1} more` : "";
  return visible(`${first.id}${items}${phase}${others}`);
}

/** Items of a `foreach`: `12 of 40, 1 failed`. */
export function items(step) {
  if (!step.items) return "";
  const errors = step.errors ? `, ${step.errors} failed` : "";
  return `${step.done} of ${step.items}${errors}`;
}

/** How long a step has taken, or takes. */
export function stepTime(step, now) {
  const last = step.spans.at(-1);
  if (last && last.to === null && ["running", "waiting"].includes(last.kind)) return ticking(now - last.at);
  if (step.seconds !== null && step.seconds !== undefined) return time(step.seconds);
  return "";
}

/** The second line of a step in the graph. */
export function stepLine(step, now) {
  const { word } = stateOf(STEPS, step.status);
  const active = step.status === "running";
  const first = active && items(step) ? items(step) : active && step.phase ? step.phase : word;
  const attempt = step.attempt > 1 && ["running", "failed", "retrying"].includes(step.status) ? `attempt ${step.attempt}` : "";
  const ended = ["done", "failed", "cancelled", "running"].includes(step.status);
  return [first, attempt, ended ? stepTime(step, now) : ""].filter(Boolean).map(visible).join(" · ");
}

/** What a screen reader says of a step. */
export function stepName(node, step, now) {
  const { word } = stateOf(STEPS, step.status);
  const needs = node.needs.length ? `needs ${node.needs.join(", ")}` : "";
  return [node.title, node.id, node.kind, word, items(step), stepTime(step, now), step.reason, needs].filter(Boolean).map(visible).join(", ");
}

/** What went wrong, in words: `StepFailed` as `Step failed`, `HTTPStatusError` as `HTTP status error`. */
export function errorWords(type) {
  const words = visible(type || "Error").split(/(?<=[a-z\d])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])/);
  return words.map((word, at) => (at && !/^[A-Z]{2}/.test(word) ? word.toLowerCase() : word)).join(" ");
}

/** The short form of an id: its end differs between runs of one moment. */
export function shortId(id) {
  return id.length > 14 ? `${id.slice(0, 8)}…${id.slice(-4)}` : id;
}
