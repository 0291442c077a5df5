/** Small helpers to make elements; text enters by textContent only. */

import { visible } from "../text.js";

const SVG = "http://www.w3.org/2000/svg";
const ICONS = {
  menu: "M4 6h16M4 12h16M4 18h10",
  plus: "M12 5v14M5 12h14",
  sliders: "M4 7h9M17 7h3M4 17h3M11 17h9M15 4.5v5M9 14.5v5",
  download: "M12 4v11M7 11l5 5 5-5M5 20h14",
  send: "M12 19V5M6 11l6-6 6 6",
  stop: "M7 7h10v10H7z",
  copy: "M9 9h10v11H9zM5 15V4h10",
  check: "M5 12.5l4.5 4.5L19 7.5",
  redo: "M19 12a7 7 0 1 1-2.2-5.1M19 4v4h-4",
  edit: "M5 19l1-4L16.5 4.5l3 3L9 18z",
  trash: "M5 7h14M10 7V4.5h4V7M7 7l1 13h8l1-13",
  cell: "M4 5h16v14H4zM8 10l3 2.5L8 15M13 15h4",
  left: "M14.5 6l-6 6 6 6",
  right: "M9.5 6l6 6-6 6",
  down: "M12 5v14M6 13l6 6 6-6",
  close: "M6 6l12 12M18 6L6 18",
  chevron: "M7 10l5 5 5-5",
  clip: "M19 11l-7.5 7.5a4.5 4.5 0 0 1-6.4-6.4L13 4.3a3 3 0 0 1 4.3 4.3L9.6 16.2a1.5 1.5 0 0 1-2.1-2.1L14 7.6",
  search: "M11 5a6 6 0 1 0 0 12 6 6 0 0 0 0-12zM15.5 15.5L20 20",
  tool: "M14 7a4 4 0 0 0 5 5l-8 8a2.1 2.1 0 0 1-3-3l8-8M14 7l3-3",
  image: "M4 5h16v14H4zM4 16l5-5 4 4 3-3 4 4M15.5 9h.01",
  file: "M7 3h7l4 4v14H7zM14 3v5h4",
  pin: "M9 4h6l-1 6 3 3v2H7v-2l3-3zM12 15v5",
  dots: "M6 12h.01M12 12h.01M18 12h.01",
  play: "M8 5.5v13l10-6.5z",
  pause: "M8.5 6v12M15.5 6v12",
  skip: "M6 6l8 6-8 6zM18 6v12",
  mute: "M5 10v4h3l5 4V6L8 10zM17 10l4 4M21 10l-4 4",
  back: "M9 7l-5 5 5 5M4 12h10a6 6 0 0 1 6 6",
  branch: "M6 4v16M6 14c8 0 11-2 11-7M13.5 9.5L17 6l3.5 3.5",
  thread: "M5 7h14M5 12h14M5 17h9",
  lanes: "M5 5h5v14H5zM14 5h5v14h-5z",
  warn: "M12 4.5L21 19.5H3zM12 10v4.5M12 17h.01",
};

/**
 * Make an element.
 * @param {string} tag
 * @param {object} [props] `class`, `on` (listeners), `data`, attributes; false and null are left out.
 * @param {...(Node|string|null|false|undefined)} children
 * @returns {HTMLElement}
 */
export function h(tag, props = {}, ...children) {
  const el = document.createElement(tag);
  for (const [name, value] of Object.entries(props)) {
    if (value === null || value === undefined || value === false) continue;
    if (name === "class") el.className = value;
    else if (name === "on") for (const [type, fn] of Object.entries(value)) el.addEventListener(type, fn);
    else if (name === "value") el.value = value;
    else el.setAttribute(name, value === true ? "" : value);
  }
  el.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return el;
}

/** What a message says, safe to show: what stands between backticks is code. */
export function prose(text) {
  return visible(text)
    .split(/`([^`\n]+)`/)
    .map((part, at) => (at % 2 ? h("code", {}, part) : part));
}

/** Make an icon; it says nothing to a screen reader. */
export function icon(name) {
  const svg = document.createElementNS(SVG, "svg");
  for (const [key, value] of Object.entries({
    viewBox: "0 0 24 24",
    class: "wb-icon",
    "aria-hidden": "true",
  })) {
    svg.setAttribute(key, value);
  }
  const path = document.createElementNS(SVG, "path");
  path.setAttribute("d", ICONS[name]);
  svg.append(path);
  return svg;
}

/** Make a button with an icon; its label is what tests and screen readers find. */
export function iconButton(name, label, onClick, props = {}) {
  return h(
    "button",
    {
      type: "button",
      "aria-label": label,
      title: label,
      ...props,
      class: `wb-ib ${props.class ?? ""}`,
      on: { click: onClick },
    },
    icon(name),
  );
}

/** Make a button with words. */
export function textButton(label, onClick, props = {}) {
  const { text, ...rest } = props;
  return h(
    "button",
    {
      type: "button",
      "aria-label": label,
      ...rest,
      class: `wb-tb ${rest.class ?? ""}`,
      on: { click: onClick },
    },
    text ?? label,
  );
}

/** Set text only when it differs: a new node would end a selection. */
export function setText(el, text) {
  if (el.textContent !== text) el.textContent = text;
}

/** Show or hide an element. */
export function show(el, visible) {
  if (el.hidden === visible) el.hidden = !visible;
}

const KEPT_EVENTS = [
  "keydown",
  "keyup",
  "keypress",
  "paste",
  "drop",
  "dragover",
  "dragenter",
  "dragleave",
  "copy",
  "cut",
];

/** Let nothing that happens in a panel reach the notebook's shortcuts. */
export function keepEventsInside(root) {
  for (const type of KEPT_EVENTS) root.addEventListener(type, (event) => event.stopPropagation());
}

/**
 * Copy text; where the page may not, through a selection.
 * @param {string} text
 * @returns {Promise<boolean>} Whether it is on the clipboard.
 */
export async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h("textarea", { value: text, class: "wb-offscreen", "aria-hidden": "true" });
    document.body.append(area);
    area.select();
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

/** Show on a button for a moment that it did its work. */
export function flash(button, name, label) {
  const [old, oldLabel] = [[...button.childNodes], button.getAttribute("aria-label")];
  if (button.dataset.flash) return;
  button.dataset.flash = "1";
  button.replaceChildren(icon(name));
  button.setAttribute("aria-label", label);
  setTimeout(() => {
    button.replaceChildren(...old);
    button.setAttribute("aria-label", oldLabel);
    delete button.dataset.flash;
  }, 1400);
}
