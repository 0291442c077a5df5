/** The only door through which HTML text becomes elements. */
import createDOMPurify from "dompurify/purify.min.js";
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

let purifier = null;
/** What may stand in `style`: nothing, until the rules of formulas are there. */
let keptStyle = () => "";

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
 * @param {import("./mathrules.js")} rules They come with the late module: without it there is no formula.
 * @returns {DocumentFragment}
 */
export function safeMath(mathml, { MATH_TAGS, MATH_ATTRIBUTES, mathStyle }) {
  keptStyle = mathStyle;
  return clean(mathml, { ALLOWED_TAGS: MATH_TAGS, ALLOWED_ATTR: MATH_ATTRIBUTES });
}
