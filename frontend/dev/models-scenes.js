/** Scenes of the models panel, for the eye and for tests. */
import { loaded, row } from "./models-kernel.js";
import { sleep } from "./scenes.js";

const GIB = 1024 ** 3;

function hold(kernel, parts, other = 0.7) {
  const used = parts.reduce((sum, [, , gib]) => sum + gib, other);
  Object.assign(kernel.picture.devices[0], {
    models: parts.map(([name, backend, gib]) => ({ name, backend, bytes: gib * GIB })),
    other_bytes: other * GIB,
    used_bytes: used * GIB,
    free_bytes: (24 - used) * GIB,
    utilization_pct: 42,
    temperature_c: 61,
    power_w: 187,
  });
}

function six(kernel) {
  const now = Date.now() / 1000;
  kernel.add(
    loaded("gemma3:12b", 8.9, { state: "busy", in_flight: 2, expires: null, parameters: "12.2B" }),
    loaded("llama3.2:latest", 3.4, { parameters: "3.2B", pinned: true, priority: 9 }),
    loaded("qwen3:14b", 10.4, { vram: 8.6 * GIB, parameters: "14.8B", owner: "foreign", expires: now + 3900 }),
    row("mistral-small:24b", { size: 14 * GIB, parameters: "23.6B", load_s: 9.4, priority: 3, evicts: ["qwen3:14b"], fit: { verdict: "alone", needed_bytes: 15.8 * GIB, source: "estimated", reason: "15.8 GiB of 24 GiB, when it is alone" } }),
    row("llama3.3:70b", { size: 42 * GIB, parameters: "70.6B", fit: { verdict: "too_large", needed_bytes: 45.2 * GIB, source: "estimated", reason: "45.2 GiB, and the device has 24 GiB" } }),
    row("toy-tiny", { backend: "embedded", toy: true, size: 2.6e6, parameters: "1.2M", quantization: "Q8_0", max_context: 512, load_s: 0.3, hot: true, fit: { verdict: "alongside", needed_bytes: 9e6, source: "measured" } }),
  );
  hold(kernel, [
    ["gemma3:12b", "local", 8.9],
    ["qwen3:14b", "local", 8.6],
    ["llama3.2:latest", "local", 3.4],
  ]);
  kernel.picture.events = [
    { ts: now - 310, event: "loaded", model: "llama3.2:latest", backend: "local", seconds: 2.1, bytes: 3.4 * GIB, reason: "pinned" },
    { ts: now - 122, event: "unloaded", model: "mistral-small:24b", backend: "local", verdict: "verified", seconds: 0.61, reason: "room for qwen3:14b" },
    { ts: now - 118, event: "swap", model: "qwen3:14b", evicted: ["mistral-small:24b"], seconds: 7.2, reason: "a chat asked for it" },
    { ts: now - 117, event: "load_warning", model: "qwen3:14b", text: "1.8 GiB of 10.4 GiB are in main memory" },
    { ts: now - 8, event: "lane_switch", to: "gemma3:12b", waited_s: 3.1 },
  ];
  return kernel;
}

const QUEUE = (now) => ({
  lanes: [
    { backend: "local", model: "gemma3:12b", state: "serving", running: 2, waiting: 1, interactive: 1, batch: 0, since: now - 2, bound_s: 5 },
    { backend: "local", model: "mistral-small:24b", state: "gated", running: 0, waiting: 12, interactive: 0, batch: 12, since: now - 47, bound_s: 60 },
  ],
  order: [
    { backend: "local", model: "gemma3:12b", requests: 3, swap: false },
    { backend: "local", model: "mistral-small:24b", requests: 12, swap: true },
  ],
  predicted_swaps: 1,
});

const FAMILIES = ["llama3.2", "gemma3", "qwen3", "mistral", "phi4", "granite3.3", "deepseek-r1", "olmo2", "smollm2", "command-r7b"];

