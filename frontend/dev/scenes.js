/** Scenes for the eye and for measurements. */

const FIG = {
  ttft_s: 0.31,
  tokens: 412,
  tokens_s: 48.3,
  prompt_tokens: 96,
  load_s: 0,
  elapsed_s: 8.9,
  ctx_used: 1830,
  ctx: 8192,
};

const RICH = `## Gradient descent

A *smooth* function $f$ falls fastest against its gradient, so one step is

$$
x_{t+1} = x_t - \\eta \\nabla f(x_t), \\qquad \\eta \\le \\frac{1}{L}
$$

1. Choose a start \\(x_0\\).
2. Repeat until the step is small:
   - compute the gradient
   - move against it
3. Return the last point.

\`\`\`python
import numpy as np

def descend(grad, x, eta=0.1, steps=100):
    """Walk downhill and return the last point."""
    for _ in range(steps):
        x = x - eta * grad(x)
    return x

print(descend(lambda x: 2 * x, np.array([3.0, -1.0])))
\`\`\`

| Method | Steps | Needs | Cost of a step |
|:--|--:|:--|--:|
| Gradient descent | 10,000 | gradient | $O(n)$ |
| Newton | 6 | Hessian | $O(n^3)$ |
| L-BFGS | 40 | gradient | $O(mn)$ |

> A step that is too long diverges; one that is too short takes for ever.

See [the notes](https://example.org/notes) for a proof. ![a plot](https://example.org/plot.png)`;

const PROSE = "The tokens of an answer arrive one by one, and **each of them** should be seen at once. ";

/** Wait in milliseconds. */
export const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Send text at so many tokens a second, 30 frames a second. */
export async function pace(kernel, turn, text, perSecond, size = 5) {
  const tokens = text.match(new RegExp(`[^]{1,${size}}`, "g"));
  const start = performance.now();
  let sent = 0;
  while (sent < tokens.length) {
    await sleep(33);
    const due = Math.min(tokens.length, Math.floor(((performance.now() - start) / 1000) * perSecond));
    if (due > sent)
      kernel.frame(turn, tokens.slice(sent, due).join(""), {
        status: { tok: due, tps: perSecond, ttft: 0.3 },
      });
    sent = due;
  }
}

/** A long text with everything in it. */
export function longText(tokens) {
  let text = "";
  for (let n = 0; text.length < tokens * 5; n += 1)
    text += `### Part ${n}\n\n${PROSE.repeat(4)}\n\n${RICH.slice(RICH.indexOf("1. Choose"))}\n\n`;
  return text.slice(0, tokens * 5);
}

function history(kernel, turns) {
  kernel.state.conv.title = "A long history";
  for (let n = 0; n < turns; n += 1)
    kernel.turn(`Question ${n}: why is the sky blue, and how do we know?`, {
      text: `${PROSE}\n\n${n % 5 ? PROSE.repeat(5) : RICH}`,
      fig: FIG,
    });
}

