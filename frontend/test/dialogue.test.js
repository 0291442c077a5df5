/** The dialogue panel without a page: its words, and several answers in one frame. */
import assert from "node:assert/strict";
import { test } from "node:test";
import { badgesOf, orderWord, planWords, runWords, swapWords } from "../src/dialogue/words.js";
import { restWords } from "../src/lanes/head.js";
import { Protocol } from "../src/protocol.js";

const run = (facts) => ({ state: "running", reason: "", taken: 3, limit: 8, order: "debate", pausing: false, ...facts });
const plan = (facts) => ({ needs: [[], []], together: true, loads: 0, swap_s: null, so_far: { foreseen: 0, measured: 0 }, notices: [], ...facts });

test("what the dialogue does is said with its reason", () => {
  assert.deepEqual(runWords(null), ["Not begun", ""]);
  assert.deepEqual(runWords(run({ state: "ready", taken: 0 })), ["Ready", "debate"]);
  assert.deepEqual(runWords(run({ state: "ready" })), ["A branch, ready to go on", "3 of 8 turns"]);
  assert.deepEqual(runWords(run(), ["Ann"]), ["Ann speaks", "3 of 8 turns"]);
  assert.deepEqual(runWords(run(), ["Ann", "Bob", "Cat"]), ["Ann, Bob and Cat speak", "3 of 8 turns"]);
  assert.deepEqual(runWords(run({ pausing: true })), ["Pauses after this turn", "3 of 8 turns"]);
  assert.deepEqual(runWords(run({ state: "done", reason: "they repeat themselves", limit: null })), ["Ended", "they repeat themselves · 3 turns"]);
  assert.deepEqual(runWords(run({ state: "failed", reason: "the turn of Ann failed" })), ["Failed", "the turn of Ann failed"]);
  assert.equal(orderWord("a rule"), "a rule");
});

test("memory is foreseen beside measured", () => {
  assert.deepEqual(planWords(plan()), { text: "2 models stay in memory together", level: "info" });
  assert.equal(planWords(plan({ needs: [[]] })).text, "One model in memory");
  assert.deepEqual(planWords(plan({ together: false, loads: 7, swap_s: 38.2, so_far: { foreseen: 11, measured: 12.4 } })), {
    text: "2 models take turns in memory · 7 loads foreseen, about 38 s · swaps so far 12 s, foreseen 11 s",
    level: "warn",
  });
  assert.match(planWords(plan({ together: null, loads: 1 })).text, /not known · 1 load foreseen, how long is not known/);
  assert.equal(planWords(plan({ notices: ["runs partly on the CPU"] })).level, "warn");
});

test("a swap of a turn is told when there was one", () => {
  assert.equal(swapWords([0, 0.01]), "");
  assert.equal(swapWords([4.04, null]), "swap foreseen 4.0 s");
  assert.equal(swapWords([4.04, 3.7]), "swap 3.7 s, foreseen 4.0 s");
  assert.equal(swapWords([null, 3.7]), "swap 3.7 s, not foreseen");
  assert.equal(swapWords(), "");
});

test("marks say how a turn came and what became of it", () => {
  assert.deepEqual(badgesOf({ picked: "order", status: "done" }), []);
  assert.deepEqual(badgesOf({ picked: "moderator", status: "skipped", changed: true }), ["picked by the moderator", "not heard by the others", "changed by you"]);
});

test("a lane at rest tells how its last answer ended", () => {
  assert.deepEqual(restWords({ phase: "idle" }), ["Not asked yet", ""]);
  assert.deepEqual(restWords({ phase: "done", detail: "stop", tps: 12.34, tok: 99, ttft: 0.42 }), ["Done", "12 tokens/s · 99 tokens · first after 0.42 s"]);
  assert.deepEqual(restWords({ phase: "done", detail: "length" }), ["Ended at the token limit", ""]);
  assert.deepEqual(restWords({ phase: "done", detail: "LoadFailed" }), ["Failed", ""]);
});

function lanes() {
  const turn = (mid) => ({ mid, role: "assistant", text: "", think: "", phase: "writing", reason: null });
  const protocol = new Protocol("v");
  protocol.hello(0);
  const s = { conv: { cid: "c" }, turns: [turn("a"), turn("b")], busy: { since: 1 } };
  protocol.apply({ t: "state", v: 1, n: 0, k: 1, base: null, s }, 1);
  return protocol;
}

test("one frame carries the words and the status of several answers", () => {
  const protocol = lanes();
  const statuses = [{ mid: "a", phase: "thinking", tok: 1 }, { mid: "b", phase: "writing", tok: 2 }];
  const result = protocol.apply({ t: "f", n: 1, p: [["a", "think", 0, "hm"], ["b", "text", 0, "yes"]], s: statuses }, 2);
  assert.deepEqual([...result.texts].sort(), ["a", "b"]);
  assert.equal(protocol.turns.get("a").think, "hm");
  assert.equal(protocol.turns.get("a").phase, "thinking");
  assert.equal(protocol.turns.get("b").text, "yes");
  assert.equal(protocol.statuses.get("b").tok, 2);
});

test("an answer that ended leaves the others on their way", () => {
  const protocol = lanes();
  protocol.apply({ t: "f", n: 1, p: [], s: [{ mid: "a", phase: "writing" }, { mid: "b", phase: "writing" }] }, 2);
  const done = { mid: "b", role: "assistant", text: "all", reason: "stop", phase: null };
  protocol.apply({ t: "state", v: 1, n: 1, k: 2, base: 1, s: { turns: ["a", done], busy: null } }, 3);
  assert.deepEqual([...protocol.statuses.keys()], ["a"]);
  assert.equal(protocol.streaming, true);
  protocol.apply({ t: "f", n: 2, p: [["a", "text", 0, "more"]] }, 4);
  assert.equal(protocol.turns.get("a").text, "more");
});
