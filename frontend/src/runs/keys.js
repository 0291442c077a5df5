/** The keyboard of the panel; nothing it handles reaches the notebook's shortcuts. */
import { keepEventsInside } from "../view/dom.js";

const FIELDS = "input, textarea, select";

/** Connect the keyboard of a panel. */
export function handleKeys(panel) {
  panel.root.addEventListener("keydown", (event) => onKey(panel, event));
  keepEventsInside(panel.root);
}

function onKey(panel, event) {
  if (event.defaultPrevented || event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "Escape") {
    event.preventDefault();
    back(panel);
  } else if (event.key === "n" && !panel.list.el.hidden && !event.target.closest(FIELDS)) {
    event.preventDefault();
    panel.openForm();
  }
}

/** Escape closes what is open last: a question, the step, the form, the run. */
function back(panel) {
  if (panel.page.dropQuestion() || panel.step.hide()) return;
  if (!panel.form.el.hidden) panel.form.back();
  else if (panel.openId !== null) panel.openRun(null);
}

/**
 * Move with the arrows through elements that follow each other; returns whether it did.
 * @param {KeyboardEvent} event
 * @param {HTMLElement[]} all
 */
export function moveAlong(event, all) {
  if (event.altKey || event.ctrlKey || event.metaKey) return false;
  const at = all.indexOf(event.target);
  if (at < 0) return false;
  const next = { ArrowDown: at + 1, ArrowUp: at - 1, Home: 0, End: all.length - 1 }[event.key];
  if (next === undefined) return false;
  event.preventDefault();
  rove(all, all[Math.min(Math.max(next, 0), all.length - 1)])?.focus();
  return true;
}

/** Let Tab stop at one of several elements; returns it. */
export function rove(all, one) {
  const wanted = one ?? all.find((el) => el.tabIndex === 0) ?? all[0];
  for (const el of all) el.tabIndex = el === wanted ? 0 : -1;
  return wanted;
}
