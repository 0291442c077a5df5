/** The kernel's side of the runs panel in the page: pictures made by the real one, and what a person sent. */

/** Answers a view as the Python side does. */
export class MockRuns {
  /** @param {object} made What the page's server made of real run folders. @param {ArrayBuffer} plotly */
  constructor(made, plotly) {
    this.made = made;
    this.plotly = plotly;
    this.n = 0;
    this.sent = [];
    this.handlers = new Set();
    const rows = Object.fromEntries(Object.entries(made.rows).map(([id, row]) => [`r/${id}`, row]));
    const nothing = { run: null, step: null, form: null, plans: null, models: null, said: null, news: null };
    this.picture = { ...nothing, rows, store: made.store, open: { run: null, step: null }, acts: {}, home: "notebooks" };
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

  emit(content, buffers = []) {
    const copy = structuredClone(content);
    for (const fn of this.handlers) fn(copy, buffers);
  }

  sendState() {
    // The clock stands where the folders were written, so that times are the same in every picture.
    this.emit({ t: "state", v: 1, n: this.n, s: { ...this.picture, now: this.made.now } });
  }

  /** What was made of a run, by its id. */
  runOf(id) {
    return Object.values(this.made.runs).find((run) => run.id === id) ?? null;
  }

  take(message) {
    const takers = {
      hello: () => this.sendState(),
      sync: () => this.sendState(),
      beat: () => message.n !== this.n && this.sendState(),
      need: () => this.emit({ t: "mod", mod: "plotly" }, [new DataView(this.plotly)]),
      run: () => this.#open(message.run),
      step: () => this.#step(message.step),
      plans: () => this.set({ plans: this.plans ?? PLANS }),
      form: () => this.set({ form: message.path === null ? null : (FORMS[message.path] ?? broken(message.path)), models: MODELS }),
      start: () => this.#start(message.values),
      approve: () => this.set({ acts: { [`${message.run}/${message.step}`]: message.yes ? "yes" : "no" } }),
      cancel: () => this.set({ acts: { [message.run]: "cancel" } }),
      resume: () => this.set({ acts: { [message.run]: "resume" } }),
      dismiss: () => this.set({ said: null }),
    };
    takers[message.t]?.();
  }

  #open(id) {
    const found = id === null ? null : this.runOf(id);
    const rows = {};
    for (const key of Object.keys(this.picture.rows)) if (key.startsWith("s/")) rows[key] = null;
    for (const [step, state] of Object.entries(found?.steps ?? {})) rows[`s/${step}`] = state;
    this.change(rows, { open: { run: id, step: null }, run: found?.run ?? null, step: null });
  }

  #step(id) {
    const { run } = this.picture.open;
    this.set({ open: { run, step: id }, step: id === null ? null : (this.runOf(run)?.details[id] ?? null) });
  }

  #start(values) {
    const { form } = this.picture;
    const errors = values.questions ? {} : { questions: { text: "The parameter 'questions' has no value.", hint: "Give it as questions=...: JSON lines with a field question." } };
    if (!/^\d+$/.test(values.n ?? "1")) errors.n = { text: `The parameter 'n' must be a whole number, not '${values.n}'.`, hint: null };
    if (Object.keys(errors).length) return this.set({ form: { ...form, errors, tries: (form.tries ?? 0) + 1 } });
    this.set({ form: null });
    return this.#open(this.made.runs.running.id);
  }

  /** Change parts and tell the view. */
  set(parts) {
    this.change({}, parts);
  }

  /** Change rows and parts and tell the view. */
  change(rows, parts = {}) {
    for (const [key, row] of Object.entries(rows)) {
      if (row === null) delete this.picture.rows[key];
      else this.picture.rows[key] = row;
    }
    Object.assign(this.picture, parts);
    this.emit({ t: "d", n: (this.n += 1), rows, set: parts });
  }

  /** Change a step of the open run. */
  stepChange(id, more) {
    this.change({ [`s/${id}`]: { ...this.picture.rows[`s/${id}`], ...more } });
  }
}

const MODELS = ["gemma3-12b", "llama3.2-3b", "qwen3-4b", "mistral-small-24b"];
export const PLANS = [
  { path: "plans/compare-models.yaml", name: "compare-models", goal: "Ask each model the same questions, let a judge score the answers, and draw what came out.", where: "here" },
  { path: "plans/broken.yaml", name: "nightly", goal: "Run the whole benchmark every night.", where: "here" },
  { path: "/opt/workbench/plans/hello.yaml", name: "hello", goal: "One question to one model, and its answer.", where: "bundled" },
  { path: "/opt/workbench/plans/summarise.yaml", name: "summarise", goal: "Sum up each file of a folder, and then all of them.", where: "bundled" },
];

function field(name, type, more = {}) {
  return { name, type, help: "", required: false, default: null, choices: [], env: null, env_set: false, ...more };
}

const FORMS = {
  "plans/compare-models.yaml": {
    path: "plans/compare-models.yaml",
    name: "compare-models",
    goal: "Ask each model the same questions, let a judge score the answers, and draw what came out.",
    steps: 13,
    errors: {},
    text: "",
    hint: null,
    state: "open",
    fields: [
      field("models", "list[model]", { default: ["qwen3-4b", "llama3.2-3b"], help: "The models to compare." }),
      field("judge", "model", { default: "gemma3-12b" }),
      field("questions", "file", { required: true, help: "JSON lines with a field question." }),
      field("n", "int", { default: 20, help: "Questions to ask." }),
      field("tone", "choice", { default: "plain", choices: ["plain", "friendly", "terse"] }),
      field("stop_words", "list[str]", { default: ["END"] }),
      field("strict", "bool", { default: true, help: "Fail when an answer is empty." }),
      field("token", "secret", { env: "REPORT_TOKEN" }),
    ],
  },
  "/opt/workbench/plans/hello.yaml": { path: "/opt/workbench/plans/hello.yaml", name: "hello", goal: "One question to one model, and its answer.", steps: 1, errors: {}, text: "", hint: null, state: "open", fields: [] },
};

function broken(path) {
  return {
    path,
    state: "broken",
    text: "This plan has 2 problems.",
    hint: null,
    problems: [
      { line: 12, text: "ask: there is no kind 'promt'.", hint: "Did you mean 'prompt'?" },
      { line: 20, text: "report needs itself.", hint: null },
    ],
  };
}
