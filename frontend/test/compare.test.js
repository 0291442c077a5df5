/** The comparison's pure parts: what differs between two texts, and the sentences. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { countsOf, diff, MOST_EDITS, wordsOf } from "../src/compare/diff.js";
import {
  askWords,
  diffWords,
  listed,
  nextToVote,
  orderOf,
  orderReason,
  progressWords,
  strengthWords,
  verdictWords,
  winWords,
} from "../src/compare/words.js";

/** A random number generator with a seed: a failure can be repeated. */
function randomFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state * 1664525 + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

const side = (parts, op) =>
  parts
    .filter((part) => part.op === "same" || part.op === op)
    .map((part) => part.text)
    .join("");

/** The length of the longest common subsequence, by the table everybody knows. */
function common(a, b) {
  let row = new Array(b.length + 1).fill(0);
  for (const word of a) {
    const next = [0];
    b.forEach((other, j) => next.push(word === other ? row[j] + 1 : Math.max(row[j + 1], next[j])));
    row = next;
  }
  return row.at(-1);
}

test("words, spaces and signs together are the text", () => {
  const text = "Größe: 2.1 km²,\n\tnaïve 😀 日本語!";
  assert.equal(text, wordsOf(text).join(""));
  assert.deepEqual(["naïve"], wordsOf("naïve"));
});

test("the parts of a side are its text, whatever the texts are", () => {
  const random = randomFrom(7);
  const words = ["a", "b", "c", " ", "\n", "d e"];
  for (let round = 0; round < 400; round += 1) {
    const make = () =>
      Array.from({ length: Math.floor(random() * 14) }, () => words[Math.floor(random() * words.length)]).join("");
    const [left, right] = [make(), make()];
    const parts = diff(left, right);
    assert.equal(left, side(parts, "left"), `round ${round}`);
    assert.equal(right, side(parts, "right"), `round ${round}`);
    assert.ok(parts.every((part, at) => at === 0 || part.op !== parts[at - 1].op));
  }
});

test("as much as can be is the same", () => {
  const random = randomFrom(11);
  for (let round = 0; round < 100; round += 1) {
    // One letter per word and no spaces: nothing is joined for reading.
    const make = () => Array.from({ length: 12 }, () => ".,;:!"[Math.floor(random() * 5)]).join("");
    const [left, right] = [make(), make()];
    const same = diff(left, right)
      .filter((part) => part.op === "same")
      .reduce((sum, part) => sum + part.text.length, 0);
    assert.equal(common([...left], [...right]), same, `${left} ${right}`);
  }
});

test("a changed word is a part, and a changed phrase is one part", () => {
  assert.deepEqual(
    [
      { op: "same", text: "The " },
      { op: "left", text: "red fox" },
      { op: "right", text: "lazy dog" },
      { op: "same", text: " sleeps" },
    ],
    diff("The red fox sleeps", "The lazy dog sleeps"),
  );
});

test("texts with nothing in common do not hold up the page", () => {
  const words = (letter) => Array.from({ length: MOST_EDITS * 4 }, (_, i) => `${letter}${i}`).join(" ");
  const began = performance.now();
  const parts = diff(words("a"), words("b"));
  assert.ok(performance.now() - began < 5000);
  assert.equal(words("a"), side(parts, "left"));
});

test("what differs is counted in words", () => {
  const counts = countsOf(diff("Paris is big.", "Paris is very big!"));
  assert.deepEqual({ same: 3, left: 0, right: 1 }, counts);
  assert.match(diffWords(counts, ["a", "b"]), /^75 % of the words are the same; 0 only in a, 1 only in b/);
  assert.equal("The two answers have the same words.", diffWords({ same: 3, left: 0, right: 0 }, ["a", "b"]));
});

const MODEL = { names: ["m"], loaded: false, swap_s: 2, source: "measured" };
const plan = (steps, more = {}) => ({ steps, known: true, together: false, reason: "full", notices: [], swap_s: 4, loads: 2, ...more });

test("the order of work says what is next and how long it loads", () => {
  const steps = [
    { state: "done", models: [MODEL], left: 0, all: 8 },
    { state: "now", models: [{ ...MODEL, names: ["n"] }], left: 3, all: 8 },
    { state: "next", models: [{ ...MODEL, names: ["o"], source: "by size" }], left: 8, all: 8 },
    { state: "later", models: [{ ...MODEL, names: ["p"], swap_s: null }], left: 8, all: 8 },
  ];
  assert.deepEqual(
    ["m", "n, 3 of 8 answers left", "o, loads in about 2.0 s", "p, not in memory yet"],
    orderOf(plan(steps)).map((step) => step.text),
  );
  assert.match(orderReason(plan(steps)), /take turns in memory: full\. 2 loads, 4\.0 s in all/);
  assert.deepEqual([], orderOf(null));
});

test("the next prompt to vote on is answered, not voted on, and not this one", () => {
  assert.equal(3, nextToVote("vdvd", 1));
  assert.equal(1, nextToVote("vdvd", 3));
  assert.equal(null, nextToVote("vdv.", 1));
  assert.equal(null, nextToVote("vv", 0));
});

test("verdicts, progress and prompts in words", () => {
  assert.equal("toy-nano is better", verdictWords("b", ["toy-tiny", "toy-nano"]));
  assert.equal("It is a tie", verdictWords("tie", ["a", "b"]));
  assert.equal("2 of 4 answered · 1 of 4 voted on", progressWords("vd.w"));
  assert.equal("", progressWords("d"));
  assert.equal("a, b and c", listed(["a", "b", "c"]));
  assert.equal("Ask 2 models the same", askWords([{ name: "a" }, { name: "b" }]));
});

test("what is not known of a strength is not shown as a number", () => {
  const row = { win: 1, win_low: 0.5, win_high: 1, strength: null, strength_low: null, strength_high: null };
  assert.equal("100 % (50 % to 100 %)", winWords(row));
  assert.equal("none", strengthWords(row));
  assert.equal("−0.55 (no bound to +0.10)", strengthWords({ strength: -0.55, strength_low: null, strength_high: 0.1 }));
});
