/** The drawer of settings: each value with where it comes from. */
import { visible } from "../text.js";
import { h, setText, show, textButton } from "../view/dom.js";
import { Drawer } from "../view/drawer.js";
import { MODES } from "./words.js";

/** The drawer. */
export class SettingsDrawer extends Drawer {
  constructor(panel) {
    super("right", "Settings");
    this.panel = panel;
    this.el.classList.add("wbm-drawer");
    this.said = h("p", { class: "wbm-note", role: "status", hidden: true });
    this.backends = h("ul", { class: "wbm-backends" });
    this.list = h("div", { class: "wbm-settings" });
    this.body.append(
      this.said,
      h("section", { "aria-label": "Backends and whether they answer" }, h("h3", {}, "Backends"), this.backends),
      this.list,
    );
    this.fields = new Map();
  }

  show() {
    super.show();
    // Not into a list: an arrow key there would change a setting at once.
    this.el.querySelector("button").focus();
    this.panel.send({ t: "refresh" });
  }

  update(picture) {
    const said = picture.said?.where === "settings" ? picture.said : null;
    show(this.said, Boolean(said));
    this.said.dataset.level = said?.level ?? "info";
    setText(this.said, said ? [said.text, said.hint].filter(Boolean).map(visible).join(" ") : "");
    this.backends.replaceChildren(...picture.backends.map(backendItem));
    const settings = picture.settings;
    const key = settings ? settings.map((item) => item.name).join() : `none ${picture.env?.settings_reason ?? ""}`;
    if (key !== this.key) {
      this.key = key;
      this.#build(settings, picture.env?.settings_reason);
    }
    for (const setting of settings ?? []) this.fields.get(setting.name)?.update(setting);
  }

  #build(settings, reason) {
    this.fields.clear();
    if (!settings) {
      this.list.replaceChildren(h("p", { class: "wbm-detail" }, visible(reason ?? "The settings are not there yet.")));
      return;
    }
    const groups = new Map(ORDER.map((name) => [name, []]));
    const fixed = [];
    for (const setting of settings) {
      const field = setting.changeable === false ? new FixedField(setting) : new Field(this.panel, setting);
      this.fields.set(setting.name, field);
      const group = setting.name.includes(".") ? setting.name.slice(0, setting.name.indexOf(".")) : "general";
      if (field instanceof FixedField) fixed.push(field.el);
      else groups.set(group, [...(groups.get(group) ?? []), field.el]);
    }
    const shownGroups = [...groups].filter(([, fields]) => fields.length);
    this.list.replaceChildren(
      ...shownGroups.map(([name, fields]) =>
        h("section", { "aria-label": `${title(name)} settings` }, h("h3", {}, title(name)), ...fields),
      ),
    );
    if (fixed.length)
      this.list.append(h("details", { class: "wbm-fixed" }, h("summary", {}, "Read when the server starts"), h("ul", {}, ...fixed)));
  }
}

/** What is changed most comes first. */
const ORDER = ["swap", "queue", "server", "engine", "gpu"];
const TITLES = {
  swap: "Swapping",
  queue: "Queue",
  server: "Server",
  engine: "Embedded engine",
  gpu: "Memory warnings",
  general: "General",
};

function title(name) {
  return TITLES[name] ?? name.replace(/^./, (c) => c.toUpperCase());
}

function backendItem(backend) {
  const down = backend.reachable === false;
  return h(
    "li",
    {},
    h("span", { class: "wb-dot", "data-kind": down ? "bad" : "ready" }),
    h(
      "div",
      {},
      h("strong", {}, visible(backend.name)),
      h("span", { class: "wbm-detail" }, ` ${[backend.kind, backend.version].filter(Boolean).map(visible).join(" ")}`),
      backend.url && h("div", { class: "wbm-detail wbm-break" }, visible(backend.url)),
      down && h("div", { class: "wbm-bad" }, `Unreachable: ${visible(backend.error ?? "it does not answer.")}`),
    ),
    h("span", { class: "wbm-detail" }, down ? "unreachable" : "reachable"),
  );
}

