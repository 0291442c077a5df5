/** The words of the models panel: facts, verdicts and events as sentences; no DOM. */
import { count, memory, seconds, visible } from "../text.js";

/** Modes of swapping: the word, and what it means. */
export const MODES = {
  auto: ["Swap by itself", "Models nobody uses leave when another needs their room."],
  manual: ["Ask before a swap", "Nothing leaves before you agree."],
  server: ["Backend decides", "The backend itself chooses what leaves."],
};

/** How long until something, in the two largest units: `4 min 12 s`. */
export function left(value) {
  const whole = Math.max(0, Math.round(value));
  if (whole < 60) return `${whole} s`;
  if (whole < 3600) return two(Math.floor(whole / 60), "min", whole % 60, "s");
  if (whole < 172800) return two(Math.floor(whole / 3600), "h", Math.floor((whole % 3600) / 60), "min");
  return `${Math.floor(whole / 86400)} days`;
}

function two(much, unit, rest, smaller) {
  return rest ? `${much} ${unit} ${rest} ${smaller}` : `${much} ${unit}`;
}

/** A measured time as an estimate: `about 4 s`. */
export function about(value) {
  if (typeof value !== "number") return "";
  return `about ${value < 9.95 ? `${value.toFixed(1)} s` : left(value)}`;
}

/** Names of models as a list in words. */
export function names(list) {
  const shown = list.map((name) => visible(short(name)));
  return shown.length < 2 ? (shown[0] ?? "") : `${shown.slice(0, -1).join(", ")} and ${shown.at(-1)}`;
}

/** A model's name without the tag everybody has. */
export function short(name) {
  return String(name ?? "").replace(/:latest(?=@|$)/, "");
}

/** The line below a model's name. */
export function factsOf(row) {
  const context = row.context
    ? `context ${count(row.context)}${row.max_context ? ` of ${count(row.max_context)}` : ""}`
    : row.max_context && `context up to ${count(row.max_context)}`;
  return [row.parameters, row.quantization, row.size && memory(row.size), context].filter(Boolean);
}

const FITS = {
  alongside: "fits",
  alone: "fits alone",
  offload: "would spill to main memory",
  too_large: "is too large",
  unknown: "fit unknown",
};

/** What loading a model would take: text, whether it is a warning, and the reason. */
export function fitOf(row) {
  const fit = row.fit;
  if (!fit) return null;
  const needed = fit.needed_bytes ? `needs ${fit.source === "measured" ? "" : "about "}${memory(fit.needed_bytes)}` : null;
  const text = fit.verdict === "unknown" && needed ? null : (FITS[fit.verdict] ?? fit.verdict);
  return {
    text: [needed, text].filter(Boolean).join(" · "),
    warn: fit.verdict === "offload" || fit.verdict === "too_large",
    reason: fit.reason ?? "",
  };
}

/** What stands below a model's state; `now` is the kernel's clock in seconds. */
export function stateDetail(row, now) {
  if (row.stale) return "last known; its backend is silent";
  const since = row.since ? Math.max(0, now - row.since) : null;
  switch (row.state) {
    case "busy":
      return row.in_flight ? `${row.in_flight} ${row.in_flight === 1 ? "answer" : "answers"} running` : "";
    case "loading":
      if (since === null) return row.load_s ? about(row.load_s) : "";
      return row.load_s ? `${left(since)} of ${about(row.load_s)}` : `for ${left(since)}`;
    case "queued":
      return since === null ? "" : `for ${left(since)}`;
    case "stopping":
      return row.in_flight ? `after ${row.in_flight} ${row.in_flight === 1 ? "answer" : "answers"}` : "";
    case "releasing":
      return "until its memory is free";
    case "idle":
      return expiry(row, now);
    default:
      return "";
  }
}

function expiry(row, now) {
  if (row.pinned) return "pinned: stays";
  if (row.forever) return "stays until unloaded";
  if (typeof row.expires !== "number") return "";
  const rest = row.expires - now;
  return rest > 0.5 ? `unloads in ${left(rest)}` : "is due to unload";
}

/** How a resident model's memory is split: shares in percent, and the words. */
export function memoryOf(row) {
  const { vram, size_loaded: total } = row;
  if (!total && typeof vram !== "number") return { gpu: null, cpu: null, text: "size unknown" };
  if (typeof vram !== "number") return { gpu: null, cpu: null, text: memory(total) };
  const whole = Math.max(total ?? vram, vram, 1);
  const gpu = Math.round((100 * vram) / whole);
  if (gpu >= 100) return { gpu: 100, cpu: 0, text: `${memory(whole)} on the GPU` };
  if (gpu <= 0) return { gpu: 0, cpu: 100, text: `${memory(whole)} in main memory` };
  return { gpu, cpu: 100 - gpu, text: `${memory(vram)} GPU · ${memory(whole - vram)} CPU` };
}

const VERDICTS = {
  verified: "Unloaded, verified",
  gone_unverified: "Unloaded; that its memory is free could not be seen",
  still_loaded: "Still in memory",
  resurrected: "Unloaded, and loaded again by another program",
  absent: "It was not in memory",
};

