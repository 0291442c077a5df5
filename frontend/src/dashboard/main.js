/** The widget of the dashboard: anywidget calls `render`, which returns its cleanup. */
import { h } from "../view/dom.js";
import { DashboardView } from "./panel.js";

/**
 * Draw the dashboard of a widget model below `el`.
 * @param {{model: object, el: HTMLElement}} context
 * @returns {() => void}
 */
function render({ model, el }) {
  try {
    const view = new DashboardView(model, el);
    return () => view.close();
  } catch (error) {
    el.append(
      h("pre", { role: "alert", class: "wb-crash" }, `The dashboard could not be drawn: ${error?.stack ?? error}`),
    );
    return () => {};
  }
}

export default { render };
