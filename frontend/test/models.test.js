/** The models panel without a page: what its store holds, and the words it uses. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { BEAT_MS, RESEND_MS, Store } from "../src/models/store.js";
import { about, eventLine, fitOf, left, memoryOf, names, noteText, stateDetail, warningText } from "../src/models/words.js";

const GIB = 1024 ** 3;
const whole = (n, rows = {}) => ({ t: "state", v: 1, n, s: { rows, events: [], link: { state: "ok" } } });

function started(rows = { a: { key: "a" } }) {
  const store = new Store("v");
  store.hello(0);
  store.apply(whole(1, rows), 1);
  return store;
}

test("differences change rows, parts and events", () => {
  const store = started({ a: { key: "a" }, b: { key: "b" } });
  const change = store.apply(
    { t: "d", n: 2, rows: { a: { key: "a", state: "busy" }, b: null }, set: { warning: { level: "low" } }, ev: [{ event: "x" }], keep: 50 },
    2,
  );
  assert.deepEqual(store.picture.rows, { a: { key: "a", state: "busy" } });
  assert.deepEqual([...change.rows], ["a", "b"]);
  assert.deepEqual([...change.sections].sort(), ["events", "warning"]);
  assert.deepEqual(store.picture.events, [{ event: "x" }]);
});

test("no more events are kept than the kernel keeps", () => {
  const store = started();
  store.apply({ t: "d", n: 2, ev: [{ n: 1 }, { n: 2 }], keep: 2 }, 2);
  store.apply({ t: "d", n: 3, ev: [{ n: 3 }], keep: 2 }, 2);
  assert.deepEqual(store.picture.events, [{ n: 2 }, { n: 3 }]);
});

test("a number that is left out asks for the whole, once, and again when nobody answers", () => {
  const store = started();
  const change = store.apply({ t: "d", n: 3, rows: { a: null } }, 10);
  assert.deepEqual(change.send, [{ t: "sync", view: "v", n: 1 }]);
  assert.deepEqual(store.picture.rows, { a: { key: "a" } });
  assert.deepEqual(store.apply({ t: "d", n: 4 }, 11).send, []);
  assert.deepEqual(store.tick(12), []);
  assert.deepEqual(store.tick(10 + RESEND_MS), [{ t: "sync", view: "v", n: 1 }]);
  assert.equal(store.unanswered, 1);
  store.apply(whole(4), 3000);
  assert.equal(store.unanswered, 0);
  assert.equal(store.number, 4);
});

test("what comes twice is taken once", () => {
  const store = started();
  store.apply({ t: "d", n: 2, ev: [{ event: "x" }] }, 2);
  const change = store.apply({ t: "d", n: 2, ev: [{ event: "x" }] }, 3);
  assert.deepEqual(change.send, []);
  assert.equal(store.picture.events.length, 1);
});

test("a difference before the first picture only asks", () => {
  const store = new Store("v");
  assert.deepEqual(store.hello(0), { t: "hello", v: 1, view: "v" });
  assert.equal(store.apply({ t: "d", n: 5 }, 1).rows.size, 0);
  assert.deepEqual(store.tick(RESEND_MS), [{ t: "hello", v: 1, view: "v" }]);
});

test("a beat tells the number that is held", () => {
  const store = started();
  assert.deepEqual(store.tick(BEAT_MS - 1), []);
  assert.deepEqual(store.tick(BEAT_MS), [{ t: "beat", view: "v", n: 1 }]);
  assert.deepEqual(store.tick(BEAT_MS + 1), []);
});

test("random losses never leave a wrong picture", () => {
  for (let seed = 1; seed <= 40; seed += 1) {
    let state = seed;
    const random = () => (state = (state * 1103515245 + 12345) % 2 ** 31) / 2 ** 31;
    const kernel = { n: 1, rows: { a: 0, b: 0 } };
    const store = started(structuredClone(kernel.rows));
    for (let step = 0; step < 60; step += 1) {
      const key = random() < 0.5 ? "a" : "b";
      kernel.rows[key] = step;
      kernel.n += 1;
      if (random() < 0.3) continue;
      const { send } = store.apply({ t: "d", n: kernel.n, rows: { [key]: step } }, step);
      if (send.length && random() < 0.8) store.apply(whole(kernel.n, structuredClone(kernel.rows)), step);
    }
    if (store.number !== kernel.n) store.apply(whole(kernel.n, structuredClone(kernel.rows)), 99);
    assert.deepEqual(store.picture.rows, kernel.rows);
  }
});

test("times are told in their two largest units", () => {
  assert.deepEqual(
    [0, 59.4, 60, 252, 3600, 3900, 200000].map(left),
    ["0 s", "59 s", "1 min", "4 min 12 s", "1 h", "1 h 5 min", "2 days"],
  );
  assert.deepEqual([0.31, 4.1, 9.96, 75, null].map(about), ["about 0.3 s", "about 4.1 s", "about 10 s", "about 1 min 15 s", ""]);
});

test("a countdown ticks with the clock, and what stays says why", () => {
  const row = { state: "idle", expires: 1252 };
  assert.equal(stateDetail(row, 1000), "unloads in 4 min 12 s");
  assert.equal(stateDetail(row, 1253), "is due to unload");
  assert.equal(stateDetail({ ...row, forever: true }, 1000), "stays until unloaded");
  assert.equal(stateDetail({ ...row, pinned: true }, 1000), "pinned: stays");
  assert.equal(stateDetail({ state: "loading", since: 998, load_s: 4 }, 1000), "2 s of about 4.0 s");
  assert.equal(stateDetail({ state: "busy", in_flight: 1 }, 1000), "1 answer running");
  assert.equal(stateDetail({ ...row, stale: true }, 1000), "last known; its backend is silent");
});

test("memory is split as it is, and unknown is unknown", () => {
  assert.deepEqual(memoryOf({ vram: 3 * GIB, size_loaded: 4 * GIB }), { gpu: 75, cpu: 25, text: "3.0 GiB GPU · 1.0 GiB CPU" });
  assert.equal(memoryOf({ vram: 4 * GIB, size_loaded: 4 * GIB }).text, "4.0 GiB on the GPU");
  assert.equal(memoryOf({ vram: 0, size_loaded: 4 * GIB }).text, "4.0 GiB in main memory");
  assert.deepEqual(memoryOf({ size_loaded: 4 * GIB }), { gpu: null, cpu: null, text: "4.0 GiB" });
  assert.equal(memoryOf({}).text, "size unknown");
});

test("verdicts are sentences with their figures", () => {
  assert.equal(
    noteText({ kind: "unloaded", verdict: "verified", freed: 4.1 * GIB, seconds: 0.6 }),
    "Unloaded, verified, 4.1 GiB free after 0.60 s.",
  );
  assert.equal(noteText({ kind: "unloaded", verdict: "still_loaded" }), "Still in memory.");
  assert.equal(
    noteText({ kind: "loaded", seconds: 4.2, size: 5 * GIB, vram: 5 * GIB, context: 8192 }),
    "Loaded in 4.2 s · 5.0 GiB on the GPU · context 8,192.",
  );
  assert.equal(noteText({ kind: "failed", text: "Too large." }), "Too large.");
});

test("every event is a line, known or not", () => {
  assert.deepEqual(eventLine({ event: "swap", model: "b:latest", evicted: ["a"], seconds: 7.2, reason: "asked" }), {
    subject: "b",
    text: "came in for a in 7.2 s",
    why: "asked",
    level: "info",
  });
  assert.equal(eventLine({ event: "backend_down", backend: "lan", error: "refused" }).level, "error");
  assert.equal(eventLine({ event: "memory_low", free_bytes: GIB }).text, "Memory is low: 1.0 GiB free");
  assert.equal(eventLine({ event: "preferences", model: "a", priority: 8, keep_alive_s: -1 }).text, "has priority 8, stays until unloaded");
  assert.equal(eventLine({ event: "brand_new_thing" }).text, "brand new thing");
  assert.equal(eventLine({ event: "pinned", model: "a\u202eb" }).subject, "a\ufffdb");
});

test("fits, warnings and lists of names are words", () => {
  assert.deepEqual(fitOf({ fit: { verdict: "too_large", needed_bytes: 45 * GIB, source: "estimated", reason: "r" } }), {
    text: "needs about 45.0 GiB · is too large",
    warn: true,
    reason: "r",
  });
  assert.equal(fitOf({ fit: { verdict: "unknown", needed_bytes: null } }).text, "fit unknown");
  assert.equal(fitOf({}), null);
  assert.equal(warningText({ level: "low", free_bytes: GIB, total_bytes: 8 * GIB, device: "Card", text: "x" }).text, "Memory is low: 1.0 GiB of 8.0 GiB free on Card.");
  assert.equal(names(["a:latest", "b", "c"]), "a, b and c");
});
