/** A sign for each state, told apart by its shape. */
import { stateOf, STEPS } from "./words.js";

const SVG = "http://www.w3.org/2000/svg";
const ROUND = "M12 3.5a8.5 8.5 0 1 0 0 17 8.5 8.5 0 0 0 0-17z";
const SIGNS = {
  pending: [ROUND],
  running: ["M12 3.5a8.5 8.5 0 1 1-8.5 8.5"],
  retry: ["M19 12a7 7 0 1 1-2.2-5.1M19 4v4h-4"],
  ask: [ROUND, "M9.6 9.8a2.5 2.5 0 1 1 3.7 2.2c-.9.5-1.3 1-1.3 1.9M12 16.8h.01"],
  answered: ["M4 5.5h16v11h-9l-4 3.5v-3.5H4z", "M8.5 11l2.5 2.3L15.5 9"],
  done: ["M5 12.5l4.5 4.5L19 7.5"],
  cached: ["M4 13l4 4 7-8.5M12.5 16l1 1 7-8.5"],
  kept: ["M5 10.5l4.5 4.5L19 5.5M5 20h14"],
  failed: [ROUND, "M9 9l6 6M15 9l-6 6"],
  blocked: [ROUND, "M6 18L18 6"],
  skipped: ["M5 6.5l7 5.5-7 5.5zM13 6.5l7 5.5-7 5.5z"],
  cancelled: [ROUND, "M9.5 9.5h5v5h-5z"],
  lost: ["M12 4.5L21 19.5H3zM12 10v4.5M12 17h.01"],
};

/** Make the sign of a state; it says nothing to a screen reader, the word beside it does. */
export function glyph(name, kind) {
  const svg = document.createElementNS(SVG, "svg");
  const attributes = { viewBox: "0 0 24 24", class: "wb-icon wbr-glyph", "aria-hidden": "true", "data-kind": kind, "data-glyph": name };
  for (const [key, value] of Object.entries(attributes)) svg.setAttribute(key, value);
  for (const d of SIGNS[name] ?? SIGNS.pending) {
    const path = document.createElementNS(SVG, "path");
    path.setAttribute("d", d);
    svg.append(path);
  }
  return svg;
}

/** Make the sign of a step's or a run's state. */
export function stateGlyph(status, table = STEPS) {
  const { kind, glyph: name } = stateOf(table, status);
  return glyph(name, kind);
}
