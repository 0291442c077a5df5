/** The widget of the models panel: anywidget calls `render`, which returns its cleanup. */
import { h } from "../view/dom.js";
import { PanelView } from "./panel.js";

/**
 * Draw the panel of a widget model below `el`.
 * @param {{model: object, el: HTMLElement}} context
 * @returns {() => void}
 */
function render({ model, el }) {
  try {
    const view = new PanelView(model, el);
    return () => view.close();
  } catch (error) {
    el.append(
      h("pre", { role: "alert", class: "wb-crash" }, `The panel could not be drawn: ${error?.stack ?? error}`),
    );
    return () => {};
  }
}

export default { render };
