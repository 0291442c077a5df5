/** One model: its state, its memory, and what can be done with it. */
import { stateWord } from "../states.js";
import { memory, visible } from "../text.js";
import { h, iconButton, setText, show } from "../view/dom.js";
import { Menu, menuItem } from "../view/menu.js";
import { Strip } from "./strip.js";
import { paint, swatch } from "./swatch.js";
import { about, factsOf, fitOf, memoryOf, names, short, stateDetail } from "./words.js";

const RESIDENT = ["idle", "busy", "loading", "stopping", "releasing"];
const PRIORITIES = [..."9876543210"];
const BADGES = [
  ["toy", "toy", "A bundled toy to try things with."],
  ["remote", "cloud", "It runs at its provider, not on this machine."],
  ["hot", "hot", "Loaded when the server starts, and again when memory allows."],
  ["leased", "reserved", "A run or a notebook holds it."],
  ["foreign", "by others", "Another program loaded it; it is never unloaded without your consent."],
  ["unlisted", "deleted", "Its files are gone; it is still in memory."],
];

/** Whether a model takes memory now. */
export function isResident(row) {
  return RESIDENT.includes(row.state) || (row.state === "unknown" && Boolean(row.size_loaded));
}

/** A row of the list. */
export class Row {
  constructor(panel, key) {
    this.panel = panel;
    this.key = key;
    this.swatch = swatch(null);
    this.title = h("span", { class: "wbm-name" });
    this.badges = h("span", { class: "wbm-badges" });
    this.facts = h("div", { class: "wbm-facts" });
    this.strip = new Strip(this);
    this.el = h(
      "li",
      { class: "wbm-row", tabindex: "-1" },
      h(
        "div",
        { class: "wbm-line" },
        h("div", { class: "wbm-who" }, this.swatch, h("div", { class: "wbm-who-text" }, h("div", { class: "wbm-name-line" }, this.title, this.badges), this.facts)),
        this.#stateCell(),
        this.#memoryCell(),
        this.#priorityCell(),
        this.#pinButton(),
        this.#actButton(),
        this.#menu(),
      ),
      this.strip.el,
    );
  }

