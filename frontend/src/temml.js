/** LaTeX to MathML. */
import temml from "temml";

/**
 * @param {string} source LaTeX without its dollars.
 * @param {boolean} display On a line of its own.
 * @returns {string} MathML, which the caller sanitises.
 */
export function toMathML(source, display) {
  return temml.renderToString(source, {
    displayMode: display,
    throwOnError: true,
    trust: false,
    strict: false,
    annotate: false,
    maxSize: [50, 100],
    maxExpand: 500,
  });
}
