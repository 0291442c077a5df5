/** The keyboard of the panel; nothing it handles reaches the notebook's shortcuts. */
import { keepEventsInside } from "../view/dom.js";

const EDITABLE = "input, textarea, select, button, a, summary, [contenteditable]";

/** Connect the keyboard of a panel. */
export function handleKeys(panel) {
  panel.root.addEventListener("keydown", (event) => onKey(panel, event));
  keepEventsInside(panel.root);
}

function onKey(panel, event) {
  if (event.defaultPrevented || event.isComposing) return;
  if (event.key === "Escape") return escape(panel, event);
  const arrow = { ArrowDown: 1, ArrowUp: -1 }[event.key];
  const inField = event.target.closest(EDITABLE);
  if (arrow && (event.altKey || !inField)) return done(event, () => panel.list.focusBy(arrow));
  if (inField || event.ctrlKey || event.metaKey || event.altKey) return;
  if (event.key === "/") return done(event, () => panel.head.search.focus());
  const row = panel.list.rowOf(event.target);
  if (!row || panel.gone) return;
  if (/^[0-9]$/.test(event.key)) return done(event, () => row.prefer({ priority: Number(event.key) }));
  const action = {
    Enter: () => row.loadOrUnload(),
    l: () => !row.unloads && row.loadOrUnload(),
    u: () => row.unloads && row.loadOrUnload(),
    p: () => row.togglePin(),
    Delete: () => !row.row.unlisted && row.strip.askDelete(),
    Home: () => panel.list.focusBy(-Infinity),
    End: () => panel.list.focusBy(Infinity),
  }[event.key];
  if (action) done(event, action);
}

function done(event, action) {
  event.preventDefault();
  action();
}

/** Escape closes what is open, else empties the search, else leaves the row. */
function escape(panel, event) {
  event.preventDefault();
  for (const row of panel.list.rows.values()) if (row.menu.hide()) return;
  if (panel.settings.hide() || panel.get.hide()) return;
  panel.head.clear();
}
