/** Text of a model as it may be shown: nothing invisible, nothing that turns its direction. */

// eslint-disable-next-line no-control-regex
const CONTROLS = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g;
const HIDDEN = /[\u061c\u200b\u202a-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]/g;
const TAGS = /[\udb40][\udc00-\udc7f]/g;

/**
 * Replace control characters by their pictures, and characters that hide or turn text by a sign.
 * The length in UTF-16 units stays.
 * @param {string} text
 * @returns {string}
 */
export function visible(text) {
  return String(text ?? "")
    .replace(CONTROLS, (c) => (c < " " ? String.fromCharCode(0x2400 + c.charCodeAt(0)) : "\ufffd"))
    .replace(HIDDEN, "\ufffd")
    .replace(TAGS, "\ufffd\ufffd");
}

/**
 * Return a link's address when it may be followed: http, https and mailto only.
 * @param {string} href
 * @returns {string|null}
 */
export function safeLink(href) {
  if (visible(href) !== href) return null;
  try {
    const url = new URL(href.trim());
    return ["http:", "https:", "mailto:"].includes(url.protocol) ? url.href : null;
  } catch {
    return null;
  }
}

/** Images that can be shown without asking anybody: raster types only, SVG can hold scripts. */
const RASTER = /^data:image\/(?:png|jpeg|gif|webp);base64,[A-Za-z0-9+/]+=*$/;

/**
 * @param {string} href
 * @returns {boolean}
 */
export function isRasterData(href) {
  return RASTER.test(href);
}

/** Escape text for HTML. */
export function escapeHtml(text) {
  return text.replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
}

const NUMBER = new Intl.NumberFormat("en-US");

/** A count with thousands parted: `12,345`. */
export function count(value) {
  return NUMBER.format(value);
}

/** A model's name as it is shown: without the tag that everybody has. */
export function shortName(name) {
  return String(name ?? "").replace(/:latest$/, "");
}

/** A message as it may be shown behind another sentence: a plain first word begins with a capital. */
export function sentence(text) {
  return visible(text).replace(/^[a-z]+(?=\s)/, (word) => word[0].toUpperCase() + word.slice(1));
}

/** Tokens per second for people: `9.6`, `48`, `6,682`. */
export function rate(value) {
  return value < 10 ? value.toFixed(1) : NUMBER.format(Math.round(value));
}

/** Seconds for people: `<0.01 s`, `0.42 s`, `12 s`, `3 min 5 s`. */
export function seconds(value) {
  if (value > 0 && value < 0.005) return "<0.01 s";
  if (value < 10) return `${value.toFixed(value < 1 ? 2 : 1)} s`;
  const whole = Math.round(value);
  if (whole < 60) return `${whole} s`;
  return `${Math.floor(whole / 60)} min ${whole % 60} s`;
}

/** Bytes for people, in powers of 1000: `1.2 GB`. */
export function bytes(value) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  let size = value;
  let unit = 0;
  for (; size >= 999.5 && unit < units.length - 1; unit += 1) size /= 1000;
  return `${unit && size < 10 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

/** Memory for people, in the powers of 1024 that cards are sold in: `4.6 GiB`. */
export function memory(value) {
  if (value === null || value === undefined) return "unknown";
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let size = value;
  let unit = 0;
  for (; Math.abs(size) >= 1023.5 && unit < units.length - 1; unit += 1) size /= 1024;
  return `${unit > 2 ? size.toFixed(1) : Math.round(size)} ${units[unit]}`;
}

/** How long ago, in words. */
export function ago(time) {
  const then = typeof time === "number" ? time * 1000 : Date.parse(time);
  if (!Number.isFinite(then)) return null;
  const minutes = Math.round((Date.now() - then) / 60000);
  if (minutes < 1) return "just now";
  if (minutes < 60) return `${minutes} min ago`;
  if (minutes < 24 * 60) return `${Math.round(minutes / 60)} h ago`;
  if (minutes < 7 * 24 * 60) return `${Math.round(minutes / 1440)} d ago`;
  return new Date(then).toLocaleDateString();
}
