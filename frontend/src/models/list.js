/** The models, in groups by backend; rows stay where they are when they change. */
import { visible } from "../text.js";
import { h, prose, setText, show, textButton } from "../view/dom.js";
import { isResident, Row } from "./row.js";
import { MODES, short } from "./words.js";

/** The list with its groups. */
export class ModelList {
  constructor(panel) {
    this.panel = panel;
    this.rows = new Map();
    this.groups = new Map();
    this.query = "";
    this.only = "all";
    this.heads = h(
      "div",
      { class: "wbm-line wbm-heads", "aria-hidden": "true" },
      ...["Model", "State", "Memory", "Priority", "", "", ""].map((text) => h("span", {}, text)),
    );
    this.none = h("p", { class: "wbm-none", role: "status", hidden: true });
    this.body = h("div", { class: "wbm-groups" });
    this.el = h("section", { class: "wbm-list", "aria-label": "Models" }, this.heads, this.body, this.none);
  }

  /** Draw every row anew. */
  update(picture) {
    for (const key of [...this.rows.keys()]) if (!picture.rows[key]) this.#drop(key);
    for (const [key, row] of Object.entries(picture.rows)) this.#put(key, row);
    this.arrange(picture);
  }

  /** Draw the rows that changed. */
  change(picture, keys) {
    let moved = false;
    for (const key of keys) {
      const row = picture.rows[key];
      if (!row) {
        this.#drop(key);
        continue;
      }
      moved = this.#put(key, row) || moved;
    }
    if (moved) this.arrange(picture);
    else this.filter();
  }

  #put(key, row) {
    let shown = this.rows.get(key);
    const made = !shown;
    if (made) {
      shown = new Row(this.panel, key);
      this.rows.set(key, shown);
    }
    shown.update(row);
    return made;
  }

  #drop(key) {
    this.rows.get(key)?.close();
    this.rows.delete(key);
  }

  /** Put groups and rows in order: backends as the server lists them, models by name, toys last. */
  arrange(picture) {
    const known = picture.backends.map((backend) => backend.name);
    const used = [...new Set(Object.values(picture.rows).map((row) => row.backend))];
    const backends = [...picture.backends, ...used.filter((name) => !known.includes(name)).map((name) => ({ name }))];
    for (const [name, group] of this.groups) {
      if (!backends.some((backend) => backend.name === name)) {
        group.el.remove();
        this.groups.delete(name);
      }
    }
    backends.forEach((backend, at) => {
      let group = this.groups.get(backend.name);
      if (!group) {
        group = new Group(this.panel, backend.name);
        this.groups.set(backend.name, group);
      }
      group.update(backend);
      place(this.body, group.el, at);
      const rows = [...this.rows.values()].filter((row) => row.row.backend === backend.name).sort(byName);
      rows.forEach((row, index) => place(group.rows, row.el, index));
    });
    this.filter();
  }

  /** Show what matches the search and the choice. */
  filter() {
    const words = this.query.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    const perGroup = new Map();
    for (const row of this.rows.values()) {
      const text = [row.row.name, row.row.family, row.row.parameters, row.row.quantization, row.row.backend]
        .filter(Boolean)
        .join(" ")
        .toLowerCase();
      const matches =
        words.every((word) => text.includes(word)) && (this.only === "all" || isResident(row.row) || Boolean(row.row.act));
      show(row.el, matches);
      count += Number(matches);
      perGroup.set(row.row.backend, (perGroup.get(row.row.backend) ?? 0) + Number(matches));
    }
    const filtering = words.length > 0 || this.only !== "all";
    for (const [name, group] of this.groups) group.shown(perGroup.get(name) ?? 0, filtering);
    show(this.none, filtering && count === 0);
    setText(this.none, words.length ? `No model matches “${visible(this.query)}”.` : "No model is in memory.");
    show(this.heads, count > 0);
    this.#rove();
  }

  /** One row at a time is in the order of Tab. */
  #rove() {
    const shown = this.shown();
    const current = shown.find((row) => row === this.current) ?? shown[0];
    for (const row of this.rows.values()) row.el.tabIndex = row === current ? 0 : -1;
    this.current = current;
  }

  /** Rows that can be seen, in the order of the page. */
  shown() {
    const order = [...this.body.querySelectorAll(".wbm-row:not([hidden])")];
    return [...this.rows.values()].filter((row) => !row.el.hidden).sort((a, b) => order.indexOf(a.el) - order.indexOf(b.el));
  }

  rowOf(el) {
    const found = el.closest?.(".wbm-row");
    return found ? [...this.rows.values()].find((row) => row.el === found) : undefined;
  }

  /** Move the focus by rows. */
  focusBy(step) {
    const shown = this.shown();
    if (!shown.length) return;
    const at = shown.indexOf(this.rowOf(document.activeElement) ?? this.current);
    const next = shown[Math.max(0, Math.min(shown.length - 1, at + step))];
    this.focus(next);
  }

  focus(row) {
    this.current = row;
    this.#rove();
    row.el.focus();
    row.el.scrollIntoView({ block: "nearest" });
  }

  tick() {
    for (const row of this.rows.values()) if (row.row.expires || row.row.since) row.tick();
  }

  close() {
    for (const row of this.rows.values()) row.close();
  }
}

