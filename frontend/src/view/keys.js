/** The keyboard of the chat: nothing it handles reaches the notebook's shortcuts. */
import { keepEventsInside } from "./dom.js";

const EDITABLE = "input, textarea, select, button, a, summary, pre, [contenteditable]";
/** Connect the keyboard of a chat. */
export function handleKeys(chat) {
  const { root } = chat;
  root.addEventListener("keydown", (event) => onKey(chat, event));
  keepEventsInside(root);
}

function onKey(chat, event) {
  if (event.defaultPrevented || event.isComposing) return;
  if (event.key === "Escape") return escape(chat, event);
  if (event.altKey && (event.key === "ArrowUp" || event.key === "ArrowDown")) {
    event.preventDefault();
    chat.list.focusBy(event.key === "ArrowUp" ? -1 : 1);
    return;
  }
  if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest(EDITABLE)) return;
  const turn = chat.list.turnOf(event.target);
  const action =
    turn && { e: () => turn.edit?.(), r: () => turn.regenerate?.(), c: () => turn.copy?.() }[event.key];
  if (!action) return;
  event.preventDefault();
  action();
}

/** Escape closes what is open, else stops the answer. */
function escape(chat, event) {
  event.preventDefault();
  if (chat.header.closeMenus() || chat.composer.closeMenus() || chat.params.hide() || chat.chats.hide()) return;
  chat.stop();
}