const SOURCES = {
  default: "default",
  state: "set at run time",
  flag: "set on the command line",
};
const UNITS = { s: "seconds", bytes: "bytes", pct: "percent", share: "share" };

/** `queue.batch_wait_s` as `batch wait (seconds)`. */
function labelOf({ name }) {
  const words = name.slice(name.indexOf(".") + 1).split("_");
  const unit = words.length > 1 ? UNITS[words.at(-1)] : undefined;
  return unit ? `${words.slice(0, -1).join(" ")} (${unit})` : words.join(" ");
}

/** A choice in the words of the list where it has some. */
function choiceOf({ name }, value) {
  return (name.startsWith("swap.") && MODES[value]?.[0]) || value;
}

/** One setting. */
class Field {
  constructor(panel, setting) {
    this.panel = panel;
    this.name = setting.name;
    this.kind = setting.kind;
    this.input = this.#control(setting);
    this.source = h("span", { class: "wbm-detail" });
    this.reset = textButton(`Reset ${setting.name}`, () => this.#send(null), { text: "Reset", class: "wbm-reset", hidden: true });
    const label = h("span", { class: "wbm-setting-name" }, visible(labelOf(setting)));
    this.el = h(
      "div",
      { class: "wbm-setting", title: setting.name, "data-group": setting.name.split(".")[0] },
      h("label", {}, label, this.input),
      setting.help && h("p", { class: "wbm-detail" }, visible(setting.help)),
      h("div", { class: "wbm-source" }, this.source, this.reset),
    );
  }

  #control(setting) {
    const common = { "aria-label": setting.name, class: "wb-field", on: { change: () => this.#changed() } };
    if (setting.kind === "bool") return h("input", { ...common, type: "checkbox", class: "wbm-check" });
    if (setting.kind === "choice")
      return h("select", common, ...(setting.choices ?? []).map((value) => h("option", { value }, visible(choiceOf(setting, value)))));
    if (setting.kind === "int" || setting.kind === "seconds")
      return h("input", { ...common, type: "number", step: setting.kind === "int" ? "1" : "any", placeholder: "not set" });
    return h("input", { ...common, placeholder: "not set" });
  }

  #changed() {
    if (this.kind === "bool") return this.#send(this.input.checked);
    if (!this.input.checkValidity()) return void this.input.reportValidity();
    const text = this.input.value.trim();
    if (text === "") return this.#send(null);
    if (this.kind === "int" || this.kind === "seconds") return this.#send(Number(text));
    if (this.kind === "list") return this.#send(text.split(",").map((part) => part.trim()));
    return this.#send(text);
  }

  #send(value) {
    this.panel.send({ t: "set", name: this.name, value });
  }

  update(setting) {
    const key = JSON.stringify(setting);
    if (key === this.key && !this.panel.picture.said) return;
    this.key = key;
    if (document.activeElement !== this.input || this.kind === "bool" || this.kind === "choice") {
      if (this.kind === "bool") this.input.checked = Boolean(setting.value);
      else this.input.value = shown(setting.value);
    }
    this.input.disabled = this.panel.gone;
    const unit = setting.kind === "seconds" ? " s" : "";
    const parts = [sourceText(setting)];
    if (setting.source !== "default" && shown(setting.default) !== "") parts.push(`default ${shown(setting.default)}${unit}`);
    setText(this.source, parts.join(" · "));
    show(this.reset, setting.source === "state");
  }
}

/** A setting that only a new start changes. */
class FixedField {
  constructor(setting) {
    this.value = h("span", { class: "wbm-break" });
    this.source = h("span", { class: "wbm-detail" });
    this.el = h(
      "li",
      { title: setting.help ? visible(setting.help) : null },
      h("span", {}, visible(setting.name)),
      this.value,
      this.source,
    );
  }

  update(setting) {
    setText(this.value, visible(shown(setting.value)) || "not set");
    setText(this.source, sourceText(setting));
  }
}

function sourceText({ source }) {
  return SOURCES[source] ?? `from ${visible(source)}`;
}

function shown(value) {
  if (value === null || value === undefined) return "";
  return Array.isArray(value) ? value.join(", ") : String(value);
}