function byName(a, b) {
  return Number(a.row.toy) - Number(b.row.toy) || a.row.name.localeCompare(b.row.name);
}

function place(parent, el, at) {
  if (parent.children[at] !== el) parent.insertBefore(el, parent.children[at] ?? null);
}

/** One backend: its name, whether it answers, how it swaps. */
class Group {
  constructor(panel, name) {
    this.panel = panel;
    this.name = name;
    this.kind = h("span", { class: "wbm-detail" });
    this.mode = h("select", {
      class: "wb-field wbm-mode",
      "aria-label": `Swap mode of ${visible(name)}`,
      on: { change: () => panel.send({ t: "set", name: `swap.${name}`, value: this.mode.value }) },
    });
    this.error = h("div", { class: "wbm-down", role: "status", hidden: true });
    this.rows = h("ul", { class: "wbm-rows", "aria-label": `Models of ${visible(name)}` });
    this.el = h(
      "div",
      { class: "wbm-group" },
      h("div", { class: "wbm-group-head" }, h("h3", {}, visible(name)), this.kind, this.mode),
      this.error,
      this.rows,
    );
  }

  update(backend) {
    this.backend = backend;
    this.down = backend.reachable === false;
    setText(this.kind, [backend.kind, backend.url].filter(Boolean).map(visible).join(" · "));
    this.kind.title = backend.url ?? "";
    const swap = backend.swap;
    show(this.mode, Boolean(swap));
    if (swap) {
      const choices = swap.choices?.length ? swap.choices : Object.keys(MODES);
      const key = choices.join();
      if (key !== this.choices) {
        this.choices = key;
        this.mode.replaceChildren(...choices.map((value) => h("option", { value, title: MODES[value]?.[1] }, MODES[value]?.[0] ?? value)));
      }
      this.mode.value = swap.value;
      this.mode.title = `${MODES[swap.value]?.[1] ?? ""} Set by: ${swap.source ?? "default"}.`;
      this.mode.disabled = this.panel.gone || swap.changeable === false;
    }
    show(this.error, this.down);
    if (this.down)
      this.error.replaceChildren(
        h("span", { class: "wb-dot", "data-kind": "bad" }),
        h(
          "div",
          {},
          h("strong", {}, "Unreachable: "),
          visible((backend.error ?? "it does not answer").replace(/\.$/, "")),
          ".",
          backend.hint && h("span", { class: "wbm-hint" }, ` `, ...prose(backend.hint)),
        ),
        textButton(`Try ${visible(this.name)} again`, () => this.panel.send({ t: "refresh" }), { text: "Try again" }),
      );
  }

  shown(count, filtering) {
    const others = this.panel.list.rows.size > 0;
    show(this.el, count > 0 || (!filtering && (this.down || (others && Boolean(this.backend?.reachable)))));
    this.el.classList.toggle("wbm-bare", count === 0);
    this.rows.dataset.empty = count === 0 && !this.down ? `No model on ${short(this.name)} yet.` : "";
  }
}
