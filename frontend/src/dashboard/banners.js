/** What stands above the figures: alerts, trouble with the store, and what was done. */
import { visible } from "../text.js";
import { copyText, flash, h, icon, iconButton, prose, show } from "../view/dom.js";

/** The alerts that hold now. */
export class Alerts {
  constructor(panel) {
    this.panel = panel;
    this.el = h("div", { class: "wbd-alerts", role: "alert", "aria-label": "Alerts", hidden: true });
  }

  update({ alerts }) {
    const active = alerts?.active ?? [];
    show(this.el, active.length > 0);
    const items = active.map((alert) => h("li", {}, h("strong", {}, visible(alert.alert)), h("span", {}, ` ${visible(alert.text)}`)));
    this.el.replaceChildren(icon("warn"), h("ul", {}, ...items));
  }
}

/** A store that cannot be read. */
export class Trouble {
  constructor() {
    this.el = h("div", { class: "wbd-trouble", role: "alert", hidden: true });
  }

  update({ store }) {
    show(this.el, store.state === "error");
    if (store.state !== "error") return;
    this.el.replaceChildren(
      icon("warn"),
      h(
        "div",
        {},
        h("strong", {}, "The metrics cannot be read. "),
        visible(store.text),
        h("span", { class: "wbd-hint" }, ` `, ...prose(`${store.hint ?? ""} Trying again by itself.`)),
      ),
    );
  }
}

/** How an export ended, with the way to its file. */
export class Said {
  constructor(panel) {
    this.panel = panel;
    this.el = h("div", { class: "wbd-said", hidden: true });
  }

  update({ said }) {
    show(this.el, Boolean(said));
    if (!said || said.at === this.at) return;
    this.at = said.at;
    this.el.dataset.level = said.level;
    this.el.setAttribute("role", said.level === "error" ? "alert" : "status");
    const copy = said.path ? iconButton("copy", "Copy the path", async () => (await copyText(said.path)) && flash(copy, "check", "Copied")) : null;
    this.el.replaceChildren(
      h(
        "div",
        {},
        visible(said.text),
        said.path ? h("code", { class: "wbd-path" }, visible(said.path)) : "",
        said.hint ? h("span", { class: "wbd-hint" }, ` `, ...prose(said.hint)) : "",
      ),
      ...(copy ? [copy] : []),
      ...(said.level === "busy" ? [h("span", { class: "wb-pulse", "aria-hidden": "true" })] : [iconButton("close", "Dismiss notice", () => this.panel.send({ t: "dismiss" }))]),
    );
  }
}