export const MODEL_SCENES = {
  mixed: {
    before: (kernel) => {
      six(kernel);
      kernel.picture.queue = QUEUE(Date.now() / 1000);
    },
  },
  fifty: {
    before: (kernel) => {
      for (let n = 0; n < 50; n += 1) {
        const name = `${FAMILIES[n % 10]}:${[1, 3, 7, 14, 30][Math.floor(n / 10)]}b`;
        const gib = [1.1, 2.4, 4.9, 9.6, 19][Math.floor(n / 10)];
        const backend = n % 3 === 2 ? "big-host" : "local";
        kernel.add(n % 17 === 3 ? loaded(name, gib, { backend }) : row(name, { backend, size: gib * GIB, load_s: n % 4 ? gib * 0.7 : null, parameters: `${gib}B` }));
      }
      kernel.picture.backends[1] = { name: "big-host", kind: "ollama", url: "http://192.168.1.20:11434", reachable: true, swap: { value: "server", choices: ["auto", "manual", "server"], source: "workbench.toml", changeable: true } };
      kernel.picture.devices.push({ id: "big-host", name: "big-host", kind: "declared", total_bytes: 48 * GIB, used_bytes: 9.6 * GIB, free_bytes: 38.4 * GIB, models: [{ name: "mistral:14b", backend: "big-host", bytes: 9.6 * GIB }], other_bytes: 0, source: "declared minus what its models hold", reason: "Declared in workbench.toml; what other programs hold there is not known." });
      hold(kernel, [["mistral:1b", "local", 1.1]]);
    },
  },
  loading: {
    before: (kernel) => {
      six(kernel);
      const now = Date.now() / 1000;
      kernel.add(
        row("mistral-small:24b", { ...kernel.picture.rows["mistral-small:24b@local"], state: "loading", since: now - 4.2, act: "load", evicts: [] }),
        { ...kernel.picture.rows["qwen3:14b@local"], state: "releasing", since: now - 5, act: "unload", owner: "ours" },
        { ...kernel.picture.rows["llama3.2:latest@local"], note: { kind: "loaded", level: "ok", seconds: 2.1, size: 3.4 * GIB, vram: 3.4 * GIB, context: 8192 } },
        { ...kernel.picture.rows["toy-tiny@embedded"], note: { kind: "unloaded", level: "ok", verdict: "verified", freed: 4.1 * GIB, seconds: 0.6 } },
        { ...kernel.picture.rows["llama3.3:70b@local"], note: { level: "error", text: "It needs 45.2 GiB and 24.0 GiB may be used.", hint: "Lower num_ctx, or choose a smaller model." } },
      );
    },
  },
  low: {
    before: (kernel) => {
      six(kernel);
      hold(kernel, [["gemma3:12b", "local", 8.9], ["qwen3:14b", "local", 8.6], ["llama3.2:latest", "local", 3.4]], 2.6);
      kernel.picture.warning = { level: "low", device: "NVIDIA RTX 4090", free_bytes: 0.5 * GIB, total_bytes: 24 * GIB, text: "Another program took 1.9 GiB; the next answer may fail." };
    },
  },
  swap: {
    before: (kernel) => {
      six(kernel);
      kernel.picture.backends[0].swap = { value: "manual", choices: ["auto", "manual", "server"], source: "state", changeable: true };
      kernel.add({
        ...kernel.picture.rows["mistral-small:24b@local"],
        ask: {
          model: "mistral-small:24b",
          backend: "local",
          evict: [
            { model: "qwen3:14b", backend: "local", bytes: 8.6 * GIB, reload_s: 6.3, reason: "idle for 2 min" },
            { model: "gemma3:12b", backend: "local", bytes: 8.9 * GIB, reload_s: 5, reason: "priority 5" },
          ],
          needed_bytes: 15.8 * GIB,
          free_bytes: 2.4 * GIB,
          estimated_s: 9.4,
        },
      });
    },
  },
  gone: {
    before: six,
    after: async (kernel) => {
      await sleep(300);
      kernel.set({ link: { state: "gone", text: "Cannot reach http://127.0.0.1:11500: connection refused.", since: Date.now() / 1000, can_start: true } });
    },
  },
  kernelgone: {
    before: six,
    after: async (kernel) => {
      await sleep(300);
      kernel.gone = true;
      document.querySelector('[aria-label="Pin mistral-small:24b"]').click();
    },
  },
  connecting: {
    before: (kernel) => {
      kernel.picture.link = { state: "connecting", text: "", since: Date.now() / 1000, can_start: true };
    },
  },
  empty: {},
  down: {
    before: (kernel) => {
      six(kernel);
      for (const key of Object.keys(kernel.picture.rows)) if (key.endsWith("@local")) delete kernel.picture.rows[key];
      Object.assign(kernel.picture.backends[0], { reachable: false, error: "connection refused", hint: "Start Ollama, or correct its url in workbench.toml." });
      Object.assign(kernel.picture.devices[0], { id: "host", name: "Main memory", kind: "host", models: [{ name: "toy-tiny", backend: "embedded", bytes: 9e6 }], utilization_pct: null, temperature_c: null, power_w: null });
      kernel.picture.devices.push({ id: "amd", name: "AMD Radeon", kind: "amd", total_bytes: null, used_bytes: null, free_bytes: null, models: null, other_bytes: null, source: null, reason: "its sysfs files cannot be read" });
    },
  },
  settings: {
    before: six,
    after: async () => {
      await sleep(200);
      document.querySelector('[aria-label="Settings"]').click();
    },
  },
  get: {
    before: (kernel) => {
      six(kernel);
      kernel.picture.pulls = [
        { model: "qwen3:32b", status: "pulling", total_bytes: 20 * GIB, completed_bytes: 7.4 * GIB, speed_bytes_per_s: 48e6, eta_s: 281, error: null, done: false },
        { model: "phi4", status: "success", total_bytes: 9 * GIB, completed_bytes: 9 * GIB, error: null, done: true },
        { model: "no-such:1b", status: "", total_bytes: null, completed_bytes: null, error: "pull model manifest: file does not exist.", hint: "Look the name up at its registry.", done: false },
      ];
    },
    after: async () => {
      await sleep(200);
      document.querySelector('[aria-label="Get a model"]').click();
    },
  },
  log: {
    before: six,
    after: async () => {
      await sleep(200);
      document.querySelector(".wbm-log").open = true;
      document.querySelector(".wbm-body").scrollTop = 9999;
    },
  },
};
