/** The runs panel as a whole: takes what the kernel says and lets the parts draw it. */
import { Said } from "../dashboard/banners.js";
import { askLab, inLab } from "../lab.js";
import { Link } from "../link.js";
import { Store } from "../models/store.js";
import { PlotlyLibrary } from "../plotly.js";
import { visible } from "../text.js";
import { Announcer } from "../view/announce.js";
import { h, icon, prose, show } from "../view/dom.js";
import { Silence } from "../view/silence.js";
import { FormPage } from "./form.js";
import { handleKeys } from "./keys.js";
import { ListPage } from "./list.js";
import { RunPage } from "./run.js";
import { StepDrawer } from "./step.js";
import { isActive } from "./words.js";

const TICK_MS = 1000;
/** So long the same news are not told again. */
const TOLD_MS = 10000;

/** One view of the panel. */
export class RunsView {
  /**
   * @param {object} model The anywidget model.
   * @param {HTMLElement} el
   */
  constructor(model, el) {
    this.store = new Store(crypto.randomUUID?.() ?? String(Math.random()).slice(2));
    this.link = new Link(model, { message: (content, buffers) => this.#receive(content, buffers), gone: () => this.#kernelGone() });
    this.library = new PlotlyLibrary(() => this.send({ t: "need", mod: "plotly" }));
    this.announcer = new Announcer();
    this.skew = 0;
    this.choosing = false;
    /** The run a person asked for, until the kernel shows it. */
    this.wanted = undefined;
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

  /** All runs that are listed. */
  get runs() {
    return Object.entries(this.picture?.rows ?? {}).filter(([key]) => key.startsWith("r/")).map(([, row]) => row);
  }

  /** The row of the open run, or null. */
  get run() {
    return this.picture?.rows[`r/${this.openId}`] ?? null;
  }

  /** The id of the run that is shown, or null. */
  get openId() {
    return this.wanted !== undefined ? this.wanted : (this.picture?.open.run ?? null);
  }

  /** The state of a step of the open run. */
  stepOf(id) {
    return this.picture.rows[`s/${id}`] ?? null;
  }

  /** The kernel's clock, in seconds. */
  now() {
    return Date.now() / 1000 + this.skew;
  }

  #build(el) {
    this.list = new ListPage(this);
    this.page = new RunPage(this);
    this.form = new FormPage(this);
    this.step = new StepDrawer(this);
    this.said = new Said(this);
    this.trouble = h("div", { class: "wbr-trouble", role: "alert", hidden: true });
    this.waiting = h("p", { class: "wbr-waiting" }, h("span", { class: "wb-pulse", "aria-hidden": "true" }), "Reading the runs …");
    this.silence = new Silence();
    this.root = h(
      "section",
      { class: "wb-root wbr-root", "data-lm-suppress-shortcuts": "true", "aria-label": "Runs panel", "aria-busy": "true" },
      this.trouble,
      this.said.el,
      h("div", { class: "wbr-stage" }, this.waiting, this.list.el, this.page.el, this.form.el, this.step.el),
      this.silence.el,
      this.announcer.el,
    );
    for (const part of [this.list, this.page, this.form]) show(part.el, false);
    handleKeys(this);
    el.classList.add("wb-host");
    el.append(this.root);
  }

  /** Send a message to the kernel. */
  send(message) {
    return this.link.send({ view: this.store.view, ...message });
  }

  /** Show a run, or with null the list. */
  openRun(id) {
    const from = this.openId;
    this.step.hide();
    this.wanted = id;
    this.send({ t: "run", run: id });
    this.#draw();
    if (id === null) this.list.focusOn(from);
    else this.page.focus();
  }

  /** Choose a plan to start, or with a path show its form. */
  openForm(path = null) {
    this.choosing = true;
    this.send(path === null ? { t: "plans" } : { t: "form", path });
    this.#draw();
    this.form.focus();
  }

  /** Leave the form. */
  closeForm() {
    this.choosing = false;
    this.send({ t: "form", path: null });
    if (this.picture) this.picture.form = null;
    this.#draw();
    this.list.start.focus();
  }

  /** Open a run's notebook in Lab, or a copy of it; elsewhere its path is shown. */
  openNotebook() {
    const { notebook } = this.picture.run ?? {};
    if (!notebook) return;
    if (askLab(this.root, "open", { path: notebook, home: this.picture.home })) return;
    if (inLab()) this.send({ t: "copy", run: this.openId, name: this.run?.plan });
    else this.page.showPath();
  }

  #receive(content, buffers) {
    if (content?.t === "mod") {
      if (content.mod === "plotly" && buffers.length) this.library.load(buffers[0]).catch((error) => this.announcer.say(`The charts cannot be drawn: ${error.message}`));
      return;
    }
    const before = this.picture?.news?.at;
    const change = this.store.apply(content, performance.now());
    change.send.forEach((message) => this.send(message));
    if (change.whole) this.skew = this.picture.now - Date.now() / 1000;
    if (change.whole || change.rows.size || change.sections.size) {
      if (change.whole || change.sections.has("open")) this.#opened();
      this.#draw();
    }
    if (this.picture?.news && this.picture.news.at !== before && !change.whole) this.#tell(this.picture.news);
    if (change.sections.has("said")) this.#openCopy(this.picture.said);
    this.silence.update(this.store.unanswered);
  }

  #opened() {
    const { run } = this.picture.open;
    if (this.wanted === run) this.wanted = undefined;
    if (run !== null && this.choosing && !this.picture.form) {
      this.choosing = false;
      this.page.focus();
    }
  }