  #stateCell() {
    this.dot = h("span", { class: "wb-dot" });
    this.word = h("span", { class: "wbm-word" });
    this.detail = h("div", { class: "wbm-detail" });
    this.progress = h("span", { class: "wbm-progress-fill" });
    this.progressBar = h("div", { class: "wbm-progress", hidden: true, "aria-hidden": "true" }, this.progress);
    return h(
      "div",
      { class: "wbm-state" },
      h("div", { class: "wbm-state-line" }, this.dot, this.word),
      this.progressBar,
      this.detail,
    );
  }

  #memoryCell() {
    this.gpu = h("span", { class: "wbm-split-gpu wbm-fill" });
    this.cpu = h("span", { class: "wbm-split-cpu wbm-fill" });
    this.split = h("div", { class: "wbm-split", role: "img", hidden: true }, this.gpu, this.cpu);
    this.memoryText = h("div", { class: "wbm-detail" });
    this.evicts = h("div", { class: "wbm-detail wbm-warn", hidden: true });
    return h("div", { class: "wbm-memory" }, this.split, this.memoryText, this.evicts);
  }

  #priorityCell() {
    this.priority = h(
      "select",
      {
        class: "wb-field wbm-priority",
        title: "Priority: 9 stays in memory longest, 5 is usual",
        on: { change: () => this.prefer({ priority: Number(this.priority.value) }) },
      },
      ...PRIORITIES.map((value) => h("option", { value }, value)),
    );
    return h("label", { class: "wbm-priority-cell" }, h("span", { class: "wbm-narrow-label" }, "Priority"), this.priority);
  }

  #pinButton() {
    this.pin = iconButton("pin", "Pin", () => this.togglePin(), { class: "wbm-pin" });
    return this.pin;
  }

  #actButton() {
    this.actWord = h("span", {});
    this.actHint = h("small", { class: "wbm-estimate" });
    this.act = h(
      "button",
      { type: "button", class: "wb-tb wbm-act", on: { click: () => this.loadOrUnload() } },
      this.actWord,
      this.actHint,
    );
    return this.act;
  }

  #menu() {
    this.menuButton = iconButton("dots", "More", () => {}, { class: "wbm-dots" });
    this.menu = new Menu(this.menuButton, { label: "More actions", fill: () => this.#items() });
    return this.menu.el;
  }

  #items() {
    const { row } = this;
    const choose = (action) => () => {
      this.menu.hide();
      action();
    };
    const items = [
      menuItem(
        row.hot ? "Do not load when the server starts" : "Load when the server starts",
        choose(() => this.prefer({ hot: !row.hot })),
      ),
    ];
    if (isResident(row))
      items.push(menuItem("Unload now, stopping its answers", choose(() => this.send("unload", { force: true }))));
    if (!row.unlisted)
      items.push(menuItem("Delete from disk …", choose(() => this.strip.askDelete()), { class: "wb-item wbm-danger" }));
    return items;
  }

  /** Send an action on this model. */
  send(t, more = {}) {
    return this.panel.send({ t, key: this.key, ...more });
  }

  prefer(change) {
    this.send("prefer", change);
  }

  togglePin() {
    if (!this.pin.disabled) this.send("pin", { on: !this.row.pinned });
  }

  /** Load a model that is not in memory, unload one that is. */
  loadOrUnload() {
    if (this.act.disabled) return;
    this.send(this.unloads ? "unload" : "load");
  }

  /** @param {object} row */
  update(row) {
    const { row: old } = this;
    this.row = row;
    const name = visible(short(row.name));
    if (!old || old.name !== row.name) this.#nameControls(name);
    this.title.title = [name, row.route_reason && visible(row.route_reason)].filter(Boolean).join("\n");
    paint(this.swatch, row);
    for (const part of [this.gpu, this.cpu]) paint(part, row);
    this.swatch.classList.toggle("wbm-hollow", !isResident(row));
    setText(this.facts, factsOf(row).map(visible).join(" · "));
    this.#drawBadges(row);
    this.#drawMemory(row);
    this.#drawControls(row, old);
    this.strip.update(row, old);
    this.tick();
  }

  #nameControls(name) {
    setText(this.title, name);
    this.el.setAttribute("aria-label", name);
    this.priority.setAttribute("aria-label", `Priority of ${name}`);
    this.menuButton.setAttribute("aria-label", `More actions on ${name}`);
    this.menuButton.title = `More actions on ${name}`;
  }

  #drawBadges(row) {
    const flags = { ...row, foreign: row.owner === "foreign" };
    const wanted = BADGES.filter(([flag]) => flags[flag]);
    const key = wanted.map(([flag]) => flag).join();
    if (key === this.badgeKey) return;
    this.badgeKey = key;
    this.badges.replaceChildren(...wanted.map(([, text, title]) => h("span", { class: "wb-badge", title }, text)));
  }

  #drawMemory(row) {
    const resident = isResident(row);
    const split = memoryOf(row);
    const known = resident && split.gpu !== null;
    show(this.split, known);
    if (known) {
      this.gpu.style.width = `${split.gpu}%`;
      this.cpu.style.width = `${split.cpu}%`;
      this.split.setAttribute("aria-label", `${split.gpu} % on the GPU, ${split.cpu} % in main memory`);
    }
    const held = resident && (known || Boolean(row.size_loaded));
    const fit = held ? null : fitOf(row);
    setText(this.memoryText, held || (resident && !fit) ? split.text : (fit?.text ?? ""));
    this.memoryText.title = fit?.reason ?? "";
    this.memoryText.classList.toggle("wbm-warn", Boolean(fit?.warn) && !resident);
    const evicts = resident ? [] : (row.evicts ?? []);
    show(this.evicts, evicts.length > 0);
    setText(this.evicts, evicts.length ? `takes out ${names(evicts)}` : "");
  }

  #drawControls(row, old) {
    const name = visible(short(row.name));
    // An open list is not moved by other news; a refused change is taken back.
    const news = old?.priority !== row.priority || Boolean(row.note);
    if (news || document.activeElement !== this.priority) this.priority.value = String(row.priority ?? 5);
    const pinned = Boolean(row.pinned);
    this.pin.setAttribute("aria-pressed", String(pinned));
    this.pin.setAttribute("aria-label", `${pinned ? "Unpin" : "Pin"} ${name}`);
    this.pin.title = pinned ? "Pinned: it is never unloaded for another" : "Pin: never unload it for another";
    this.unloads = isResident(row);
    const busy = Boolean(row.act) || ["loading", "stopping", "releasing", "queued"].includes(row.state);
    const loading = row.state === "loading" || row.state === "queued" || row.act === "load";
    const word = busy ? (loading ? "Loading" : "Unloading") : this.unloads ? "Unload" : "Load";
    setText(this.actWord, row.act === "delete" ? "Deleting" : word);
    this.act.setAttribute("aria-label", `${this.actWord.textContent} ${name}`);
    this.act.classList.toggle("wbm-busy", busy);
    setText(this.actHint, busy ? "" : this.#estimate(row));
    const off = this.panel.gone || Boolean(row.remote);
    this.act.disabled = off || busy;
    for (const control of [this.pin, this.priority, this.menuButton]) control.disabled = off;
  }

  #estimate(row) {
    if (!this.unloads) return about(row.load_s);
    return typeof row.unload_s === "number" ? about(row.unload_s) : row.size_loaded ? `frees ${memory(row.size_loaded)}` : "";
  }

  /** Draw what moves with the clock. */
  tick() {
    const { row } = this;
    const now = this.panel.now();
    const [word, kind] = stateWord(row.state);
    setText(this.word, row.unloadable === false ? "always there" : word);
    this.dot.dataset.kind = kind;
    setText(this.detail, stateDetail(row, now));
    const loading = row.state === "loading" && row.load_s && row.since;
    show(this.progressBar, Boolean(loading));
    if (loading) this.progress.style.width = `${Math.min(98, (100 * (now - row.since)) / row.load_s)}%`;
  }

  close() {
    this.menu.close();
    this.el.remove();
  }
}
