/** The dashboard as a whole: takes what the kernel says and lets the parts draw it. */
import { Link } from "../link.js";
import { Store } from "../models/store.js";
import { PlotlyLibrary } from "../plotly.js";
import { visible } from "../text.js";
import { h, keepEventsInside, show } from "../view/dom.js";
import { Silence } from "../view/silence.js";
import { Alerts, Said, Trouble } from "./banners.js";
import { Charts } from "./charts.js";
import { Detail } from "./detail.js";
import { Head } from "./head.js";
import { Headlines } from "./headline.js";
import { Requests } from "./table.js";

const TICK_MS = 1000;
/** What each part draws. */
const NEEDS = {
  head: ["filters", "choices", "busy", "store"],
  headlines: ["headline", "filters"],
  requests: ["table", "headline"],
  detail: ["detail"],
  alerts: ["alerts"],
  trouble: ["store"],
  said: ["said"],
};

/** One view of the dashboard. */
export class DashboardView {
  /**
   * @param {object} model The anywidget model.
   * @param {HTMLElement} el
   */
  constructor(model, el) {
    this.store = new Store(crypto.randomUUID?.() ?? String(Math.random()).slice(2));
    this.link = new Link(model, { message: (content, buffers) => this.#receive(content, buffers), gone: () => this.#kernelGone() });
    this.library = new PlotlyLibrary(() => this.send({ t: "need", mod: "plotly" }));
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

  #build(el) {
    this.root = h("section", { class: "wb-root wbd-root", "data-lm-suppress-shortcuts": "true", "aria-label": "Metrics dashboard", "aria-busy": "true" });
    this.head = new Head(this);
    this.headlines = new Headlines();
    this.charts = new Charts(this);
    this.requests = new Requests(this);
    this.detail = new Detail(this);
    this.alerts = new Alerts(this);
    this.trouble = new Trouble();
    this.said = new Said(this);
    this.waiting = h("p", { class: "wbd-waiting" }, h("span", { class: "wb-pulse", "aria-hidden": "true" }), "Reading the metrics …");
    this.empty = h("div", { class: "wbd-empty", hidden: true });
    this.body = h("div", { class: "wbd-body", hidden: true }, this.headlines.el, this.charts.el, this.requests.el);
    this.silence = new Silence();
    this.foot = h("p", { class: "wbd-foot", hidden: true });
    this.root.append(
      this.head.el,
      this.alerts.el,
      this.trouble.el,
      this.said.el,
      h("div", { class: "wbd-stage" }, this.waiting, this.empty, this.body, this.detail.el),
      this.foot,
      this.silence.el,
    );
    this.root.addEventListener("keydown", (event) => this.#key(event));
    keepEventsInside(this.root);
    el.classList.add("wb-host");
    el.append(this.root);
  }

  /** Send a message to the kernel. */
  send(message) {
    return this.link.send({ view: this.store.view, ...message });
  }

  #receive(content, buffers) {
    if (content?.t === "mod") {
      if (content.mod === "plotly" && buffers.length) this.library.load(buffers[0]).catch((error) => this.#noCharts(error));
      return;
    }
    const change = this.store.apply(content, performance.now());
    change.send.forEach((message) => this.send(message));
    if (change.whole) this.#draw(null, Object.keys(this.picture.rows));
    else if (change.rows.size || change.sections.size) this.#draw(change.sections, change.rows);
    this.silence.update(this.store.unanswered);
  }

  #draw(sections, charts) {
    const { picture } = this;
    for (const [name, needs] of Object.entries(NEEDS)) {
      if (sections === null || needs.some((need) => sections.has(need))) this[name].update(picture);
    }
    if (sections === null || sections.has("store") || sections.has("headline")) this.#stage();
    const gone = sections === null ? [...this.charts.cells.keys()].filter((name) => !picture.rows[name]) : [];
    this.charts.update(picture.rows, [...gone, ...charts]);
    if (sections === null || sections.has("alerts") || sections.has("store")) this.#drawFoot();
  }

  #stage() {
    const { state } = this.picture.store;
    const reading = state === "reading" || (state === "ok" && !this.picture.headline);
    show(this.waiting, reading);
    show(this.empty, state === "empty");
    show(this.body, !reading && state !== "empty" && Boolean(this.picture.headline?.any));
    this.root.classList.toggle("wbd-stale", state === "error");
    if (state === "empty" && !this.empty.childElementCount) this.#fillEmpty();
  }

  #fillEmpty() {
    const sketch = h("div", { class: "wbd-sketch", "aria-hidden": "true" }, ...[34, 52, 40, 68, 58, 84, 72].map((height) => bar(height)));
    this.empty.append(
      sketch,
      h("h3", {}, "Nothing was recorded yet"),
      h(
        "p",
        {},
        "Ask a model, in the chat, from Python, or with any Ollama or OpenAI client at the workbench’s address. Every request then appears here by itself: how long it took, how fast it was, what it loaded, and what failed.",
      ),
      h("pre", { class: "wbd-example" }, 'wb.generate("Why is the sky blue?")'),
    );
  }

  #drawFoot() {
    const { store, alerts } = this.picture;
    const gone = alerts?.state === "gone";
    show(this.foot, true);
    this.foot.replaceChildren(
      h("span", { class: "wbd-path", title: visible(store.folder) }, visible(store.folder)),
      ...(gone ? [h("span", { class: "wbd-no-server", title: visible(alerts.text) }, h("span", { class: "wb-dot", "aria-hidden": "true" }), "No server answers; what was recorded is shown.")] : []),
    );
  }

  #noCharts(error) {
    this.charts.el.replaceChildren(h("p", { class: "wbd-hint", role: "alert" }, `The charts cannot be drawn: ${error.message}`));
  }

  #key(event) {
    if (event.key !== "Escape" || event.defaultPrevented) return;
    if (this.head.take.hide() || this.detail.hide()) event.preventDefault();
  }

  #tick() {
    if (document.hidden) return;
    this.store.tick(performance.now()).forEach((message) => this.send(message));
    this.library.tick();
    this.silence.update(this.store.unanswered);
  }

  /** A page nobody looks at is told nothing; it asks again when it is looked at. */
  #visibility() {
    if (document.hidden) this.send(this.store.bye());
    else this.send(this.store.hello(performance.now()));
  }

  #kernelGone() {
    if (!this.silence) return;
    this.root.classList.add("wbd-stale");
    show(this.waiting, false);
    this.head.disable();
    this.silence.end("The kernel of this dashboard is gone. Run the cell again to go on.");
  }

  /** End the view. */
  close() {
    this.send(this.store.bye());
    clearInterval(this.timer);
    document.removeEventListener("visibilitychange", this.seen);
    this.link.close();
    this.charts.close();
    this.head.take.close();
    this.root.remove();
  }
}

function bar(height) {
  const el = h("span", {});
  el.style.height = `${height}%`;
  return el;
}
