/** The keyboard of a panel with lanes: nothing it handles reaches the notebook's shortcuts. */
import { keepEventsInside } from "../view/dom.js";

/**
 * Connect the keyboard.
 * @param {HTMLElement} root
 * @param {{lanes: import("./lanes.js").Lanes, escape: () => void,
 *   key?: (event: KeyboardEvent) => boolean}} panel `key` takes what the panel knows by itself.
 */
export function laneKeys(root, panel) {
  root.addEventListener("keydown", (event) => {
    if (event.defaultPrevented || event.isComposing) return;
    if (take(event, panel) || panel.key?.(event)) event.preventDefault();
  });
  keepEventsInside(root);
}

function take(event, panel) {
  if (event.key === "Escape") {
    panel.escape();
    return true;
  }
  if (!event.altKey || event.ctrlKey || event.metaKey) return false;
  const moves = {
    ArrowUp: () => panel.lanes.focusBy(-1),
    ArrowDown: () => panel.lanes.focusBy(1),
    ArrowLeft: () => panel.lanes.focusLane(-1),
    ArrowRight: () => panel.lanes.focusLane(1),
  };
  moves[event.key]?.();
  return event.key in moves;
}