/** How an action on a model ended: text and level. */
export function noteText(note) {
  if (note.text) return note.text;
  if (note.kind === "loaded") {
    const parts = [`Loaded${note.seconds ? ` in ${seconds(note.seconds)}` : ""}`];
    const split = memoryOf({ vram: note.vram, size_loaded: note.size });
    if (split.gpu !== null) parts.push(split.text);
    if (note.context) parts.push(`context ${count(note.context)}`);
    return `${parts.join(" · ")}.`;
  }
  if (note.kind === "unloaded") {
    const word = VERDICTS[note.verdict] ?? note.verdict;
    const freed = note.freed > 0 ? `${memory(note.freed)} free` : null;
    const after = typeof note.seconds === "number" ? `after ${seconds(note.seconds)}` : null;
    const facts = [freed, after].filter(Boolean).join(" ");
    return `${[word, facts].filter(Boolean).join(", ")}.`;
  }
  if (note.kind === "deleted") return `Deleted${note.freed ? `: ${memory(note.freed)} of disk are free` : ""}.`;
  return note.kind ?? "";
}

const REASONS = { low: "Memory is low", offload: "The next load would not fit the GPU" };

/** The banner about low memory: a headline and what to do. */
export function warningText(warning) {
  const numbers =
    typeof warning.free_bytes === "number" && warning.total_bytes
      ? `: ${memory(warning.free_bytes)} of ${memory(warning.total_bytes)} free${warning.device ? ` on ${visible(warning.device)}` : ""}`
      : "";
  return {
    text: `${REASONS[warning.level] ?? "Memory"}${numbers}.`,
    hint: warning.text || "Unload a model, or choose a smaller context.",
  };
}

const EVENTS = {
  loading: (e) => `is loading${e.estimated_s ? `, ${about(e.estimated_s)}` : ""}`,
  loaded: (e) => `loaded${e.seconds ? ` in ${seconds(e.seconds)}` : ""}${e.bytes ? `, ${memory(e.bytes)}` : ""}${e.offload_share > 0.005 ? `, ${Math.round(e.offload_share * 100)} % in main memory` : ""}`,
  load_failed: (e) => `could not be loaded: ${e.error ?? e.reason ?? "no reason given"}`,
  load_warning: (e) => e.text ?? "loaded with a warning",
  load_stuck: (e) => `has been loading for ${seconds(e.seconds ?? 0)}: ${e.diagnosis ?? "nothing moves"}${e.action ? `; ${e.action}` : ""}`,
  unloading: (e) => `is unloading${e.waits_for ? `, waits for ${e.waits_for} ${e.waits_for === 1 ? "answer" : "answers"}` : ""}`,
  unloaded: (e) => `${(VERDICTS[e.verdict] ?? "Unloaded").replace(/^./, (c) => c.toLowerCase())}${typeof e.seconds === "number" ? ` in ${seconds(e.seconds)}` : ""}`,
  unload_failed: (e) => `could not be unloaded: ${e.error ?? e.reason ?? "no reason given"}`,
  swap: (e) => `came in for ${names(e.evicted ?? []) || "others"}${e.seconds ? ` in ${seconds(e.seconds)}` : ""}`,
  resurrected: () => "came back: another program loaded it again",
  pinned: () => "pinned",
  unpinned: () => "no longer pinned",
  preferences: (e) => wishes(e) || "has new preferences",
  pulled: () => "downloaded",
  deleted: () => "deleted",
  backend_down: (e) => `does not answer: ${e.error ?? "no reason given"}`,
  backend_up: () => "answers again",
  memory_low: (e) => `Memory is low${e.free_bytes ? `: ${memory(e.free_bytes)} free` : ""}`,
  memory_ok: () => "Memory is no longer low",
  next_load_offloads: () => "The next load would not fit the GPU",
  setting: (e) => `Setting ${e.name} is now ${e.value}`,
  lane_switch: (e) => `Turn of ${short(e.to)}${e.waited_s ? `, which waited ${seconds(e.waited_s)}` : ""}`,
  lease: (e) => `Reserved: ${names(e.models ?? [])}`,
  lease_ended: (e) => `Reservation ended${e.reason ? `: ${e.reason}` : ""}`,
  engine_exited: () => "ended unexpectedly",
};
/** What was changed about how a model is treated. */
function wishes({ priority, hot, pinned, keep_alive_s: keep, max_idle_s: idle }) {
  const parts = [];
  if (typeof priority === "number") parts.push(`has priority ${priority}`);
  if (typeof hot === "boolean") parts.push(hot ? "loads when the server starts" : "no longer loads at the start");
  if (typeof pinned === "boolean") parts.push(pinned ? "stays whatever comes" : "may leave again");
  if (typeof keep === "number") parts.push(keep < 0 ? "stays until unloaded" : `stays ${left(keep)} after use`);
  if (typeof idle === "number") parts.push(`leaves after ${left(idle)} without use`);
  return parts.join(", ");
}

const BAD = ["load_failed", "unload_failed", "backend_down", "engine_exited"];
const WARN = ["load_warning", "load_stuck", "resurrected", "memory_low", "next_load_offloads"];

/** One event as a line: who, what, and how bad it is. */
export function eventLine(event) {
  const make = EVENTS[event.event];
  const subject = event.model ? short(event.model) : event.event?.startsWith("backend") ? event.backend : null;
  const why = event.reason && !["load_failed", "unload_failed", "lease_ended"].includes(event.event) ? event.reason : null;
  return {
    subject: subject ? visible(subject) : "",
    text: visible(make ? make(event) : String(event.event).replaceAll("_", " ")),
    why: why ? visible(why) : "",
    level: BAD.includes(event.event) ? "error" : WARN.includes(event.event) ? "warn" : "info",
  };
}

/** The planned order of the queue in words: `llama3.2 (3), then qwen3 (2)`. */
export function orderText(order) {
  return order.map((step) => `${visible(short(step.model))} (${step.requests})`).join(", then ");
}

const LANES = { serving: "being answered", waiting: "waiting", gated: "waits for its turn" };

/** A lane's state in words. */
export function laneWord(state) {
  return LANES[state] ?? state;
}
