/** The queue: who waits, how long, and what comes next. */
import { visible } from "../text.js";
import { h, setText, show } from "../view/dom.js";
import { swatch } from "./swatch.js";
import { laneWord, left, orderText, short } from "./words.js";

/** The queue below the devices; it is not there while nobody waits or is served. */
export class Queue {
  constructor(panel) {
    this.panel = panel;
    this.lanes = h("ul", { class: "wbm-lanes" });
    this.next = h("p", { class: "wbm-detail" });
    this.el = h(
      "section",
      { class: "wbm-queue", "aria-label": "Queue", hidden: true },
      h("h3", {}, "Queue"),
      this.lanes,
      this.next,
    );
    this.ages = [];
  }

  update(picture) {
    const lanes = (picture.queue?.lanes ?? []).filter((lane) => lane.running || lane.waiting);
    show(this.el, lanes.length > 0);
    this.ages = [];
    this.lanes.replaceChildren(...lanes.map((lane) => this.#lane(lane)));
    const order = picture.queue?.order ?? [];
    const swaps = picture.queue?.predicted_swaps;
    const plan = order.length > 1 ? `Next: ${orderText(order)}.` : "";
    const cost = typeof swaps === "number" && lanes.length ? `${swaps || "No"} ${swaps === 1 ? "swap" : "swaps"} expected.` : "";
    setText(this.next, [plan, cost].filter(Boolean).join(" "));
    this.tick();
  }

  #lane(lane) {
    const age = h("span", { class: "wbm-age" });
    if (lane.waiting && typeof lane.since === "number") this.ages.push({ el: age, lane });
    const counts = [
      lane.running ? `${lane.running} running` : null,
      lane.waiting ? `${lane.waiting} waiting${batchPart(lane)}` : null,
    ].filter(Boolean);
    return h(
      "li",
      { class: "wbm-lane", "data-state": lane.state },
      swatch(this.panel.rowOf(lane.model, lane.backend)),
      h("strong", {}, visible(short(lane.model))),
      h("span", { class: "wbm-lane-state" }, laneWord(lane.state)),
      h("span", { class: "wbm-detail" }, counts.join(" · ")),
      age,
    );
  }

  tick() {
    for (const { el, lane } of this.ages) {
      const bound = typeof lane.bound_s === "number" ? ` · its turn comes after ${left(lane.bound_s)} at most` : "";
      setText(el, `oldest waits ${left(this.panel.now() - lane.since)}${bound}`);
    }
  }
}

function batchPart({ waiting, batch }) {
  if (!batch) return "";
  return batch === waiting ? ", all batch" : `, ${batch} of them batch`;
}
