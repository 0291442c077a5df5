/** The runs panel without a page: its layout, its time and its words. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { layersOf, layout, line, shortEdges } from "../src/runs/layout.js";
import { scaleOf } from "../src/runs/timeline.js";
import { badge, canResume, chosen, doing, errorWords, moment, RUNS, stateOf, stepLine, stepName, STEPS, time, took } from "../src/runs/words.js";

const SIZE = { along: 50, across: 100, gapAlong: 20, gapAcross: 10 };
const plan = (text) =>
  text.split(" ").map((part) => {
    const [id, needs] = part.split("<");
    return { id, needs: needs ? needs.split(",") : [], kind: "prompt" };
  });
const DIAMOND = plan("a b<a c<a d<b,c,a");
const row = (more) => ({ id: "1", plan: "p", status: "done", asks: [], failed: [], active: [], error: null, started: 0, ended: 10, created: 0, ...more });
const step = (more) => ({ status: "pending", spans: [], seconds: null, attempt: 0, items: null, done: 0, errors: 0, phase: "", reason: "", ...more });

/** A plan by chance, the same for the same seed. */
function random(seed, count) {
  let state = seed;
  const next = () => (state = (state * 1103515245 + 12345) % 2147483648) / 2147483648;
  return Array.from({ length: count }, (_, at) => ({
    id: `s${at}`,
    needs: [...new Set(Array.from({ length: Math.floor(next() * 3) }, () => Math.floor(next() * at)))].filter((need) => need < at).map((need) => `s${need}`),
  }));
}

test("a step stands one layer after the last it needs", () => {
  assert.deepEqual([["a", 0], ["b", 1], ["c", 1], ["d", 2]], [...layersOf(DIAMOND)]);
});

test("a need that another path says already is not drawn", () => {
  assert.deepEqual(["a>b", "a>c", "b>d", "c>d"], shortEdges(DIAMOND).map((edge) => edge.join(">")));
});

test("a chain is straight, and its lines too", () => {
  const { places, paths, along, across } = layout(plan("a b<a c<b"), SIZE);
  assert.deepEqual([0, 0, 0], [...places.values()].map((place) => place.across));
  assert.deepEqual([190, 100], [along, across]);
  assert.equal("M50 50L70 50", line(paths[0].points, true));
  assert.equal("M50 50L50 70", line(paths[0].points, false));
});

test("a circle and an unknown need are drawn all the same", () => {
  assert.equal(2, layout(plan("a<b b<a"), SIZE).places.size);
  assert.equal(1, layout(plan("a<gone"), SIZE).places.size);
});

test("whatever the plan, boxes keep apart, stay inside, and look the same again", () => {
  for (let seed = 1; seed <= 60; seed += 1) {
    const nodes = random(seed, 1 + (seed % 30));
    const { places, along, across } = layout(nodes, SIZE);
    assert.deepEqual([...places], [...layout(nodes, SIZE).places]);
    const all = [...places.values()];
    for (const place of all) {
      assert.ok(place.along >= 0 && place.along + SIZE.along <= along + 1e-6, `seed ${seed}`);
      assert.ok(place.across >= -1e-6 && place.across + SIZE.across <= across + 1e-6, `seed ${seed}`);
    }
    const near = all.flatMap((a, at) => all.slice(at + 1).filter((b) => a.along === b.along && Math.abs(a.across - b.across) < SIZE.across + SIZE.gapAcross - 1e-6));
    assert.equal(0, near.length, `seed ${seed}`);
  }
});

test("time in which nothing was at work is folded, and places stay in order", () => {
  const spans = [
    { at: 0, to: 10, kind: "done" },
    { at: 10, to: 7210, kind: "waiting" },
    { at: 7210, to: 7220, kind: "done" },
  ];
  const scale = scaleOf(spans, 8000);
  assert.equal(20, scale.work);
  assert.deepEqual([7200], scale.folds.map((fold) => fold.seconds));
  assert.ok(scale.place(10) > 0.45 && scale.place(7210) < 0.55);
  const places = [0, 5, 10, 4000, 7210, 7215, 7220].map(scale.place);
  assert.deepEqual([...places].sort((a, b) => a - b), places);
  assert.deepEqual([0, 1], [places[0], places.at(-1)]);
});

