/**
 * Cut a growing markdown text into top-level blocks that never change once they are finished.
 *
 * The cut is made line by line, so a text that arrives in pieces gives the same blocks as the whole
 * text at once; only the block that is still open is drawn again.
 */

/** Longest block given to the markdown parser, in UTF-16 units; longer ones are cut or plain. */
export const LONGEST_BLOCK = 12000;
/** Longest piece of a text that is shown as it is. */
export const LONGEST_PLAIN = 8000;

const FENCE = /^( {0,3})(`{3,}|~{3,})([^\n]*)$/;
const LIST = /^ {0,3}(?:[-*+]|\d{1,9}[.)])(?:[ \t]|$)/;
/** A fence in an item of a list, also on the line that begins the item. */
const INNER_FENCE = /^[ \t]*(?:(?:[-*+]|\d{1,9}[.)])[ \t]+)*(`{3,}|~{3,})([^\n]*)$/;
const INDENTED = /^(?: {2}|\t)/;
const HEADING = /^ {0,3}#{1,6}(?:[ \t]|$)/;
const TABLE_RULE = /^[ \t|:-]+$/;

/**
 * @typedef {object} Block
 * @property {"markdown"|"code"|"plain"} kind
 * @property {string} text Source of the block; of code without its fences.
 * @property {string} lang Language of code, as written.
 * @property {boolean} open More may come.
 */

/** The state of the cut between two lines. */
class Cutter {
  constructor(emit) {
    this.emit = emit;
    this.lines = [];
    this.size = 0;
    this.blank = false;
    this.list = false;
    /** @type {{mark: string, indent: number, lang: string, text: string}|null} */
    this.fence = null;
    /** @type {{mark: string, indent: number, lang: string}|null} The fence of an item of the list. */
    this.inner = null;
  }

  /** Return a copy that emits elsewhere, to try a line that is not complete. */
  fork(emit) {
    const copy = new Cutter(emit);
    Object.assign(copy, this, { emit, lines: [...this.lines] });
    if (this.fence) copy.fence = { ...this.fence };
    return copy;
  }

  line(line) {
    if (this.fence) return this.#inFence(line);
    if (line.length > LONGEST_BLOCK) return this.#giant(line);
    if (this.inner && this.#inInner(line)) return undefined;
    if (!line.trim()) {
      this.blank = this.lines.length > 0;
      return undefined;
    }
    if (this.blank && !(this.list && (LIST.test(line) || INDENTED.test(line)))) this.close();
    const fence = FENCE.exec(line);
    if (fence && this.#opens(fence)) return this.#open(fence);
    if (HEADING.test(line)) this.close();
    this.#add(line);
    if (HEADING.test(line)) this.close();
    return undefined;
  }

  /** A fence of backticks has none in its info; indented below a list item it is part of the list. */
  #opens([, indent, mark, info]) {
    return !(mark[0] === "`" && info.includes("`")) && !(this.list && indent.length >= 2);
  }

  #open([, indent, mark, info]) {
    this.close();
    this.fence = { mark, indent: indent.length, lang: info.trim().split(/\s+/)[0], text: "" };
  }

