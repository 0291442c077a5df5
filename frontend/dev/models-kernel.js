/** The kernel's side of the models panel in the page: a picture, and what a person sent. */

const COLORS = ["#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#882255", "#999933", "#AA4499"];
const GIB = 1024 ** 3;

/** Make a row; what is not given is what a model at rest has. */
export function row(name, more = {}) {
  const backend = more.backend ?? "local";
  const hash = [...name].reduce((sum, letter) => (sum * 31 + letter.charCodeAt(0)) >>> 0, 7);
  return {
    key: `${name}@${backend}`,
    name,
    backend,
    color: COLORS[hash % COLORS.length],
    pattern: ["solid", "dash", "dot", "dashdot"][Math.floor(hash / 9) % 4],
    state: "absent",
    size: 4.6 * GIB,
    parameters: "8.0B",
    quantization: "Q4_K_M",
    max_context: 131072,
    priority: 5,
    load_s: null,
    evicts: [],
    fit: { verdict: "alongside", needed_bytes: 5.1 * GIB, free_bytes: 9 * GIB, source: "measured", reason: "5.1 GiB of 9.0 GiB free" },
    ...more,
  };
}

/** Make a row of a model in memory. */
export function loaded(name, gib, more = {}) {
  return row(name, {
    state: "idle",
    size: gib * GIB * 0.92,
    size_loaded: gib * GIB,
    vram: gib * GIB,
    context: 8192,
    load_s: 4.1,
    unload_s: 0.6,
    expires: Date.now() / 1000 + 252,
    owner: "ours",
    fit: null,
    ...more,
  });
}

/** Return the picture of a server without models. */
export function emptyPicture() {
  return {
    now: Date.now() / 1000,
    link: { state: "ok", text: "", since: Date.now() / 1000, can_start: true },
    backends: [
      { name: "local", kind: "ollama", url: "http://127.0.0.1:11434", version: "0.12.3", reachable: true, error: null, hint: null, swap: { value: "auto", choices: ["auto", "manual", "server"], source: "default", changeable: true } },
      { name: "embedded", kind: "llamacpp", url: null, version: null, reachable: true, error: null, hint: null, swap: { value: "auto", choices: ["auto", "manual"], source: "default", changeable: true } },
    ],
    rows: {},
    devices: [
      { id: "GPU-0", name: "NVIDIA RTX 4090", kind: "nvidia", total_bytes: 24 * GIB, used_bytes: 0.7 * GIB, free_bytes: 23.3 * GIB, utilization_pct: 0, temperature_c: 38, power_w: 21, models: [], other_bytes: 0.7 * GIB, source: "nvml", reason: null },
    ],
    warning: null,
    queue: { lanes: [], order: [], predicted_swaps: 0, wait_bound_s: { interactive: 5, batch: 60 } },
    settings: [
      { name: "swap.local", value: "auto", default: "auto", source: "default", changeable: true, kind: "choice", choices: ["auto", "manual", "server"], help: "What happens when a model needs another's room." },
      { name: "swap.embedded", value: "manual", default: "auto", source: "state", changeable: true, kind: "choice", choices: ["auto", "manual"], help: null },
      { name: "queue.interactive_wait_s", value: 5, default: 5, source: "default", changeable: true, kind: "seconds", choices: null, help: "Longest wait of an interactive request before its model gets its turn." },
      { name: "queue.batch_wait_s", value: 30, default: 60, source: "workbench.toml", changeable: true, kind: "seconds", choices: null, help: null },
      { name: "queue.concurrency", value: 1, default: 1, source: "default", changeable: true, kind: "int", choices: null, help: null },
      { name: "server.open_ollama_api", value: true, default: false, source: "flag", changeable: true, kind: "bool", choices: null, help: "Let Ollama clients without a token in, on this machine." },
      { name: "server.port", value: 11500, default: 11500, source: "environment WORKBENCH_PORT", changeable: false, kind: "int", choices: null, help: null },
      { name: "engine.keep_alive_s", value: 300, default: 300, source: "default", changeable: true, kind: "seconds", choices: null, help: null },
      { name: "engine.memory_bytes", value: null, default: null, source: "default", changeable: true, kind: "int", choices: null, help: "Main memory the embedded engine may use; empty takes what the machine can spare." },
    ],
    pulls: [],
    events: [],
    said: null,
    env: { gpu_reason: null, settings_reason: null },
  };
}

/** Answers a view as the Python side does. */
export class MockModels {
  constructor() {
    this.picture = emptyPicture();
    this.n = 0;
    this.sent = [];
    this.handlers = new Set();
    this.model = {
      send: (content) => {
        if (this.gone) throw new Error("Cannot send");
        this.sent.push(content);
        setTimeout(() => this.take(content), 2);
      },
      on: (name, fn) => name === "msg:custom" && this.handlers.add(fn),
      off: (_name, fn) => this.handlers.delete(fn),
      get: () => undefined,
    };
  }

  /** Put rows into the picture. */
  add(...rows) {
    for (const one of rows) this.picture.rows[one.key] = one;
    return this;
  }

  emit(content) {
    const copy = structuredClone(content);
    for (const fn of this.handlers) fn(copy, []);
  }

  sendState() {
    this.emit({ t: "state", v: 1, n: this.n, s: { ...this.picture, now: Date.now() / 1000 } });
  }

  take(message) {
    if (message.t === "hello" || message.t === "sync") this.sendState();
    else if (message.t === "beat" && message.n !== this.n) this.sendState();
    else this.onMessage?.(message);
  }

  /** Change a model and tell the view. */
  change(key, facts) {
    const now = { ...this.picture.rows[key], ...facts };
    this.picture.rows[key] = now;
    this.emit({ t: "d", n: (this.n += 1), rows: { [key]: now } });
  }

  /** Change another part and tell the view. */
  set(parts) {
    Object.assign(this.picture, parts);
    this.emit({ t: "d", n: (this.n += 1), set: parts });
  }
}
