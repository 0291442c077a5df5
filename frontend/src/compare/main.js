/** The widget of a comparison: anywidget calls `render`, which returns its cleanup. */
import { h } from "../view/dom.js";
import { CompareView } from "./panel.js";

/**
 * Draw the comparison of a widget model below `el`.
 * @param {{model: object, el: HTMLElement}} context
 * @returns {() => void}
 */
function render({ model, el }) {
  try {
    const view = new CompareView(model, el);
    return () => view.close();
  } catch (error) {
    el.append(
      h("pre", { role: "alert", class: "wb-crash" }, `The comparison could not be drawn: ${error?.stack ?? error}`),
    );
    return () => {};
  }
}

export default { render };