  #draw() {
    const { picture } = this;
    if (!picture) return;
    const { state } = picture.store;
    const reading = state === "reading";
    this.root.setAttribute("aria-busy", String(reading));
    show(this.waiting, reading);
    const formed = this.choosing || Boolean(picture.form);
    const page = reading ? null : formed ? this.form : this.openId !== null ? this.page : this.list;
    for (const part of [this.list, this.page, this.form]) show(part.el, part === page);
    page?.update(picture);
    this.step.update(picture);
    this.said.update(picture);
    this.#drawTrouble(picture.store);
  }

  #drawTrouble(store) {
    show(this.trouble, store.state === "error");
    const state = JSON.stringify(store);
    if (store.state !== "error" || this.trouble.dataset.state === state) return;
    this.trouble.dataset.state = state;
    const rest = [store.hint, "Trying again by itself."].filter(Boolean).join(" ");
    this.trouble.replaceChildren(
      icon("warn"),
      h(
        "div",
        {},
        h("strong", {}, "The runs cannot be read. "),
        h("code", { class: "wbr-path" }, visible(store.folder)),
        `: ${visible(store.text)}`,
        h("span", { class: "wbr-hint" }, ` `, ...prose(rest)),
      ),
    );
  }

  /** Tell once in a page that a run ended or waits: aloud, and as a notification of Lab. */
  #tell({ run_id: run, status, text }) {
    const told = (window.workbenchRunsTold ??= new Map());
    const key = `${run} ${status} ${text}`;
    const now = performance.now();
    this.announcer.say(text);
    // Every panel on the page hears of it.
    if (now - (told.get(key) ?? -Infinity) < TOLD_MS) return;
    told.set(key, now);
    const type = { done: "success", failed: "error", lost: "error", waiting: "warning" }[status] ?? "info";
    askLab(this.root, "notify", { message: visible(text), type });
  }

  #openCopy(said) {
    if (said?.open && said.view === this.store.view) askLab(this.root, "open", { beside: said.open });
  }

  #tick() {
    // A hidden page is still told when a run ends, while one runs.
    if (document.hidden && this.away) return;
    this.store.tick(performance.now()).forEach((message) => this.send(message));
    this.library.tick();
    this.silence.update(this.store.unanswered);
    if (!this.picture || this.link.gone || document.hidden) return;
    for (const part of [this.list, this.page]) if (!part.el.hidden) part.tick();
  }

  /** A page nobody looks at is told nothing, unless a run is on its way; it asks again later. */
  #visibility() {
    if (!document.hidden) {
      this.away = false;
      this.send(this.store.hello(performance.now()));
    } else if (!this.runs.some(isActive)) {
      this.away = true;
      this.send(this.store.bye());
    }
  }

  #kernelGone() {
    if (!this.silence) return;
    this.root.classList.add("wbr-stale");
    show(this.waiting, false);
    for (const el of this.root.querySelectorAll(".wbr-needs-kernel")) el.disabled = true;
    this.silence.end("The kernel of this panel is gone; runs go on without it. Run the cell again to see them.");
  }

  /** End the view. */
  close() {
    this.send(this.store.bye());
    clearInterval(this.timer);
    document.removeEventListener("visibilitychange", this.seen);
    this.link.close();
    this.page.close();
    this.step.close();
    this.root.remove();
  }
}
