/** The drawer to get models: pull by name, add a GGUF by path. */
import { memory, visible } from "../text.js";
import { h, iconButton, setText, show, textButton } from "../view/dom.js";
import { Drawer } from "../view/drawer.js";
import { left } from "./words.js";

/** The drawer. */
export class GetDrawer extends Drawer {
  constructor(panel) {
    super("right", "Get a model");
    this.panel = panel;
    this.el.classList.add("wbm-drawer");
    const enter = (action) => ({ keydown: (event) => event.key === "Enter" && action() });
    this.model = h("input", { class: "wb-field", "aria-label": "Model to pull", placeholder: "llama3.2 or qwen3:8b@big-host", on: enter(() => this.#pull()) });
    this.path = h("input", { class: "wb-field", "aria-label": "Path of a GGUF file", placeholder: "/models/my-model.gguf", on: enter(() => this.#add()) });
    this.name = h("input", { class: "wb-field", "aria-label": "Name of the added model", placeholder: "Name (optional)", on: enter(() => this.#add()) });
    this.said = h("div", { class: "wbm-note", role: "status", hidden: true });
    this.pulls = h("ul", { class: "wbm-pulls", "aria-label": "Downloads" });
    this.shown = new Map();
    this.body.append(
      this.said,
      h(
        "section",
        { "aria-label": "Pull" },
        h("h3", {}, "Pull from a registry"),
        h("div", { class: "wb-row wbm-form" }, this.model, textButton("Pull model", () => this.#pull(), { text: "Pull", class: "wb-primary" })),
        h("p", { class: "wbm-detail" }, "An Ollama backend downloads it; what was already there is not fetched twice."),
        this.pulls,
      ),
      h(
        "section",
        { "aria-label": "Add a file" },
        h("h3", {}, "Add a GGUF file"),
        this.path,
        h("div", { class: "wb-row wbm-form" }, this.name, textButton("Add file", () => this.#add(), { text: "Add" })),
        h("p", { class: "wbm-detail" }, "A path on the server's machine; the embedded engine runs it, and the file stays where it is."),
      ),
    );
  }

  #pull() {
    const model = this.model.value.trim();
    if (!model) return this.model.focus();
    this.panel.send({ t: "pull", model });
    this.model.value = "";
  }

  #add() {
    const path = this.path.value.trim();
    if (!path) return this.path.focus();
    this.panel.send({ t: "add", path, name: this.name.value.trim() || null });
  }

  update(picture) {
    const said = picture.said?.where === "get" ? picture.said : null;
    show(this.said, Boolean(said));
    this.said.dataset.level = said?.level ?? "info";
    setText(this.said, said ? [said.text, said.hint].filter(Boolean).map(visible).join(" ") : "");
    if (said?.level === "ok" && said.at !== this.saidAt) this.path.value = this.name.value = "";
    this.saidAt = said?.at;
    const names = picture.pulls.map((pull) => pull.model);
    for (const [name, row] of this.shown) {
      if (names.includes(name)) continue;
      row.el.remove();
      this.shown.delete(name);
    }
    for (const pull of picture.pulls) {
      let row = this.shown.get(pull.model);
      if (!row) {
        row = new Pull(this.panel, pull.model);
        this.shown.set(pull.model, row);
        this.pulls.append(row.el);
      }
      row.update(pull);
    }
  }
}

class Pull {
  constructor(panel, model) {
    const name = visible(model);
    this.fill = h("span", { class: "wbm-progress-fill" });
    this.bar = h("div", { class: "wbm-progress", role: "progressbar", "aria-label": `Download of ${name}`, "aria-valuemin": "0", "aria-valuemax": "100" }, this.fill);
    this.status = h("span", { class: "wbm-detail" });
    this.button = iconButton("close", `Cancel pull of ${name}`, () => panel.send({ t: "pull_cancel", model }));
    this.el = h("li", {}, h("div", { class: "wbm-pull-head" }, h("strong", {}, name), this.status, this.button), this.bar);
    this.name = name;
  }

  update(pull) {
    const { completed_bytes: done, total_bytes: total } = pull;
    const share = total ? Math.min(100, (100 * (done ?? 0)) / total) : pull.done ? 100 : 0;
    this.fill.style.width = `${share}%`;
    this.bar.setAttribute("aria-valuenow", String(Math.round(share)));
    this.el.dataset.level = pull.error ? "error" : pull.done ? "ok" : "info";
    setText(this.status, pullText(pull));
    const label = pull.done || pull.error ? `Dismiss pull of ${this.name}` : `Cancel pull of ${this.name}`;
    this.button.setAttribute("aria-label", label);
    this.button.title = label;
  }
}

/** Where a download stands. */
export function pullText(pull) {
  if (pull.error) return visible([pull.error, pull.hint].filter(Boolean).join(" "));
  if (pull.done) return "done";
  const parts = [];
  if (pull.total_bytes) parts.push(`${memory(pull.completed_bytes ?? 0)} of ${memory(pull.total_bytes)}`);
  else parts.push(visible(pull.status ?? "starting"));
  if (pull.speed_bytes_per_s) parts.push(`${memory(pull.speed_bytes_per_s)}/s`);
  if (typeof pull.eta_s === "number") parts.push(`${left(pull.eta_s)} left`);
  return parts.join(" · ");
}
