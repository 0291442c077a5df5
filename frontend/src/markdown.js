/**
 * Markdown of a model to HTML text, without a DOM.
 *
 * HTML in the markdown is not interpreted, it is shown as text; references are not resolved, since
 * a definition that comes later would change blocks that are finished.  What comes out still passes
 * the sanitiser.
 */
import { Marked } from "marked";
import { escapeHtml, isRasterData, safeLink, visible } from "./text.js";

const LONGEST_MATH = 2000;
/** The parser takes time by the square of these; more than this many are noise, or an attack. */
const MOST_MARKS = 1000;
const INLINE_MATH = [
  [/^\$\$([^$\n]+(?:\n[^$\n]+)*)\$\$/, true],
  [/^\\\[([^\n]*?(?:\n[^\n]+)*?)\\\]/, true],
  [/^\\\(([^\n]*?)\\\)/, false],
  [/^\$(?![\s$])((?:\\[^\n]|[^$\\\n])*?[^\s\\$])\$(?![\d$])/, false],
];
const DISPLAY_MATH = /^ {0,3}(?:\$\$([^$]+?)\$\$|\\\[([^]+?)\\\])[ \t]*(?:\n|$)/;

/** HTML of a formula until it is drawn: its source, which math.js finds by its class. */
function mathHtml(source, display) {
  return `<code class="wb-math${display ? " wb-display" : ""}">${escapeHtml(source.trim())}</code>`;
}

function mathToken(type, match, source, display) {
  return source.length > LONGEST_MATH ? undefined : { type, raw: match[0], source, display };
}

const inlineMath = {
  name: "mathInline",
  level: "inline",
  start: (src) => nextOf(src, /\$|\\[([]/),
  tokenizer(src) {
    if (src[0] !== "$" && src[0] !== "\\") return undefined;
    const head = src.slice(0, LONGEST_MATH + 4);
    for (const [rule, display] of INLINE_MATH) {
      const match = rule.exec(head);
      if (match) return mathToken("mathInline", match, match[1], display);
    }
    return undefined;
  },
  renderer: (token) => mathHtml(token.source, token.display),
};

const displayMath = {
  name: "mathBlock",
  level: "block",
  start: (src) => nextOf(src, /(?:^|\n) {0,3}(?:\$\$|\\\[)/),
  tokenizer(src) {
    const match = DISPLAY_MATH.exec(src.slice(0, LONGEST_MATH + 8));
    return match ? mathToken("mathBlock", match, match[1] ?? match[2], true) : undefined;
  },
  renderer: (token) => `<p>${mathHtml(token.source, true)}</p>`,
};

function nextOf(src, pattern) {
  const at = src.search(pattern);
  return at < 0 ? undefined : at;
}

const renderer = {
  html: ({ text }) => escapeHtml(text),
  code({ text, lang }) {
    const name = (lang ?? "").split(/\s+/)[0].replace(/[^\w+#.-]/g, "");
    return `<pre><code${name ? ` class="language-${name}"` : ""}>${escapeHtml(text)}</code></pre>`;
  },
  checkbox: ({ checked }) => (checked ? "☑ " : "☐ "),
  link({ href, tokens }) {
    const label = this.parser.parseInline(tokens);
    const url = safeLink(href);
    return url ? `<a href="${escapeHtml(url)}">${label}</a>` : `${label} (${escapeHtml(href)})`;
  },
  image({ href, text }) {
    const name = escapeHtml(text);
    if (isRasterData(href)) return `<span class="wb-data-image" title="${href}">${name}</span>`;
    const url = safeLink(href);
    if (!url || url.startsWith("mailto:")) return `${name} (${escapeHtml(href)})`;
    return `<span class="wb-remote-image" title="${escapeHtml(url)}">${name}</span>`;
  },
};

const none = () => undefined;
const marked = new Marked({ gfm: true });
marked.use({ tokenizer: { html: none, tag: none, def: none, reflink: none }, renderer });
marked.use({ extensions: [inlineMath, displayMath] });

/**
 * Return the HTML of one block of markdown; it must pass the sanitiser before it is shown.
 * @param {string} source
 * @returns {string}
 */
export function toHtml(source) {
  const text = visible(source);
  if ((text.match(/[`*_[<>$~!@\\]/g)?.length ?? 0) > MOST_MARKS) {
    return `<p class="wb-plain">${escapeHtml(text)}</p>`;
  }
  try {
    return marked.parse(text);
  } catch {
    return `<p>${escapeHtml(text)}</p>`;
  }
}
