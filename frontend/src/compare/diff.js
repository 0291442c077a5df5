/** What differs between two texts, word by word: Myers' greedy algorithm, kept within bounds. */

const WORD = /\s+|[\p{L}\p{N}_]+|[^\s\p{L}\p{N}_]/gu;
/** Beyond so many edits two texts have little in common, and finding it would hold up the page. */
export const MOST_EDITS = 1200;

/** @typedef {{op: "same"|"left"|"right", text: string}} Part */

/** Cut a text into words, spaces and signs; together they are the text. */
export function wordsOf(text) {
  return text.match(WORD) ?? [];
}

/**
 * Return the parts of two texts, in order; those without `right` are the left text, and the reverse.
 * @param {string} left
 * @param {string} right
 * @returns {Part[]}
 */
export function diff(left, right) {
  const [a, b] = [wordsOf(left), wordsOf(right)];
  let start = 0;
  while (start < a.length && start < b.length && a[start] === b[start]) start += 1;
  let end = 0;
  while (end < a.length - start && end < b.length - start && a.at(-1 - end) === b.at(-1 - end)) end += 1;
  const [inA, inB] = [a.slice(start, a.length - end), b.slice(start, b.length - end)];
  const middle = edits(inA, inB) ?? replaced(inA, inB);
  const same = (words) => words.map((text) => ({ op: "same", text }));
  return joined(calm([...same(a.slice(0, start)), ...middle, ...same(a.slice(a.length - end))]));
}

function replaced(a, b) {
  return [...a.map((text) => ({ op: "left", text })), ...b.map((text) => ({ op: "right", text }))];
}

/** The shortest way from one list of words to the other; null when it is too long. */
function edits(a, b) {
  const most = Math.min(MOST_EDITS, a.length + b.length);
  const size = 2 * most + 1;
  const reach = new Int32Array(size + 2);
  const trace = [];
  for (let d = 0; d <= most; d += 1) {
    trace.push(reach.slice(most - d, most + d + 2));
    for (let k = -d; k <= d; k += 2) {
      const down = k === -d || (k !== d && reach[most + k - 1] < reach[most + k + 1]);
      let x = down ? reach[most + k + 1] : reach[most + k - 1] + 1;
      while (x < a.length && x - k < b.length && a[x] === b[x - k]) x += 1;
      reach[most + k] = x;
      if (x >= a.length && x - k >= b.length) return walkBack(a, b, trace, d);
    }
  }
  return null;
}

/** Follow the reaches of each round back to the beginning. */
function walkBack(a, b, trace, last) {
  const found = [];
  let [x, y] = [a.length, b.length];
  for (let d = last; d > 0; d -= 1) {
    // `trace[d]` holds the diagonals -d to d + 1 as they were before round d.
    const at = (k) => trace[d][k + d] ?? -1;
    const k = x - y;
    const down = k === -d || (k !== d && at(k - 1) < at(k + 1));
    const before = down ? k + 1 : k - 1;
    const fromX = at(before);
    const fromY = fromX - before;
    while (x > fromX && y > fromY && x > 0 && y > 0 && a[x - 1] === b[y - 1]) {
      found.push({ op: "same", text: a[(x -= 1)] });
      y -= 1;
    }
    if (down) found.push({ op: "right", text: b[(y -= 1)] });
    else found.push({ op: "left", text: a[(x -= 1)] });
  }
  while (x > 0) {
    found.push({ op: "same", text: a[(x -= 1)] });
  }
  return found.reverse();
}

/** A lone space between two changed words is changed with them: a phrase reads better than words. */
function calm(parts) {
  const found = [];
  parts.forEach((part, index) => {
    const blank = part.op === "same" && part.text.trim() === "";
    const around = [found.at(-1)?.op, parts[index + 1]?.op];
    if (blank && around.every((op) => op && op !== "same") && !part.text.includes("\n"))
      found.push({ op: "left", text: part.text }, { op: "right", text: part.text });
    else found.push(part);
  });
  return found;
}

/** Put neighbours of one kind together; between two same parts the left ones come first. */
function joined(parts) {
  const found = [];
  let run = { left: "", right: "" };
  const flush = () => {
    for (const op of ["left", "right"]) if (run[op]) found.push({ op, text: run[op] });
    run = { left: "", right: "" };
  };
  for (const { op, text } of parts) {
    if (op !== "same") {
      run[op] += text;
      continue;
    }
    flush();
    if (found.at(-1)?.op === "same") found.at(-1).text += text;
    else found.push({ op, text });
  }
  flush();
  return found;
}

/** How many words two texts share, and how many are in one only. */
export function countsOf(parts) {
  const counts = { same: 0, left: 0, right: 0 };
  for (const { op, text } of parts) counts[op] += wordsOf(text).filter((word) => /[\p{L}\p{N}]/u.test(word)).length;
  return counts;
}
