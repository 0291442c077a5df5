/** What is loaded late: formulas and the colours of code, when a text has its first of either. */
export { colour } from "./highlight.js";
export { toMathML } from "./temml.js";
export * from "./mathrules.js";