test("a short pause is no fold, and an open span ends now", () => {
  const scale = scaleOf([{ at: 0, to: 10, kind: "failed" }, { at: 11, to: null, kind: "running" }], 20);
  assert.deepEqual([[], 1], [scale.folds, scale.place(20)]);
  assert.ok(scale.ticks.length > 2 && scale.ticks.length < 9);
  assert.equal(0, scaleOf([], 5).work);
});

test("each state has its own word and its own sign", () => {
  for (const table of [STEPS, RUNS]) {
    const words = Object.values(table).map(([word]) => word);
    assert.equal(words.length, new Set(words).size);
  }
  const signs = Object.values(STEPS).map(([, , sign]) => sign);
  assert.equal(signs.length, new Set(signs).size);
  assert.equal("unknown", stateOf(STEPS, "of tomorrow").word);
});

test("runs are chosen by state and plan, the newest first", () => {
  const rows = [row({ id: "1" }), row({ id: "3", status: "running" }), row({ id: "2", status: "waiting", asks: ["ok"], plan: "q" })];
  assert.deepEqual(["3", "2", "1"], chosen(rows, { group: "all", plan: "" }).map(({ id }) => id));
  assert.deepEqual(["2"], chosen(rows, { group: "asks", plan: "" }).map(({ id }) => id));
  assert.deepEqual(["3", "1"], chosen(rows, { group: "all", plan: "p" }).map(({ id }) => id));
  assert.deepEqual(["1 waits for you", "1 running"], badge(rows).map(({ text }) => text));
});

test("what a run does is one line", () => {
  assert.equal("Your answer is needed at step ok", doing(row({ status: "running", asks: ["ok"] })));
  assert.equal("Your answer is needed at steps ok, go", doing(row({ status: "waiting", asks: ["ok", "go"] })));
  assert.equal("Run workbench resume", doing(row({ status: "failed", error: { message: "Run `workbench resume`" } })));
  assert.equal("ask 3 of 9, writing and 1 more", doing(row({ status: "running", active: [{ id: "ask", done: 3, items: 9, phase: "writing" }, { id: "b" }] })));
  assert.equal("Answered; it goes on when it is resumed", doing(row({ status: "waiting" })));
  assert.deepEqual([false, true, true, false], ["done", "failed", "lost", "running"].map((status) => canResume(row({ status }))));
  assert.deepEqual([10, 5, null], [took(row({}), 99), took(row({ status: "running" }), 5), took(row({ status: "lost", ended: null }), 9)]);
});

test("errors and times are words", () => {
  const types = ["StepFailed", "HTTPStatusError", "OSError", "ValueError", null];
  assert.deepEqual(["Step failed", "HTTP status error", "OS error", "Value error", "Error"], types.map(errorWords));
  assert.deepEqual(["<0.01 s", "59 min 59 s", "2 h", "2 h 4 min", "3 d", "3 d 2 h"], [0.001, 3599, 7200, 7440, 259200, 266400].map(time));
});

test("a step is told in a line, and in full for the ear", () => {
  const running = step({ status: "running", items: 9, done: 3, errors: 1, attempt: 2, spans: [{ at: 1, to: null, kind: "running" }] });
  assert.equal("3 of 9, 1 failed · attempt 2 · 6 s", stepLine(running, 7));
  assert.equal("not begun", stepLine(step({}), 7));
  assert.equal("ask, prompt, running, 3 of 9, 1 failed, 6 s, needs load", stepName({ id: "ask", kind: "prompt", needs: ["load"] }, running, 7));
});

test("a moment is near in minutes, and far by its day", () => {
  const now = new Date(2026, 10, 25, 12, 0).getTime() / 1000;
  assert.deepEqual(["just now", "5 min ago", "08:00", "24 Nov 12:00", "–"], [moment(now - 3, now), moment(now - 300, now), moment(now - 14400, now), moment(now - 86400, now), moment(null, now)]);
});
