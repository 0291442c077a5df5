/** The models panel as a whole: takes what the kernel says and lets the parts draw it. */
import { Link } from "../link.js";
import { visible } from "../text.js";
import { Announcer } from "../view/announce.js";
import { h, icon, prose, show, textButton } from "../view/dom.js";
import { openOnly } from "../view/drawer.js";
import { NoticeBar } from "../view/notice.js";
import { Silence } from "../view/silence.js";
import { Devices } from "./devices.js";
import { GetDrawer } from "./get.js";
import { Head } from "./head.js";
import { handleKeys } from "./keys.js";
import { ModelList } from "./list.js";
import { EventLog } from "./log.js";
import { Queue } from "./queue.js";
import { SettingsDrawer } from "./settings.js";
import { Store } from "./store.js";
import { noteText, short, warningText } from "./words.js";

const TICK_MS = 1000;
const SAID_MS = 12000;

/** One view of the panel. */
export class PanelView {
  /**
   * @param {object} model The anywidget model.
   * @param {HTMLElement} el
   */
  constructor(model, el) {
    this.store = new Store(crypto.randomUUID?.() ?? String(Math.random()).slice(2));
    this.link = new Link(model, { message: (content) => this.#receive(content), gone: () => this.#kernelGone() });
    this.announcer = new Announcer();
    this.skew = 0;
    this.#build(el);
    this.timer = setInterval(() => this.#tick(), TICK_MS);
    this.seen = () => this.#visibility();
    document.addEventListener("visibilitychange", this.seen);
    this.send(this.store.hello(performance.now()));
  }

  /** The kernel's picture, or null. */
  get picture() {
    return this.store.picture;
  }

  /** Whether nothing can be done: the server or the kernel is gone. */
  get gone() {
    return this.link?.gone || this.picture?.link.state === "gone";
  }

  #build(el) {
    this.settings = new SettingsDrawer(this);
    this.get = new GetDrawer(this);
    this.list = new ModelList(this);
    this.head = new Head(this);
    this.devices = new Devices(this);
    this.queue = new Queue(this);
    this.log = new EventLog();
    this.lost = h("div", { class: "wbm-lost", role: "alert", hidden: true });
    this.notices = new NoticeBar();
    this.warning = h("div", { class: "wbm-warning", role: "status", hidden: true });
    this.empty = h("div", { class: "wbm-empty", hidden: true });
    this.waiting = h("p", { class: "wbm-waiting" }, h("span", { class: "wb-pulse", "aria-hidden": "true" }), "Asking the server …");
    this.silence = new Silence();
    this.body = h("div", { class: "wbm-body" }, this.devices.el, this.queue.el, this.empty, this.list.el, this.log.el);
    this.root = h(
      "section",
      { class: "wb-root wbm-root", "data-lm-suppress-shortcuts": "true", "aria-label": "Models panel", "aria-busy": "true" },
      this.head.el,
      this.lost,
      this.warning,
      this.notices.el,
      h("div", { class: "wbm-stage" }, this.waiting, this.body, this.settings.el, this.get.el),
      this.silence.el,
      this.announcer.el,
    );
    show(this.body, false);
    handleKeys(this);
    el.classList.add("wb-host");
    el.append(this.root);
  }

  /** The kernel's clock, in seconds. */
  now() {
    return Date.now() / 1000 + this.skew;
  }

  /** The row of a model by its name and backend. */
  rowOf(name, backend) {
    const rows = this.picture?.rows ?? {};
    return rows[`${name}@${backend}`] ?? Object.values(rows).find((row) => row.name === name) ?? null;
  }

  /** Send a message to the kernel. */
  send(message) {
    return this.link.send({ view: this.store.view, ...message });
  }

  /** Read something aloud. */
  say(text) {
    this.announcer.say(text);
  }

  /** Open a drawer and close the other. */
  open(drawer) {
    openOnly(drawer, [this.settings, this.get]);
    if (drawer.open && this.picture) drawer.update(this.picture);
  }

  #receive(content) {
    const change = this.store.apply(content, performance.now());
    change.send.forEach((message) => this.send(message));
    if (change.whole) this.#drawAll();
    else if (change.rows.size || change.sections.size) this.#draw(change);
    this.silence.update(this.store.unanswered);
  }

  #drawAll() {
    this.skew = this.picture.now - Date.now() / 1000;
    this.root.setAttribute("aria-busy", "false");
    this.#drawLink();
    this.list.update(this.picture);
    for (const part of [this.head, this.devices, this.queue, this.log, this.settings, this.get]) part.update(this.picture);
    this.#drawWarning();
    this.#drawEmpty();
    this.#drawSaid();
  }

