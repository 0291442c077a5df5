/** The widget of the runs panel: anywidget calls `render`, which returns its cleanup. */
import { h } from "../view/dom.js";
import { RunsView } from "./panel.js";

/**
 * Draw the panel of a widget model below `el`.
 * @param {{model: object, el: HTMLElement}} context
 * @returns {() => void}
 */
function render({ model, el }) {
  try {
    const view = new RunsView(model, el);
    return () => view.close();
  } catch (error) {
    el.append(
      h("pre", { role: "alert", class: "wb-crash" }, `The runs could not be drawn: ${error?.stack ?? error}`),
    );
    return () => {};
  }
}

export default { render };
