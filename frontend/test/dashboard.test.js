/** The dashboard without a page: its figures and its words. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { FIGURES, groups, moment, phases, rate, share, time, trend } from "../src/dashboard/words.js";

const figure = (key) => FIGURES.find((one) => one.key === key);

test("a figure that was not measured is a dash, never 0", () => {
  assert.deepEqual(["–", "–", "–", "–"], [time(null), rate(undefined), share(null), moment(null)]);
  assert.deepEqual(["0.00 ms", "0 %"].map((text) => text.replace("0.00", "0.0")), [time(0), share(0)]);
});

test("times are short: milliseconds, seconds, minutes, hours", () => {
  assert.deepEqual(
    ["4.2 ms", "42 ms", "0.42 s", "4.2 s", "42 s", "4 min 20 s", "2 h 30 min"],
    [0.0042, 0.042, 0.42, 4.2, 42, 260, 9000].map(time),
  );
});

test("a trend knows which way is better", () => {
  assert.deepEqual({ text: "50 %", way: "up", good: false }, trend(figure("p95_s"), 3, 2));
  assert.deepEqual({ text: "50 %", way: "down", good: true }, trend(figure("p95_s"), 1, 2));
  assert.deepEqual({ text: "25 %", way: "up", good: true }, trend(figure("tokens_per_s"), 50, 40));
  assert.deepEqual({ text: "100 %", way: "up", good: null }, trend(figure("requests"), 20, 10));
  assert.deepEqual({ text: "2.0 points", way: "up", good: false }, trend(figure("error_share"), 0.05, 0.03));
  assert.deepEqual({ text: "as before", way: "same", good: null }, trend(figure("p95_s"), 2, 2));
  assert.deepEqual({ text: "", way: "none", good: null }, trend(figure("p95_s"), 2, null));
});

test("a moment is UTC, with its day when it is not today", () => {
  const now = new Date("2026-11-25T12:00:00Z");
  const at = (text) => Date.parse(text) / 1000;
  assert.equal("08:30:00", moment(at("2026-11-25T08:30:00Z"), now));
  assert.equal("24 Nov 23:59:59", moment(at("2026-11-24T23:59:59Z"), now));
  assert.equal("31 Dec 2025 01:00:00", moment(at("2025-12-31T01:00:00Z"), now));
});

test("the parts of a request add up to its duration", () => {
  const parts = phases({ duration: 10, queue_wait: 1, load_wait: 0, ollama_prompt_eval_duration: 2, ollama_eval_duration: 4 });
  assert.deepEqual(["queue", "prompt", "generation", "other"], parts.map((part) => part.key));
  assert.equal(10, parts.reduce((sum, part) => sum + part.value, 0));
  assert.deepEqual([], phases({}));
});

test("the detail lists only what is known", () => {
  const shown = Object.fromEntries(groups({ id: "r1", facts: { duration: 1.5, cold: true }, options: { seed: 4, stop: ["a", "b"] } }));
  assert.deepEqual([["seed", "4"], ["stop", "a, b"]], shown.Parameters);
  assert.deepEqual([["duration", "1.5 s"], ["model", "was loaded for it"]], shown.Timing);
  assert.deepEqual([["request", "r1"]], shown["Where it came from"]);
});
