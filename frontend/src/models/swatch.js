/** The colour of a model, the same wherever it is drawn. */
import { h } from "../view/dom.js";

/** Give an element a model's colour and pattern. */
export function paint(el, row) {
  el.style.setProperty("--wbm-c", row?.color ?? "var(--wb-fg2)");
  el.dataset.pattern = row?.pattern ?? "solid";
}

/** Make the small square beside a model's name. */
export function swatch(row) {
  const el = h("span", { class: "wbm-swatch wbm-fill", "aria-hidden": "true" });
  paint(el, row);
  return el;
}
