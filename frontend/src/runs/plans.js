/** Plans that can be started, as cards. */
import { visible } from "../text.js";
import { h } from "../view/dom.js";

const WHERE = { here: "in this folder", bundled: "comes with the workbench" };

/** Return a list of cards, or null when there is no plan. */
export function planCards(panel, plans) {
  if (!plans.length) return null;
  return h(
    "ul",
    { class: "wbr-plans", "aria-label": "Plans" },
    ...plans.map(({ path, name, goal, where }) =>
      h(
        "li",
        {},
        h(
          "button",
          { type: "button", class: "wbr-plan wbr-needs-kernel", title: visible(path), on: { click: () => panel.openForm(path) } },
          h("span", { class: "wbr-plan-name" }, visible(name)),
          h("span", { class: "wbr-plan-goal" }, visible(goal)),
          h("span", { class: "wbr-hint" }, WHERE[where] ?? ""),
        ),
      ),
    ),
  );
}
