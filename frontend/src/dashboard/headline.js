/** The four figures at the top, each with how it differs from the time before. */
import { h, setText } from "../view/dom.js";
import { FIGURES, RANGES, trend } from "./words.js";

const ARROWS = { up: "↑", down: "↓", same: "", none: "" };

/** The row of cards. */
export class Headlines {
  constructor() {
    this.cards = FIGURES.map((figure) => {
      const value = h("strong", { class: "wbd-value" });
      const change = h("span", { class: "wbd-change" });
      const against = h("span", { class: "wbd-against" });
      const el = h("li", { class: "wbd-card", "aria-label": figure.label }, h("span", { class: "wbd-label" }, figure.label), value, h("span", { class: "wbd-trend" }, change, against));
      return { figure, value, change, against, el };
    });
    this.el = h("ul", { class: "wbd-cards", "aria-label": "Headline figures" }, ...this.cards.map(({ el }) => el));
  }

  update({ headline, filters }) {
    if (!headline) return;
    const before = RANGES[filters.range]?.before;
    for (const { figure, value, change, against, el } of this.cards) {
      const now = headline.now[figure.key];
      const { text, way, good } = trend(figure, now, headline.before?.[figure.key]);
      setText(value, figure.show(now));
      setText(change, `${ARROWS[way]} ${text}`.trim());
      setText(against, text && way !== "none" && way !== "same" ? `against ${before}` : "");
      el.dataset.good = good === null ? "" : String(good);
    }
  }
}
