/**
 * The time of a run on a line.  Hours in which nothing was at work - it waited for a person, or lay
 * there until it was resumed - are folded, so that the work can be seen.  Pure.
 */

/** What is shorter than this part of the work is not folded. */
const FOLD_PART = 0.2;
const FOLD_S = 5;
/** A fold takes this part of the line. */
const FOLD_WIDTH = 0.045;
/** Nor is a label written so near to a fold's own. */
const LABEL_WIDTH = 0.03;
const NICE_S = [0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 28800, 86400];

/**
 * @typedef {object} Scale
 * @property {(at: number) => number} place Where a moment lies, from 0 to 1.
 * @property {{at: number, seconds: number}[]} folds
 * @property {{at: number, text: number}[]} ticks Seconds of work since the beginning.
 * @property {number} work Seconds in which something was at work.
 */

/**
 * Return the scale for the spans of all steps.
 * @param {{at: number, to: number|null, kind: string}[]} spans
 * @param {number} now
 * @returns {Scale}
 */
export function scaleOf(spans, now) {
  const busy = merged(spans.filter(({ kind }) => kind !== "waiting").map(({ at, to }) => [at, to ?? now]));
  const from = Math.min(...spans.map(({ at }) => at), now);
  const until = Math.max(...spans.map(({ at, to }) => to ?? (at > now ? at : now)), from);
  if (!busy.length) busy.push([from, from]);
  const pieces = between(busy, from, until);
  const work = pieces.filter(({ idle }) => !idle).reduce((sum, piece) => sum + piece.to - piece.at, 0);
  const limit = Math.max(FOLD_S, work * FOLD_PART);
  const folded = pieces.filter((piece) => (piece.fold = piece.idle && piece.to - piece.at > limit));
  const plain = pieces.filter((piece) => !piece.fold).reduce((sum, piece) => sum + piece.to - piece.at, 0);
  const share = Math.min(0.5, folded.length * FOLD_WIDTH);
  const width = (piece) => (piece.fold ? share / folded.length : ((piece.to - piece.at) / (plain || 1)) * (1 - share));
  let left = 0;
  for (const piece of pieces) {
    piece.left = left;
    piece.width = width(piece);
    left += piece.width;
  }
  const place = (at) => {
    const piece = pieces.find(({ to }) => at <= to) ?? pieces.at(-1);
    if (!piece) return 0;
    const part = piece.to > piece.at ? (at - piece.at) / (piece.to - piece.at) : 0;
    return Math.min(1, Math.max(0, piece.left + Math.min(1, Math.max(0, part)) * piece.width));
  };
  return {
    place,
    folds: folded.map((piece) => ({ at: piece.left + piece.width / 2, width: piece.width, seconds: piece.to - piece.at })),
    ticks: ticks(pieces, plain).filter(({ at }) => !folded.some((piece) => at > piece.left - LABEL_WIDTH && at < piece.left + piece.width + LABEL_WIDTH)),
    work,
  };
}

/** Join spans that touch. */
function merged(spans) {
  const sorted = spans.sort((a, b) => a[0] - b[0]);
  const found = [];
  for (const [at, to] of sorted) {
    const last = found.at(-1);
    if (last && at <= last[1]) last[1] = Math.max(last[1], to);
    else found.push([at, to]);
  }
  return found;
}

/** The whole time, cut where work begins and ends. */
function between(busy, from, until) {
  const pieces = [];
  let at = from;
  for (const [start, end] of busy) {
    if (start > at) pieces.push({ at, to: start, idle: true });
    pieces.push({ at: start, to: end, idle: false });
    at = end;
  }
  if (until > at) pieces.push({ at, to: until, idle: true });
  return pieces;
}

/** Round moments of the unfolded time, at most seven. */
function ticks(pieces, plain) {
  const step = NICE_S.find((value) => plain / value <= 6) ?? Math.ceil(plain / 6 / 86400) * 86400;
  const found = [];
  let before = 0;
  for (const piece of pieces.filter(({ fold }) => !fold)) {
    const length = piece.to - piece.at;
    for (let tick = Math.ceil(before / step - 1e-9) * step; tick <= before + length + 1e-9; tick += step) {
      const at = piece.left + (length ? (tick - before) / length : 0) * piece.width;
      if (!found.length || tick > found.at(-1).seconds + 1e-9) found.push({ at, seconds: tick });
    }
    before += length;
  }
  return found;
}
