/** The protocol over a line that loses, doubles and reorders messages. */
import assert from "node:assert/strict";
import { test } from "node:test";
import {
  ACK_FRAMES,
  ACK_MS,
  BEAT_MS,
  Protocol,
  RESEND_MAX_MS,
  RESEND_MS,
  STALL_MS,
} from "../src/protocol.js";

/** A random number generator with a seed: a failure can be repeated. */
function randomFrom(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state * 1664525 + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

function answer(text = "", facts = {}) {
  return {
    mid: "a1",
    role: "assistant",
    text,
    think: "",
    tools: [],
    phase: "writing",
    reason: null,
    ...facts,
  };
}

function stateOf(turns, busy = true) {
  return { conv: { cid: "c" }, turns, busy: busy ? { mid: "a1" } : null };
}

function started(text = "") {
  const protocol = new Protocol("v");
  protocol.hello(0);
  protocol.apply({ t: "state", n: 0, s: stateOf([answer(text)]) }, 0);
  return protocol;
}

function frame(n, offset, delta, channel = "text") {
  return { t: "f", n, p: [["a1", channel, offset, delta]], s: { mid: "a1", phase: "writing" } };
}

const held = (protocol) => protocol.turns.get("a1").text;

test("frames in order append", () => {
  const protocol = started();
  protocol.apply(frame(1, 0, "Hello"), 1);
  const result = protocol.apply(frame(2, 5, " world"), 2);
  assert.equal("Hello world", held(protocol));
  assert.deepEqual(["a1"], [...result.texts]);
  assert.equal(false, result.structure);
});

const QUESTION = { mid: "u1", role: "user", text: "Why?" };

test("a picture that builds on the last one keeps what it leaves out", () => {
  const protocol = new Protocol("v");
  protocol.hello(0);
  const whole = { ...stateOf([QUESTION, answer()]), models: ["m"] };
  protocol.apply({ t: "state", n: 0, k: 1, base: null, s: whole }, 0);
  protocol.apply(frame(1, 0, "Hello"), 1);
  const { text: _text, think: _think, ...live } = answer("", { dropped: 1 });
  const made = protocol.apply({ t: "state", n: 1, k: 2, base: 1, s: { turns: ["u1", live] } }, 2);
  assert.equal(true, made.structure);
  assert.deepEqual(["m"], protocol.state.models);
  assert.deepEqual(["Why?", "Hello"], protocol.state.turns.map((turn) => turn.text));
  assert.equal(1, protocol.state.turns[1].dropped);
  protocol.apply(frame(2, 5, " you"), 3);
  protocol.apply({ t: "state", n: 2, k: 3, base: 2, s: { models: ["n"] } }, 4);
  assert.equal("Hello you", held(protocol));
  assert.deepEqual([], protocol.tick(500).filter((message) => message.t === "sync"));
});

for (const [name, message] of [
  ["builds on one that was lost", { k: 3, base: 2, s: {} }],
  ["names a turn nobody holds", { k: 2, base: 1, s: { turns: ["u1", "gone"] } }],
]) {
  test(`a picture that ${name} changes nothing and asks for the whole`, () => {
    const protocol = new Protocol("v");
    protocol.hello(0);
    protocol.apply({ t: "state", n: 0, k: 1, base: null, s: stateOf([QUESTION], false) }, 0);
    const made = protocol.apply({ t: "state", n: 0, ...message }, 1);
    assert.deepEqual(["sync"], made.send.map((sent) => sent.t));
    assert.equal(false, made.structure);
    assert.deepEqual(["Why?"], protocol.state.turns.map((turn) => turn.text));
  });
}

test("a picture that tells of a frame nobody saw asks for the whole, and waits for it", () => {
  const protocol = started("abc");
  protocol.picture = 1;
  const made = protocol.apply({ t: "state", n: 1, k: 2, base: 1, s: {} }, 1);
  assert.deepEqual(["sync"], made.send.map((message) => message.t));
  assert.notEqual(null, protocol.asked);
  protocol.apply({ t: "state", n: 1, k: 3, base: null, s: stateOf([answer("abcdef")]) }, 2);
  assert.equal(null, protocol.asked);
  assert.equal("abcdef", held(protocol));
});

test("offsets count UTF-16 units", () => {
  const protocol = started("😀");
  protocol.apply(frame(1, 2, "é😀"), 1);
  protocol.apply(frame(2, 5, "!"), 2);
  assert.equal("😀é😀!", held(protocol));
});

test("a doubled frame changes nothing", () => {
  const protocol = started();
  protocol.apply(frame(1, 0, "abc"), 1);
  const result = protocol.apply(frame(1, 0, "abc"), 2);
  assert.equal("abc", held(protocol));
  assert.equal(0, result.texts.size);
});

test("a gap in the numbers asks for the whole, once", () => {
  const protocol = started();
  const first = protocol.apply(frame(2, 3, "def"), 1);
  const second = protocol.apply(frame(4, 9, "jkl"), 2);
  const syncs = [...first.send, ...second.send].filter((message) => message.t === "sync");
  assert.deepEqual([{ t: "sync", view: "v", have: { a1: { text: 0, think: 0 } } }], syncs);
});

test("a piece that came too early is kept", () => {
  const protocol = started();
  protocol.apply(frame(2, 3, "def"), 1);
  assert.equal("", held(protocol));
  protocol.apply(frame(1, 0, "abc"), 2);
  assert.equal("abcdef", held(protocol));
});

test("a question without an answer is asked again, ever more rarely", () => {
  const protocol = started();
  protocol.apply(frame(3, 9, "x"), 0);
  const times = [];
  for (let now = 0; now <= 60000; now += 100) {
    protocol.heardAt = now;
    if (protocol.tick(now).some((message) => message.t === "sync")) times.push(now);
  }
  assert.equal(RESEND_MS, times[0]);
  assert.ok(times[2] - times[1] > times[1] - times[0]);
  assert.equal(RESEND_MAX_MS, times.at(-1) - times.at(-2));
});

test("hello is repeated until a state comes", () => {
  const protocol = new Protocol("v");
  protocol.hello(0);
  assert.equal("hello", protocol.tick(RESEND_MS)[0].t);
  assert.equal(1, protocol.unanswered);
  protocol.apply({ t: "state", n: 0, s: stateOf([], false) }, 2500);
  assert.deepEqual([], protocol.tick(9000));
});

test("a state never shortens a text that streams", () => {
  const protocol = started();
  protocol.apply(frame(1, 0, "abcdef"), 1);
  protocol.apply({ t: "state", n: 1, s: stateOf([answer("abc")]) }, 2);
  assert.equal("abcdef", held(protocol));
});

test("a final state replaces the text", () => {
  const protocol = started();
  protocol.apply(frame(1, 0, "abcdef"), 1);
  protocol.apply(
    { t: "state", n: 1, s: stateOf([answer("abc", { phase: null, reason: "stop" })], false) },
    2,
  );
  assert.equal("abc", held(protocol));
  assert.equal(false, protocol.streaming);
});

test("another conversation takes nothing over", () => {
  const protocol = started();
  protocol.apply(frame(1, 0, "abcdef"), 1);
  const other = { ...stateOf([answer("ab")]), conv: { cid: "other" } };
  protocol.apply({ t: "state", n: 1, s: other }, 2);
  assert.equal("ab", held(protocol));
});

test("every tenth frame is acknowledged", () => {
  const protocol = started();
  const acks = [];
  for (let n = 1; n <= 30; n += 1) acks.push(...protocol.apply(frame(n, n - 1, "x"), 1).send);
  assert.deepEqual(
    [ACK_FRAMES, 2 * ACK_FRAMES, 3 * ACK_FRAMES],
    acks.map((ack) => ack.n),
  );
});

test("rare frames are acknowledged by time", () => {
  const protocol = started();
  protocol.apply(frame(1, 0, "x"), 1);
  assert.deepEqual([{ t: "ack", n: 1 }], protocol.tick(1 + ACK_MS));
});

test("the end of a stream is acknowledged", () => {
  const protocol = started();
  protocol.apply(frame(1, 0, "x"), 1);
  const result = protocol.apply(
    { t: "state", n: 1, s: stateOf([answer("x", { phase: null, reason: "stop" })], false) },
    2,
  );
  assert.deepEqual([{ t: "ack", n: 1 }], result.send);
});

test("a streaming view gives signs of life", () => {
  const protocol = started();
  const beats = [];
  for (let now = 0; now < 10 * BEAT_MS; now += 250) {
    protocol.heardAt = now;
    beats.push(...protocol.tick(now).filter((message) => message.t === "beat"));
  }
  assert.ok(beats.length >= 9 && beats.length <= 10, String(beats.length));
});

test("a stream that falls silent asks, since its last message may be lost", () => {
  const protocol = started();
  assert.ok(protocol.tick(STALL_MS).some((message) => message.t === "sync"));
});

test("a hole in a tool call that is being written asks for nothing", () => {
  const protocol = started();
  protocol.apply(frame(1, 0, "get_", "tool"), 1);
  const result = protocol.apply(frame(2, 10, "x", "tool"), 2);
  assert.deepEqual(
    [],
    result.send.filter((message) => message.t === "sync"),
  );
});

test("messages outside the state are handed on", () => {
  const protocol = started();
  assert.deepEqual({ t: "notice", text: "x" }, protocol.apply({ t: "notice", text: "x" }, 1).event);
});

test("nonsense is ignored", () => {
  const protocol = started("a");
  for (const message of [
    null,
    {},
    { t: "state" },
    {
      t: "f",
      n: 1,
      p: [
        ["?", "text", 0, "x"],
        ["a1", "__proto__", 0, "x"],
      ],
    },
  ]) {
    protocol.apply(message, 1);
  }
  assert.equal("a", held(protocol));
});

const PIECES = ["a", "😀", "é", "\n", "```", "👩‍🚀", "漢字", " ", "**x**"];

/** A kernel that streams a text to a view over a bad line; returns what the view holds at the end. */
function overBadLine(seed) {
  const random = randomFrom(seed);
  const texts = { text: "", think: "" };
  const sent = { text: 0, think: 0 };
  const protocol = new Protocol("v");
  const line = [];
  let n = 0;
  let ended = false;
  const turn = () =>
    answer(texts.text, { think: texts.think, ...(ended ? { phase: null, reason: "stop" } : {}) });
  const sendState = () => {
    Object.assign(sent, { text: texts.text.length, think: texts.think.length });
    line.push({ t: "state", n, s: stateOf([turn()], !ended) });
  };
  const post = (message, last) => {
    if (random() < 0.2 && !last) return;
    if (["hello", "sync"].includes(message.t)) sendState();
  };
  const deliver = (now) => {
    while (line.length && random() < 0.7) {
      // Only frames overtake each other, as no known line reorders what is rarer.
      const at = line[0].t === "f" && line[1]?.t === "f" && random() < 0.3 ? 1 : 0;
      const [message] = line.splice(at, 1);
      if (random() < 0.15) continue;
      const times = random() < 0.1 ? 2 : 1;
      for (let i = 0; i < times; i += 1)
        protocol.apply(structuredClone(message), now).send.forEach((m) => post(m));
    }
  };
  post(protocol.hello(0));
  let now = 0;
  for (let step = 0; step < 200; step += 1) {
    now += 33;
    const channel = step < 40 ? "think" : "text";
    for (let i = 0; i < 4; i += 1) texts[channel] += PIECES[Math.floor(random() * PIECES.length)];
    n += 1;
    line.push({
      t: "f",
      n,
      p: [["a1", channel, sent[channel], texts[channel].slice(sent[channel])]],
      s: { mid: "a1", phase: "writing" },
    });
    sent[channel] = texts[channel].length;
    deliver(now);
    protocol.tick(now).forEach((m) => post(m));
  }
  ended = true;
  sendState();
  for (let step = 0; step < 400; step += 1) {
    now += 250;
    deliver(now);
    protocol.tick(now).forEach((m) => post(m));
  }
  return { protocol, texts };
}

test("whatever is lost, doubled or reordered, the text comes out right", () => {
  for (let seed = 1; seed <= 150; seed += 1) {
    const { protocol, texts } = overBadLine(seed);
    assert.equal(texts.text, protocol.turns.get("a1")?.text, `seed ${seed}`);
    assert.equal(texts.think, protocol.turns.get("a1").think, `seed ${seed}`);
    assert.equal(false, protocol.streaming, `seed ${seed}`);
  }
});
