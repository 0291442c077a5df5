/** The head of the dashboard: time, filters, and what can be taken out. */
import { visible } from "../text.js";
import { h, icon, iconButton, show, textButton } from "../view/dom.js";
import { Menu, menuItem } from "../view/menu.js";
import { FILTERS, RANGES, statusOf } from "./words.js";

const TAKE = [
  ["csv", "Requests as CSV"],
  ["parquet", "Requests as Parquet"],
  ["jsonl", "Requests as JSON lines"],
  ["report", "Report as HTML"],
];

/** The bar at the top. */
export class Head {
  constructor(panel) {
    this.panel = panel;
    this.busy = h("span", { class: "wb-pulse", "aria-hidden": "true", hidden: true });
    this.ranges = new Map(Object.keys(RANGES).map((name) => [name, this.#range(name)]));
    const button = h("button", { type: "button", class: "wb-tb wbd-take", "aria-label": "Export" }, icon("download"), h("span", {}, "Export"));
    this.take = new Menu(button, { label: "Export", fill: () => this.#items() });
    this.refresh = iconButton("redo", "Refresh", () => panel.send({ t: "refresh" }));
    this.selects = new Map(Object.keys(FILTERS).map((name) => [name, this.#select(name)]));
    this.clear = textButton("Clear filters", () => this.#clear(), { class: "wbd-clear", hidden: true });
    this.#custom();
    this.el = h(
      "header",
      { class: "wbd-head" },
      h(
        "div",
        { class: "wbd-bar" },
        h("div", { class: "wbd-title-box" }, h("h2", { class: "wbd-title" }, "Metrics"), this.busy),
        h("div", { class: "wbd-ranges", role: "group", "aria-label": "Time" }, ...this.ranges.values()),
        this.take.el,
        this.refresh,
      ),
      this.times,
      h("div", { class: "wbd-filters", role: "group", "aria-label": "Filters" }, ...this.selects.values(), this.clear),
    );
  }

  #range(name) {
    const { label, name: full } = RANGES[name];
    return h("button", { type: "button", class: "wbd-range", "aria-label": full, on: { click: () => this.#choose(name) } }, label);
  }

  #choose(name) {
    if (name !== "custom") return this.#send({ range: name, since: null, until: null });
    this.#mark("custom");
    show(this.times, true);
    this.since.focus();
    return undefined;
  }

  #custom() {
    const field = (label) => h("input", { type: "datetime-local", class: "wb-field", "aria-label": label });
    this.since = field("From, UTC");
    this.until = field("Until, UTC");
    const apply = textButton("Show this time", () => this.#apply(), { class: "wb-primary" });
    this.times = h(
      "form",
      { class: "wbd-times", hidden: true, "aria-label": "Custom time", on: { submit: (event) => this.#apply(event) } },
      h("label", {}, h("span", {}, "From"), this.since),
      h("label", {}, h("span", {}, "until"), this.until),
      h("span", { class: "wbd-hint" }, "UTC"),
      apply,
    );
  }

  #apply(event) {
    event?.preventDefault();
    this.#send({ range: "custom", since: this.since.value || null, until: this.until.value || null });
  }

  #select(name) {
    return h("select", { class: "wb-field wbd-select", "aria-label": FILTERS[name][0], on: { change: (event) => this.#send({ [name]: event.target.value || null }) } });
  }

  #clear() {
    this.#send(Object.fromEntries(Object.keys(FILTERS).map((name) => [name, null])));
    this.refresh.focus();
  }

  #items() {
    return TAKE.map(([what, label]) =>
      menuItem(label, () => {
        this.take.hide();
        this.panel.send({ t: "take", what });
      }),
    );
  }

  #send(set) {
    this.panel.send({ t: "filter", set });
  }

  #mark(chosen) {
    for (const [name, button] of this.ranges) button.setAttribute("aria-pressed", String(name === chosen));
  }

  update(picture) {
    const { filters, choices } = picture;
    this.#mark(filters.range);
    show(this.times, filters.range === "custom");
    for (const [field, value] of [
      [this.since, filters.since],
      [this.until, filters.until],
    ])
      if (value && document.activeElement !== field) field.value = value.slice(0, 16);
    for (const [name, select] of this.selects) fill(select, name, choices[name] ?? [], filters[name]);
    show(this.clear, Object.keys(FILTERS).some((name) => filters[name]));
    show(this.busy, picture.busy);
    this.panel.root.setAttribute("aria-busy", String(picture.store.state === "reading"));
  }

  /** Nothing can be asked for. */
  disable() {
    for (const el of this.el.querySelectorAll("button, select, input")) el.disabled = true;
  }
}

/** Give a list its choices; one that is chosen stays in it, though there are no requests of it. */
function fill(select, name, choices, chosen) {
  const there = chosen && !choices.some(([value]) => value === chosen) ? [[chosen, 0], ...choices] : choices;
  const wanted = JSON.stringify([there, chosen]);
  if (select.dataset.wanted === wanted) return;
  select.dataset.wanted = wanted;
  const option = (value, text) => h("option", { value }, text);
  const label = (value) => visible(name === "status" ? statusOf(value).word : value);
  select.replaceChildren(
    option("", FILTERS[name][1]),
    ...there.map(([value, n]) => option(value, `${label(value)} (${n.toLocaleString("en-US")})`)),
  );
  select.value = chosen ?? "";
  select.classList.toggle("wbd-chosen", Boolean(chosen));
}