export const SCENES = {
  welcome: {},
  rich: {
    before: (kernel) => {
      kernel.state.conv.title = "Gradient descent";
      kernel.turn("Explain gradient descent with code and a table.", {
        text: RICH,
        fig: FIG,
        sib: [1, 3, "x", "y"],
      });
    },
  },
  streaming: {
    before: (kernel) => {
      kernel.state.conv.title = "Bread";
      kernel.turn("What do I need for bread?", {
        text: "Flour, water, salt and time.\n\n- 500 g flour\n- 350 g water\n- 10 g salt",
        fig: FIG,
      });
    },
    after: async (kernel) => {
      await sleep(300);
      const turn = kernel.begin("And how do I bake it?");
      await pace(
        kernel,
        turn,
        "First **mix** flour, water and salt, and let it rest for an hour.\n\n1. Fold it four times.\n2. Let it rise in the cold.\n\n```python\nhours = 12\nfor hour in range(ho",
        150,
      );
    },
  },
  loading: {
    after: async (kernel) => {
      await sleep(200);
      const turn = kernel.begin("Hello?");
      kernel.frame(turn, "", { status: { phase: "loading", sec: 3.4, bytes: 1_900_000_000 } });
    },
  },
  thinking: {
    after: async (kernel) => {
      kernel.state.model.name = "qwen3:8b";
      await sleep(200);
      const turn = kernel.begin("Is 391 prime?", { model: "qwen3:8b" });
      await pace(kernel, Object.assign(turn, { think: "" }), "", 10).catch(() => {});
      for (const text of ["Check small divisors.", " 391 / 17 = 23", " exactly, so it is 17 · 23."]) {
        kernel.frame(turn, text, { channel: "think", status: { tok: 20, tps: 31.2, ttft: 0.4 } });
        await sleep(400);
      }
    },
  },
  thought: {
    before: (kernel) =>
      kernel.turn("Is 391 prime?", {
        think: "Check small divisors. 391 / 17 = 23 exactly.",
        text: "No: $391 = 17 \\cdot 23$.",
        model: "qwen3:8b",
        fig: FIG,
      }),
  },
  tool: {
    before: (kernel) => {
      kernel.turn("What is the weather in Oslo, and in Rome?", {
        text: "I will look both up.",
        tools: [
          { name: "get_weather", arguments: '{"city":"Oslo","unit":"celsius","days":[1,2]}' },
          { name: "get_weather", arguments: { city: "Rome" } },
        ],
        reason: "tool_calls",
        fig: FIG,
      });
      kernel.state.turns.push({
        mid: "t1",
        role: "tool",
        name: "get_weather",
        text: '{"temp": 4}',
        sib: [0, 1, null, null],
      });
    },
  },
  error: {
    before: (kernel) =>
      kernel.turn("Tell me a long story.", {
        text: "Once upon a time there was a small model that lived in the memory of a large card. One day it",
        reason: "error",
        error: {
          type: "StreamBroken",
          text: "The connection to the backend was closed in mid-answer.",
          hint: "The model's process ended; `workbench logs` says why.",
        },
        fig: { tokens: 21 },
      }),
  },
  swap: {
    before: (kernel) => {
      kernel.state.model = kernel.state.models.find((row) => row.name === "qwen3:8b");
      kernel.turn("Is 391 prime?", {
        model: "qwen3:8b",
        reason: "error",
        error: {
          type: "SwapRequired",
          text: "model 'qwen3:8b' fits only when gemma3:4b leaves memory",
          hint: "Load it with swap=True.",
          plan: {
            model: "qwen3:8b",
            backend: "local",
            evict: [
              { model: "gemma3:4b", backend: "local", bytes: 3.9e9, reload_s: 4.2, reason: "idle" },
            ],
            needed_bytes: 6.1e9,
            free_bytes: 3.1e9,
            estimated_s: 8,
          },
        },
        fig: {},
      });
    },
  },
  stopped: {
    before: (kernel) =>
      kernel.turn("Count to a million.", {
        text: "1, 2, 3, 4, 5, 6,",
        reason: "cancelled",
        fig: { tokens: 18, tokens_s: 40 },
      }),
  },
  attach: {
    before: (kernel) => {
      kernel.turn("What is in this table?", { text: "Twelve months of rain.", fig: FIG });
      kernel.state.turns[0].attachments = [{ name: "rain.csv", kind: "data", bytes: 18200 }];
      kernel.state.turns[0].images = 1;
      kernel.state.attachments = [
        { aid: "1", name: "report.txt", kind: "text", bytes: 48200, tokens_est: 12050 },
        { aid: "2", name: "photo.png", kind: "image", bytes: 802000, tokens_est: null },
      ];
    },
    after: async (kernel) => {
      await sleep(600);
      kernel.emit({ t: "ctx", tokens_est: 12050, ctx: 8192, fits: false, items: [] });
      kernel.emit({
        t: "notice",
        level: "warn",
        text: "photo.png will not be seen:",
        hint: "gemma3:4b is loaded without its vision part.",
      });
    },
  },
  readonly: {
    before: (kernel) => {
      kernel.state.conv.read_only = true;
      kernel.turn("Hello", { text: "Hello! What can I do?", fig: FIG });
    },
  },
  gone: {
    before: (kernel) => kernel.turn("Hello", { text: "Hello! What can I do?", fig: FIG }),
    after: async (kernel) => {
      await sleep(300);
      kernel.gone = true;
      document.querySelector('[aria-label="New conversation"]').click();
    },
  },
  chats: {
    before: (kernel) => {
      kernel.chats = [
        "Gradient descent",
        "Bread",
        "Why is the sky blue, and how do we know that it is not green?",
      ].map((title, n) => ({
        cid: `c${n}`,
        title,
        updated_at: new Date(Date.now() - 3.6e6 * (n * 30 + 0.2)).toISOString(),
        turns: 3 * n + 1,
        model: "gemma3:4b",
      }));
      kernel.state.conv.cid = "c0";
      history(kernel, 3);
    },
    after: async () => {
      await sleep(300);
      document.querySelector('[aria-label="Conversations"]').click();
    },
  },
  params: {
    before: (kernel) => {
      kernel.state.system = "You are a careful tutor. Answer briefly.";
      kernel.state.params = { temperature: 0.2, num_ctx: 8192 };
      history(kernel, 3);
    },
    after: async () => {
      await sleep(300);
      document.querySelector('[aria-label="System prompt and parameters"]').click();
    },
  },
  models: {
    before: (kernel) => history(kernel, 2),
    after: async () => {
      await sleep(300);
      document.querySelector('[aria-label="Model"]').click();
    },
  },
  history: { before: (kernel) => history(kernel, 250) },
  paced: {
    before: (kernel) => history(kernel, 20),
    after: async (kernel) => {
      await sleep(1500);
      window.longTasks.length = 0;
      const turn = kernel.begin("Go");
      await pace(kernel, turn, longText(1500), 100);
      kernel.end(turn, { fig: FIG });
      await sleep(500);
    },
  },
  flood: {
    after: async (kernel) => {
      await sleep(800);
      window.longTasks.length = 0;
      const turn = kernel.begin("Go");
      const text = longText(20000);
      const start = performance.now();
      for (let at = 0; at < text.length; at += 9000) {
        kernel.frame(turn, text.slice(at, at + 9000));
        await sleep(10);
      }
      kernel.end(turn, { fig: FIG });
      while (!document.querySelector(".wb-answer > .wb-md").dataset.drawn) await sleep(20);
      window.took = Math.round(performance.now() - start);
      await sleep(500);
    },
  },
  giant: {
    after: async (kernel) => {
      await sleep(800);
      window.longTasks.length = 0;
      const turn = kernel.begin("Go");
      for (let at = 0; at < 100; at += 1) {
        kernel.frame(turn, "lorem ipsum **".repeat(715));
        await sleep(33);
      }
      kernel.end(turn, { fig: FIG });
      await sleep(1000);
    },
  },
};
