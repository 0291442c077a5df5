/** The widget: anywidget calls `render`, which returns its cleanup. */
import { ChatView } from "./view/chat.js";
import { h } from "./view/dom.js";

/**
 * Draw the chat of a widget model below `el`.
 * @param {{model: object, el: HTMLElement}} context
 * @returns {() => void}
 */
function render({ model, el }) {
  try {
    const view = new ChatView(model, el);
    return () => view.close();
  } catch (error) {
    el.append(
      h("pre", { role: "alert", class: "wb-crash" }, `The chat could not be drawn: ${error?.stack ?? error}`),
    );
    return () => {};
  }
}

export default { render };