  #inFence(line) {
    const { mark, indent } = this.fence;
    const end = FENCE.exec(line);
    if (end && end[2][0] === mark[0] && end[2].length >= mark.length && !end[3].trim()) {
      this.emit({ kind: "code", text: this.fence.text, lang: this.fence.lang, open: false });
      this.fence = null;
      return;
    }
    this.fence.text += stripIndent(line, indent) + "\n";
  }

  /** Code of a list's item is no markdown; an item, and so its code, ends where nothing is indented. */
  #inInner(line) {
    if (line.trim() && !INDENTED.test(line)) {
      this.inner = null;
      return false;
    }
    const { mark, indent, lang } = this.inner;
    const rest = line.trim();
    const closes = rest.length >= mark.length && rest === mark[0].repeat(rest.length);
    if (!closes && this.size + line.length > LONGEST_BLOCK) {
      this.close();
      this.fence = { mark, indent, lang, text: stripIndent(line, indent) + "\n" };
      return true;
    }
    if (closes) this.inner = null;
    this.#push(line);
    return true;
  }

  #giant(line) {
    this.close();
    for (const text of pieces(line, LONGEST_PLAIN)) {
      this.emit({ kind: "plain", text, lang: "", open: false });
    }
  }

  #add(line) {
    if (this.size + line.length > LONGEST_BLOCK) {
      const head = this.#tableHead();
      this.close();
      if (head) head.forEach((row) => this.#push(row));
    }
    if (this.lines.length && this.blank) this.#push("");
    this.blank = false;
    this.list ||= LIST.test(line);
    this.#push(line);
    if (this.list) this.inner = innerFence(line);
  }

  #push(line) {
    this.lines.push(line);
    this.size += line.length + 1;
  }

  /** A long table goes on under the same head. */
  #tableHead() {
    const [first, second] = this.lines;
    return second?.includes("-") && first.includes("|") && TABLE_RULE.test(second) ? [first, second] : null;
  }

  /** End the open paragraph, list or table. */
  close(open = false) {
    if (this.lines.length) {
      this.emit({ kind: "markdown", text: this.lines.join("\n"), lang: "", open });
    }
    this.lines = [];
    this.size = 0;
    this.blank = this.list = false;
    this.inner = null;
  }

  /** End everything, at the end of the text that is there. */
  finish(open) {
    this.close(open);
    if (this.fence) {
      this.emit({ kind: "code", text: this.fence.text, lang: this.fence.lang, open });
      this.fence = null;
    }
  }
}

function innerFence(line) {
  const [, mark, info] = INNER_FENCE.exec(line) ?? [];
  if (!mark || (mark[0] === "`" && info.includes("`"))) return null;
  return { mark, indent: line.indexOf(mark), lang: info.trim().split(/\s+/)[0] };
}

function stripIndent(line, indent) {
  let cut = 0;
  while (cut < indent && line[cut] === " ") cut += 1;
  return line.slice(cut);
}

/**
 * Cut a text into pieces of at most `size` units that part no surrogate pair.
 * @param {string} text
 * @param {number} size
 * @returns {string[]}
 */
export function pieces(text, size) {
  const found = [];
  for (let start = 0; start < text.length; ) {
    let end = Math.min(start + size, text.length);
    const last = text.charCodeAt(end - 1);
    if (end < text.length && last >= 0xd800 && last <= 0xdbff) end += 1;
    found.push(text.slice(start, end));
    start = end;
  }
  return found;
}

/** Blocks of a text that grows. */
export class BlockStream {
  constructor() {
    this.text = "";
    /** @type {Block[]} Finished blocks; they never change. */
    this.done = [];
    this.cutter = new Cutter((block) => this.done.push(block));
    /** Where the first line begins that is not complete. */
    this.start = 0;
  }

  /**
   * Take the whole text as it is now; it must begin with what was taken before.
   * @param {string} text
   * @param {boolean} [ended] Nothing more will come.
   * @returns {Block[]} What follows the finished blocks: the tail that is drawn anew.
   */
  update(text, ended = false) {
    for (let end; (end = text.indexOf("\n", this.start)) >= 0; this.start = end + 1) {
      this.cutter.line(text.slice(this.start, end).replace(/\r$/, ""));
    }
    this.text = text;
    const tail = [];
    const fork = this.cutter.fork((block) => tail.push(block));
    const rest = text.slice(this.start);
    if (rest) this.#rest(fork, rest, ended);
    fork.finish(!ended);
    return tail;
  }

  /** A line that is being written is drawn as if it were complete, but code gets no newline. */
  #rest(fork, rest, ended) {
    const inFence = Boolean(fork.fence);
    fork.line(rest.replace(/\r$/, ""));
    if (inFence && fork.fence && !ended) fork.fence.text = fork.fence.text.slice(0, -1);
  }

  /** Whether `text` is the old text with more at its end. */
  continues(text) {
    return text.length >= this.text.length && text.startsWith(this.text);
  }
}

/**
 * Cut a whole text.
 * @param {string} text
 * @returns {Block[]}
 */
export function cut(text) {
  const stream = new BlockStream();
  const tail = stream.update(text, true);
  return [...stream.done, ...tail];
}
