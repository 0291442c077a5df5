/** What the sanitiser leaves of a formula; part of the late module, as formulas are. */

export const MATH_TAGS = (
  "math semantics mrow mi mn mo ms mspace mtext mfrac msqrt mroot mstyle merror mpadded mphantom " +
  "msub msup msubsup munder mover munderover mmultiscripts mprescripts none mtable mtr mtd menclose"
).split(" ");
export const MATH_ATTRIBUTES = (
  "accent accentunder align class columnalign columnlines columnspacing depth display displaystyle fence " +
  "form frame height largeop linethickness lspace mathcolor mathsize mathvariant maxsize minsize " +
  "movablelimits notation rowalign rowlines rowspacing rspace scriptlevel separator stretchy style " +
  "symmetric voffset width"
).split(" ");
const MATH_STYLE =
  /^(?:color|padding|padding-(?:left|right|top|bottom)|margin|margin-(?:left|right)|text-align|math-style|math-depth|width|border-[a-z]+|border|display|background-color):[\w\s#.%+-]+$/;
const LONGEST_LENGTH = /\d{4,}|e\d/i;

/** Return the rules of a `style` that may stay. */
export function mathStyle(value) {
  const rules = value.split(";").map((rule) => rule.trim().replace(/\s*:\s*/, ":"));
  return rules
    .filter((rule) => MATH_STYLE.test(rule) && !LONGEST_LENGTH.test(rule.replace(/#\w+/, "")))
    .join(";");
}
