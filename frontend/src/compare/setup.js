/** The drawer of what counts for the whole comparison: blind votes, who votes, the order of work. */
import { h } from "../view/dom.js";
import { Drawer } from "../view/drawer.js";

/** The drawer. */
export class SetupDrawer extends Drawer {
  /** @param {import("./panel.js").CompareView} panel */
  constructor(panel) {
    super("right", "Settings");
    const on = { change: () => this.#send() };
    this.panel = panel;
    this.voter = h("input", { class: "wb-field", "aria-label": "Voter", on });
    this.schedule = h(
      "select",
      { class: "wb-field", "aria-label": "Schedule", on },
      h("option", { value: "memory" }, "Together where they fit"),
      h("option", { value: "sequential" }, "One after the other"),
    );
    this.body.append(
      h("label", { class: "wb-param wb-wide" }, h("span", {}, "Voter"), this.voter),
      h("p", { class: "wb-note" }, "Each vote is a row of the metrics with this name."),
      h("label", { class: "wb-param wb-wide" }, h("span", {}, "Models that fit into memory together"), this.schedule),
      h("p", { class: "wb-note" }, "One after the other gives timings that can be compared. It begins a new comparison."),
    );
  }

  #send() {
    this.panel.send({ t: "setup", voter: this.voter.value, schedule: this.schedule.value });
  }

  update({ setup }) {
    if (this.voter !== document.activeElement) this.voter.value = setup.voter;
    if (this.schedule !== document.activeElement) this.schedule.value = setup.schedule;
  }
}
