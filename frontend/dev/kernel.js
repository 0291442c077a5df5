/** A kernel in the page: the protocol's other side, scripted. */

const MODEL = {
  name: "gemma3:4b",
  backend: "local",
  toy: false,
  state: "idle",
  reason: "the model used last",
};
const ROW = {
  size_bytes: 3_300_000_000,
  load_s: 4.2,
  vision: true,
  thinking: false,
  tools: true,
  evicts: [],
  fit: { verdict: "alongside", reason: null },
};

/** Return an empty STATE. */
export function emptyState() {
  return {
    conv: { cid: "c1", title: "", saved: true, read_only: false },
    turns: [],
    busy: null,
    model: { ...MODEL },
    models: [
      { ...MODEL, ...ROW },
      {
        ...MODEL,
        ...ROW,
        name: "qwen3:8b",
        state: "absent",
        size_bytes: 5_200_000_000,
        load_s: 8,
        thinking: true,
        vision: false,
        evicts: ["gemma3:4b"],
        fit: { verdict: "alone", reason: "5.2 GB needed, 3.1 GB free beside gemma3:4b" },
      },
      {
        ...MODEL,
        ...ROW,
        name: "llama3.3:70b",
        state: "absent",
        size_bytes: 42_500_000_000,
        load_s: null,
        vision: false,
        fit: { verdict: "too_large", reason: "43 GB needed, 8 GB may be used" },
      },
      {
        ...MODEL,
        ...ROW,
        name: "gpt-oss:20b",
        state: "absent",
        size_bytes: 13_800_000_000,
        load_s: 21,
        vision: false,
        thinking: true,
        fit: { verdict: "offload", reason: "61 % fits onto the card" },
      },
      {
        ...MODEL,
        ...ROW,
        name: "toy-tiny",
        state: "absent",
        toy: true,
        size_bytes: 2_600_000,
        load_s: 0.2,
        vision: false,
        tools: false,
      },
    ],
    system: "",
    params: {},
    think: null,
    presets: [{ name: "careful", system: "Answer in one sentence.", params: { temperature: 0.2 } }],
    preset: null,
    attachments: [],
    limits: { ctx: 8192, used: null },
    examples: ["What is the capital of France?", "Make a plan to bake bread.", "What is 7 plus 8?"],
    env: { kernel: "7.4.0", stop_while_busy: true, insert: false },
  };
}

/** Answers a view as the Python side does. */
export class MockKernel {
  constructor(mathSource) {
    this.mathSource = mathSource;
    this.state = emptyState();
    this.n = 0;
    this.sent = [];
    this.handlers = new Set();
    this.count = 0;
    this.lose = () => false;
    this.model = {
      send: (content, _callbacks, buffers) => {
        if (this.gone) throw new Error("Cannot send");
        this.sent.push(content);
        setTimeout(() => this.take(content, buffers), 2);
      },
      on: (name, fn) => name === "msg:custom" && this.handlers.add(fn),
      off: (_name, fn) => this.handlers.delete(fn),
      get: () => undefined,
    };
  }

  emit(content, buffers = []) {
    const copy = structuredClone(content);
    for (const fn of this.handlers) fn(copy, buffers);
  }

  sendState() {
    this.emit({ t: "state", v: 1, n: this.n, s: this.state });
  }

  take(message) {
    const takers = {
      hello: () => this.sendState(),
      sync: () => this.sendState(),
      need: () => this.emit({ t: "mod", mod: "math" }, [new DataView(this.mathSource)]),
      send: () => this.onSend?.(message),
      stop: () => this.onStop?.(),
      swap: () => this.onSwap?.(message),
      model: () => this.#choose(message.name),
      measure: () =>
        this.emit({
          t: "ctx",
          tokens_est: Math.round(message.text_len / 4),
          ctx: 8192,
          fits: message.text_len < 32768,
          items: [],
        }),
      chats: () => this.emit({ t: "chats", items: this.chats ?? [], query: message.query }),
    };
    takers[message.t]?.();
  }

  #choose(name) {
    this.state.model = { ...this.state.models.find((row) => row.name === name) };
    this.sendState();
  }

  /** Add a question and its answer; returns the answer's turn. */
  turn(question, answer) {
    const number = (this.count += 1);
    this.state.turns.push({
      mid: `u${number}`,
      role: "user",
      text: question,
      images: 0,
      attachments: [],
      sib: [0, 1, null, null],
    });
    const turn = {
      mid: `a${number}`,
      role: "assistant",
      text: "",
      think: "",
      tools: [],
      model: "gemma3:4b",
      toy: false,
      phase: null,
      reason: "stop",
      error: null,
      fig: {},
      sib: [0, 1, null, null],
      dropped: 0,
      ...answer,
    };
    this.state.turns.push(turn);
    return turn;
  }

  /** Begin an answer that streams. */
  begin(question, answer = {}) {
    const turn = this.turn(question, { phase: "queued", reason: null, ...answer });
    this.state.busy = { mid: turn.mid, since: Date.now() / 1000 };
    this.sendState();
    return turn;
  }

  /** Send a frame with new text; what `lose` says is dropped. */
  frame(turn, text, { channel = "text", status = {} } = {}) {
    const offset = turn[channel].length;
    turn[channel] += text;
    const message = {
      t: "f",
      n: (this.n += 1),
      p: text ? [[turn.mid, channel, offset, text]] : [],
      s: {
        mid: turn.mid,
        phase: channel === "think" ? "thinking" : "writing",
        tok: null,
        tps: null,
        ttft: null,
        est: true,
        ...status,
      },
    };
    if (!this.lose(message)) this.emit(message);
  }

  /** End an answer. */
  end(turn, facts = {}) {
    Object.assign(turn, { phase: null, reason: "stop", ...facts });
    this.state.busy = null;
    this.sendState();
  }
}
