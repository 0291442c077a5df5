/** The only door through which HTML text becomes elements. */
import createDOMPurify from "dompurify";
import { safeLink } from "./text.js";

const TAGS = (
  "a p br hr h1 h2 h3 h4 h5 h6 strong em del code pre blockquote ul ol li " +
  "table thead tbody tr th td span"
).split(" ");
const ATTRIBUTES = ["href", "title", "class", "align", "start"];
/** Classes that our own renderers write; everything else is dropped. */
const CLASSES =
  /^(?:wb-(?:math|display|plain|remote-image|data-image)|language-[\w+#.-]{1,40}|hljs-[\w-]{1,40})$/;
const HIGHLIGHT_WORDS = new Set([
  "function_",
  "class_",
  "inherited__",
  "language_",
  "variable_",
  "constant_",
  "invoke__",
]);

const MATH_TAGS = (
  "math semantics mrow mi mn mo ms mspace mtext mfrac msqrt mroot mstyle merror mpadded mphantom " +
  "msub msup msubsup munder mover munderover mmultiscripts mprescripts none mtable mtr mtd menclose"
).split(" ");
const MATH_ATTRIBUTES = (
  "accent accentunder align class columnalign columnlines columnspacing depth display displaystyle fence " +
  "form frame height largeop linethickness lspace mathcolor mathsize mathvariant maxsize minsize " +
  "movablelimits notation rowalign rowlines rowspacing rspace scriptlevel separator stretchy style " +
  "symmetric voffset width"
).split(" ");
const MATH_STYLE =
  /^(?:color|padding|padding-(?:left|right|top|bottom)|margin|margin-(?:left|right)|text-align|math-style|math-depth|width|border-[a-z]+|border|display|background-color):[\w\s#.%+-]+$/;
const LONGEST_LENGTH = /\d{4,}|e\d/i;

/** Make a sanitiser for a window; each has its own so that nobody's hooks meet ours. */
function makePurifier() {
  const purify = createDOMPurify(window);
  purify.addHook("uponSanitizeAttribute", (_node, data) => {
    if (data.attrName === "class") data.attrValue = keptClasses(data.attrValue);
    if (data.attrName === "style") data.attrValue = keptStyle(data.attrValue);
    if (data.attrName === "href" && !safeLink(data.attrValue)) data.keepAttr = false;
    if (!data.attrValue && data.attrName !== "href") data.keepAttr = false;
  });
  purify.addHook("afterSanitizeAttributes", (node) => {
    if (node.nodeName !== "A" || !node.hasAttribute("href")) return;
    node.setAttribute("rel", "noopener noreferrer");
    node.setAttribute("target", "_blank");
    node.setAttribute("title", node.getAttribute("href"));
  });
  return purify;
}

function keptClasses(value) {
  const words = value.split(/\s+/);
  return words.filter((w) => CLASSES.test(w) || HIGHLIGHT_WORDS.has(w) || /^tml-[\w-]+$/.test(w)).join(" ");
}

function keptStyle(value) {
  const rules = value.split(";").map((rule) => rule.trim().replace(/\s*:\s*/, ":"));
  return rules
    .filter((rule) => MATH_STYLE.test(rule) && !LONGEST_LENGTH.test(rule.replace(/#\w+/, "")))
    .join(";");
}

let purifier = null;

function clean(html, config) {
  purifier ??= makePurifier();
  return purifier.sanitize(html, {
    RETURN_DOM_FRAGMENT: true,
    ALLOW_DATA_ATTR: false,
    ALLOW_ARIA_ATTR: false,
    ...config,
  });
}

/**
 * Turn HTML text into elements, leaving only what markdown can make.
 * @param {string} html
 * @returns {DocumentFragment}
 */
export function safeFragment(html) {
  return clean(html, { ALLOWED_TAGS: TAGS, ALLOWED_ATTR: ATTRIBUTES });
}

/**
 * Turn MathML text into elements, leaving only what formulas need.
 * @param {string} mathml
 * @returns {DocumentFragment}
 */
export function safeMath(mathml) {
  return clean(mathml, { ALLOWED_TAGS: MATH_TAGS, ALLOWED_ATTR: MATH_ATTRIBUTES });
}
