/**
 * Shows a panel with a mocked kernel: `?scene=welcome&theme=dark` is the chat, see scenes.js;
 * `?widget=models&scene=mixed` the models panel, see models-scenes.js;
 * `?widget=dashboard&scene=full` the dashboard of a real store, see dashboard-scenes.js;
 * `?widget=runs&scene=list` the runs panel on real run folders, see runs-scenes.js;
 * `?widget=dialogue&scene=ended` and `?widget=compare&scene=answered`, see lanes-scenes.js.
 */
import { MockDashboard } from "./dashboard-kernel.js";
import { DASHBOARD_SCENES } from "./dashboard-scenes.js";
import { MockKernel } from "./kernel.js";
import { MockLanes } from "./lanes-kernel.js";
import { COMPARE_SCENES, DIALOGUE_SCENES } from "./lanes-scenes.js";
import { MockModels } from "./models-kernel.js";
import { MODEL_SCENES } from "./models-scenes.js";
import { MockRuns } from "./runs-kernel.js";
import { RUN_SCENES } from "./runs-scenes.js";
import { SCENES } from "./scenes.js";
import { THEMES } from "./themes.js";

const query = new URLSearchParams(location.search);
const theme = query.get("theme") ?? "light";
document.body.classList.toggle("dark", theme === "dark");
for (const [name, value] of Object.entries(THEMES[theme]))
  document.documentElement.style.setProperty(name, value);
document.documentElement.style.colorScheme = theme;

/** Longest task and all long tasks of the page, for the measurements. */
window.longTasks = [];
new PerformanceObserver((list) => {
  for (const entry of list.getEntries()) window.longTasks.push(Math.round(entry.duration));
}).observe({ type: "longtask", buffered: true });

const name = query.get("widget") ?? "chat";
const style = document.createElement("link");
style.rel = "stylesheet";
style.href = `/static/${name}.css`;
document.head.append(style);
await new Promise((resolve) => (style.onload = resolve));
const { default: widget } = await import(`/static/${name}.js`);
const bytes = (path) => fetch(path).then((answer) => answer.arrayBuffer());
const json = (path) => fetch(path).then((answer) => answer.json());
const lanes = async (name) => new MockLanes(await json(`/made/${name}.json`), await bytes("/static/math.js"));
const WIDGETS = {
  chat: [async () => new MockKernel(await bytes("/static/math.js")), SCENES, "welcome"],
  models: [() => new MockModels(), MODEL_SCENES, "mixed"],
  dashboard: [async () => new MockDashboard(await json("/made/picture.json"), await bytes("/made/plotly.js")), DASHBOARD_SCENES, "full"],
  runs: [async () => new MockRuns(await json("/made/runs.json"), await bytes("/made/plotly.js")), RUN_SCENES, "list"],
  dialogue: [() => lanes("dialogue"), DIALOGUE_SCENES, "ended"],
  compare: [() => lanes("compare"), COMPARE_SCENES, "answered"],
};
const [make, scenes, usual] = WIDGETS[name];
const kernel = await make();
const scene = scenes[query.get("scene") ?? usual];
scene.before?.(kernel);
window.kernel = kernel;
window.cleanup = widget.render({ model: kernel.model, el: document.querySelector("#chat") });
window.sceneDone = Promise.resolve(scene.after?.(kernel)).then(() => true);
