/** The words of the dashboard: figures, times and trends as text; no DOM. */
import { count, seconds } from "../text.js";

export const RANGES = {
  hour: { label: "Hour", name: "Last hour", before: "the hour before" },
  day: { label: "Day", name: "Last day", before: "the day before" },
  week: { label: "Week", name: "Last week", before: "the week before" },
  all: { label: "All", name: "All of the time", before: null },
  custom: { label: "Custom", name: "Custom time", before: "the time before" },
};

export const FILTERS = {
  model: ["Model", "All models"],
  backend: ["Backend", "All backends"],
  run: ["Run", "All runs"],
  client: ["Client", "All clients"],
  status: ["Status", "Any status"],
};

export const STATUS = {
  ok: { word: "ok", kind: "ready" },
  open: { word: "running", kind: "moving" },
  cancelled: { word: "cancelled", kind: "off" },
  error: { word: "failed", kind: "bad" },
  lost: { word: "lost", kind: "bad" },
};

export const STAGES = {
  connect: "while connecting to the backend",
  queue: "while waiting in the queue",
  load: "while the model was loading",
  prefill: "while the prompt was read",
  stream: "while the answer was arriving",
  parse: "while the answer was read",
};

/** The word of a status. */
export function statusOf(name) {
  return STATUS[name] ?? { word: String(name ?? "unknown"), kind: "off" };
}

/** Seconds, short ones in milliseconds. */
export function time(value) {
  if (typeof value !== "number") return "–";
  if (value < 0.0995) return `${(value * 1000).toFixed(value < 0.00995 ? 1 : 0)} ms`;
  if (value < 7200) return seconds(value);
  return `${Math.floor(value / 3600)} h ${Math.round((value % 3600) / 60)} min`;
}

/** A number with thousands, or a dash. */
export function number(value) {
  return typeof value === "number" ? count(value) : "–";
}

/** Tokens per second. */
export function rate(value) {
  if (typeof value !== "number") return "–";
  return value < 99.5 ? value.toFixed(1) : count(Math.round(value));
}

/** A share as percent. */
export function share(value) {
  if (typeof value !== "number") return "–";
  const percent = value * 100;
  return `${percent > 0 && percent < 9.95 ? percent.toFixed(1) : Math.round(percent)} %`;
}

const DAY = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", timeZone: "UTC" });
const YEAR = new Intl.DateTimeFormat("en-GB", { day: "numeric", month: "short", year: "numeric", timeZone: "UTC" });

/** A moment in UTC: the time, and the day when it is not today. */
export function moment(value, now = new Date()) {
  if (typeof value !== "number") return "–";
  const when = new Date(value * 1000);
  const [date, clock] = [when.toISOString().slice(0, 10), when.toISOString().slice(11, 19)];
  const today = now.toISOString();
  if (date === today.slice(0, 10)) return clock;
  return `${(date.slice(0, 4) === today.slice(0, 4) ? DAY : YEAR).format(when)} ${clock}`;
}

/** The four figures: what they are called, and which way is better. */
export const FIGURES = [
  { key: "requests", label: "Requests", show: number, better: 0 },
  { key: "p95_s", label: "p95 latency", show: time, better: -1 },
  { key: "tokens_per_s", label: "Tokens per second", show: rate, better: 1 },
  { key: "error_share", label: "Error share", show: share, better: -1, points: true },
];

/**
 * How a figure differs from that of the time before.
 * @returns {{text: string, way: "up"|"down"|"same"|"none", good: boolean|null}}
 */
export function trend(figure, now, before) {
  if (typeof before !== "number" || typeof now !== "number") return { text: "", way: "none", good: null };
  if (figure.key === "requests" && before === 0) return { text: now ? "none before" : "", way: "none", good: null };
  const points = (now - before) * 100;
  const change = figure.points ? points : before ? ((now - before) / before) * 100 : null;
  if (change === null) return { text: "", way: "none", good: null };
  const size = Math.abs(change);
  if (size < 0.05) return { text: "as before", way: "same", good: null };
  const shown = size < 9.95 ? size.toFixed(1) : count(Math.round(size));
  const way = change > 0 ? "up" : "down";
  const good = figure.better === 0 || size < 1 ? null : change > 0 === figure.better > 0;
  return { text: figure.points ? `${shown} points` : `${shown} %`, way, good };
}

/** The parts of a request's time, in the order they happen; what is left is `other`. */
export function phases(facts) {
  const parts = [
    { key: "queue", label: "in the queue", value: facts.queue_wait },
    { key: "load", label: "loading", value: facts.load_wait },
    { key: "prompt", label: "reading the prompt", value: facts.ollama_prompt_eval_duration },
    { key: "generation", label: "generating", value: facts.ollama_eval_duration },
  ].filter((part) => typeof part.value === "number" && part.value > 0);
  const known = parts.reduce((sum, part) => sum + part.value, 0);
  const rest = (facts.duration ?? 0) - known;
  if (rest > 0.02 * (facts.duration ?? 0)) parts.push({ key: "other", label: "everything else", value: rest });
  return parts;
}

/** What the drawer lists, in groups: label and text. */
export function groups(detail) {
  const facts = detail.facts;
  const held = typeof facts.vram_bytes === "number" ? `${(facts.vram_bytes / 1e9).toFixed(1)} GB` : null;
  const parameters = Object.entries(detail.options ?? {}).map(([name, value]) => [name, plain(value)]);
  const asked = [
    ["think", facts.think],
    ["num_ctx", facts.num_ctx],
    ["keep_alive", facts.keep_alive === undefined ? null : `${facts.keep_alive} s`],
  ].filter(([name]) => !(name in (detail.options ?? {})));
  const read = facts.gen_ai_usage_cache_read_input_tokens;
  return [
    ["Parameters", [...parameters, ...asked]],
    [
      "Tokens",
      [
        ["input", number(facts.gen_ai_usage_input_tokens)],
        ["of these cached", typeof read === "number" ? number(read) : null],
        ["output", number(facts.gen_ai_usage_output_tokens)],
        ["counted by", facts.token_source === "estimated" ? "us, estimated" : facts.token_source && "the backend"],
        ["finish reason", plain(facts.gen_ai_response_finish_reasons)],
      ],
    ],
    [
      "Timing",
      [
        ["duration", time(facts.duration)],
        ["first token", time(facts.gen_ai_response_time_to_first_chunk)],
        ["first answer token", time(facts.time_to_first_answer)],
        ["median gap between tokens", time(facts.time_per_output_chunk_p50)],
        ["99th percentile of the gaps", time(facts.time_per_output_chunk_p99)],
        ["model", facts.cold === undefined ? null : facts.cold ? "was loaded for it" : "was in memory"],
      ],
    ],
    [
      "Where it came from",
      [
        ["client", [facts.client_name, facts.client_version].filter(Boolean).join(" ")],
        ["kind", facts.client_kind],
        ["priority", facts.priority],
        ["backend", [facts.backend, facts.backend_version].filter(Boolean).join(" ")],
        ["quantisation", facts.quantization],
        ["memory of the GPU", held],
        ["run", facts.run_id],
        ["conversation", facts.conversation],
        ["turn", facts.turn],
        ["speaker", facts.speaker],
        ["item", facts.item],
        ["model digest", facts.model_digest],
        ["request", detail.id],
      ],
    ],
  ].map(([title, rows]) => [title, rows.map(([name, value]) => [name, plain(value)]).filter(([, value]) => value && value !== "–")]);
}

function plain(value) {
  if (value === null || value === undefined) return "";
  if (Array.isArray(value)) return value.map(plain).join(", ");
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
