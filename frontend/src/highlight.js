/** Colours for code: a small set of languages; what they write still passes the sanitiser. */
import hljs from "highlight.js/lib/core";
import bash from "highlight.js/lib/languages/bash";
import cpp from "highlight.js/lib/languages/cpp";
import javascript from "highlight.js/lib/languages/javascript";
import json from "highlight.js/lib/languages/json";
import markdown from "highlight.js/lib/languages/markdown";
import python from "highlight.js/lib/languages/python";
import r from "highlight.js/lib/languages/r";
import rust from "highlight.js/lib/languages/rust";
import sql from "highlight.js/lib/languages/sql";
import { visible } from "./text.js";

const LANGUAGES = { bash, cpp, javascript, json, markdown, python, r, rust, sql };
for (const [name, rules] of Object.entries(LANGUAGES)) hljs.registerLanguage(name, rules);
hljs.registerAliases(["c", "h"], { languageName: "cpp" });
hljs.registerAliases(["ts", "typescript"], { languageName: "javascript" });
hljs.registerAliases(["python3", "ipython"], { languageName: "python" });

/** Longer code stays plain: colouring it would hold up the page. */
export const LONGEST_COLOURED = 20000;
const LONGEST_LINE = 2000;

/**
 * Return the HTML of coloured code, or null when it stays plain.
 * @param {string} code
 * @param {string} lang
 * @returns {string|null}
 */
export function colour(code, lang) {
  if (!lang || code.length > LONGEST_COLOURED || !hljs.getLanguage(lang)) return null;
  if (code.split("\n").some((line) => line.length > LONGEST_LINE)) return null;
  return hljs.highlight(visible(code), { language: lang, ignoreIllegals: true }).value;
}