  #draw({ rows, sections }) {
    const { picture } = this;
    const has = (...names) => names.some((name) => sections.has(name));
    if (has("link")) return this.#drawAll();
    if (rows.size) this.list.change(picture, rows);
    // A refused change of a mode is taken back.
    if (has("backends", "said")) this.list.arrange(picture);
    if (rows.size) this.head.update(picture);
    if (has("devices", "env") || rows.size) this.devices.update(picture);
    if (has("queue")) this.queue.update(picture);
    if (has("events")) this.log.update(picture);
    if (has("settings", "backends", "said", "env")) this.settings.update(picture);
    if (has("pulls", "said")) this.get.update(picture);
    if (has("warning")) this.#drawWarning();
    if (has("said")) this.#drawSaid();
    this.#drawEmpty();
  }

  #drawLink() {
    const { link } = this.picture;
    const connecting = link.state === "connecting";
    show(this.waiting, connecting);
    show(this.body, !connecting);
    this.root.classList.toggle("wbm-gone", link.state === "gone");
    show(this.lost, link.state === "gone");
    for (const button of [this.head.get]) button.disabled = link.state === "gone";
    if (link.state !== "gone") return;
    const since = new Date(link.since * 1000).toLocaleTimeString("en-GB");
    this.lost.replaceChildren(
      icon("warn"),
      h(
        "div",
        {},
        h("strong", {}, "The server is gone. "),
        visible(link.text),
        h("span", { class: "wbm-hint" }, ` What you see is from ${since}; trying again.`),
      ),
      textButton(link.can_start ? "Start the server" : "Connect again", () => this.send({ t: "connect" })),
    );
  }

  #drawWarning() {
    const { warning } = this.picture;
    show(this.warning, Boolean(warning));
    if (!warning) return;
    const { text, hint } = warningText(warning);
    this.warning.replaceChildren(icon("warn"), h("div", {}, h("strong", {}, text), h("span", { class: "wbm-hint" }, ` `, ...prose(hint))));
  }

  /** What a drawer says stands there while it is open, else above the models. */
  #drawSaid() {
    const { said } = this.picture;
    if (!said || said.at === this.saidAt) return;
    this.saidAt = said.at;
    const text = said.model ? `${short(said.model)}: ${noteText(said)}` : noteText(said);
    this.say([text, said.hint].filter(Boolean).join(" "));
    if (this.settings.open || this.get.open) return;
    this.notices.show(said.level === "ok" ? "info" : said.level, visible(text), said.hint && visible(said.hint));
    clearTimeout(this.saidTimer);
    if (said.level !== "error") this.saidTimer = setTimeout(() => show(this.notices.el, false), SAID_MS);
  }

  #drawEmpty() {
    const none = Object.keys(this.picture.rows).length === 0 && this.picture.link.state === "ok";
    show(this.empty, none);
    if (!none || this.empty.childElementCount) return;
    this.empty.replaceChildren(
      h("h3", {}, "No model yet"),
      h("p", {}, "Pull one from a registry, or add a GGUF file that is on the server’s machine."),
      textButton("Get your first model", () => this.open(this.get), { text: "Get a model", class: "wb-primary" }),
    );
  }

  #tick() {
    if (document.hidden) return;
    this.store.tick(performance.now()).forEach((message) => this.send(message));
    this.silence.update(this.store.unanswered);
    if (!this.picture || this.gone) return;
    this.list.tick();
    this.queue.tick();
  }

  /** A page nobody looks at is told nothing; it asks again when it is looked at. */
  #visibility() {
    if (document.hidden) this.send(this.store.bye());
    else this.send(this.store.hello(performance.now()));
  }

  #kernelGone() {
    if (!this.root) return;
    this.root.classList.add("wbm-gone");
    show(this.waiting, false);
    this.silence.end("The kernel of this panel is gone. Run the cell again to go on.");
    if (this.picture) this.list.update(this.picture);
  }

  /** End the view. */
  close() {
    this.send(this.store.bye());
    clearInterval(this.timer);
    clearTimeout(this.saidTimer);
    document.removeEventListener("visibilitychange", this.seen);
    this.link.close();
    this.list.close();
    this.root.remove();
  }
}
