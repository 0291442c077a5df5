/**
 * The wire protocol of a chat view as a pure state machine: no DOM, no timers, no clock of its own.
 *
 * A notebook loses messages without a word, so frames carry numbers and pieces of text carry
 * offsets in UTF-16 units.  Offsets decide what is appended; numbers tell that something is missing.
 */

export const VERSION = 1;
export const ACK_FRAMES = 10;
/** A slow model sends few frames: the kernel would take silence for a slow view. */
export const ACK_MS = 400;
export const RESEND_MS = 2000;
export const RESEND_MAX_MS = 16000;
export const BEAT_MS = 3000;
/** A stream that says nothing this long may have lost its last message. */
export const STALL_MS = 5000;
const STASH_PIECES = 400;
const SYNC_CHANNELS = ["text", "think"];

/**
 * @typedef {object} Result
 * @property {boolean} structure Turns, models or settings changed: draw everything anew.
 * @property {Set<string>} texts Messages whose text grew.
 * @property {boolean} status The status of a streaming message changed.
 * @property {object|null} event A message that is not part of the state (notice, file, chats ...).
 * @property {object[]} send What to send to the kernel.
 */

/** @returns {Result} */
function nothing() {
  return { structure: false, texts: new Set(), status: false, event: null, send: [] };
}

/** Whether a turn is an answer still on its way. */
export function isStreaming(turn) {
  return Boolean(turn && turn.role === "assistant" && !turn.reason && turn.phase && turn.phase !== "done");
}

/** Holds what the kernel said and decides what to tell it. */
export class Protocol {
  /** @param {string} view A random name of this view. */
  constructor(view) {
    this.view = view;
    /** @type {object|null} The last STATE, its streaming texts kept up to date. */
    this.state = null;
    /** @type {object|null} The last STATUS. */
    this.status = null;
    /** The last STATUS of each message on its way. */
    this.statuses = new Map();
    this.frame = 0;
    /** The number of the last picture. */
    this.picture = null;
    this.turns = new Map();
    this.stash = [];
    this.unacked = 0;
    this.ackedAt = 0;
    this.beatAt = 0;
    this.heardAt = 0;
    /** @type {{kind: string, at: number, wait: number, tries: number}|null} */
    this.asked = null;
  }

  /** Return the first message of a view. */
  hello(now) {
    this.asked = { kind: "hello", at: now, wait: RESEND_MS, tries: 1 };
    this.heardAt = now;
    return { t: "hello", v: VERSION, view: this.view, have: this.have() };
  }

  /** Return the message of a view that goes away. */
  bye() {
    return { t: "bye", view: this.view };
  }

  /** How often the kernel was asked in vain. */
  get unanswered() {
    return this.asked ? this.asked.tries - 1 : 0;
  }

  /** Whether an answer is on its way. */
  get streaming() {
    return Boolean(this.state?.busy) || Boolean(this.state?.turns?.some(isStreaming));
  }

  /** Lengths held of texts that may still grow. */
  have() {
    const held = {};
    for (const [mid, turn] of this.turns) {
      if (isStreaming(turn)) held[mid] = { text: turn.text.length, think: (turn.think ?? "").length };
    }
    return held;
  }

  /**
   * Take a message of the kernel.
   * @param {object} message
   * @param {number} now Milliseconds, monotonic.
   * @returns {Result}
   */
  apply(message, now) {
    const result = nothing();
    this.heardAt = now;
    if (message?.t === "state") this.#takeState(message, now, result);
    else if (message?.t === "f") this.#takeFrame(message, now, result);
    else if (message && typeof message.t === "string") result.event = message;
    return result;
  }

  /**
   * Let time pass.
   * @param {number} now Milliseconds, monotonic.
   * @returns {object[]} What to send.
   */
  tick(now) {
    const send = [];
    if (this.asked && now - this.asked.at >= this.asked.wait) {
      this.asked.at = now;
      this.asked.wait = Math.min(this.asked.wait * 2, RESEND_MAX_MS);
      this.asked.tries += 1;
      send.push(this.#question());
    } else if (!this.asked && this.streaming && now - this.heardAt >= STALL_MS) {
      this.#ask(now, send);
    }
    if (this.streaming && now - this.beatAt >= BEAT_MS) {
      this.beatAt = now;
      send.push({ t: "beat", view: this.view });
    }
    if (this.unacked && now - this.ackedAt >= ACK_MS) this.#ack(now, send);
    return send;
  }

  #question() {
    if (this.asked.kind === "hello") {
      return { t: "hello", v: VERSION, view: this.view, have: this.have() };
    }
    return { t: "sync", view: this.view, have: this.have() };
  }

  #ask(now, send) {
    if (this.asked) return;
    this.asked = { kind: "sync", at: now, wait: RESEND_MS, tries: 1 };
    send.push(this.#question());
  }

  #ack(now, send) {
    this.unacked = 0;
    this.ackedAt = now;
    send.push({ t: "ack", n: this.frame });
  }

  /** The picture a message makes of the one that is held; null when they do not fit. */
  #picture(message) {
    const { s, base } = message;
    if (!s) return null;
    if (base === null || base === undefined) return Array.isArray(s.turns) ? { ...s } : null;
    if (!this.state || base !== this.picture) return null;
    const held = s.turns?.map((turn) => (typeof turn === "string" ? this.turns.get(turn) : turn));
    if (held?.includes(undefined)) return null;
    return { ...this.state, ...s, turns: held ?? this.state.turns };
  }

  #takeState(message, now, result) {
    const state = this.#picture(message);
    if (!state) {
      this.#ask(now, result.send);
      return;
    }
    const whole = typeof message.base !== "number";
    const lost = !whole && (message.n ?? 0) > this.frame;
    this.picture = message.k;
    const same = this.state?.conv?.cid === state.conv?.cid;
    const held = same ? this.turns : new Map();
    const wasStreaming = this.streaming;
    this.turns = new Map();
    state.turns = state.turns.map((turn) => this.#merge(turn, held.get(turn.mid)));
    this.state = state;
    this.frame = Math.max(same ? this.frame : 0, message.n ?? 0);
    if (whole) this.asked = null;
    if (lost) this.#ask(now, result.send);
    result.structure = true;
    this.#unstash(result);
    for (const mid of this.statuses.keys()) if (!isStreaming(this.turns.get(mid))) this.statuses.delete(mid);
    if (!this.streaming) {
      this.status = null;
      this.stash = [];
      if (wasStreaming || this.unacked) this.#ack(now, result.send);
    }
  }

  #merge(turn, held) {
    const merged = { ...turn, text: turn.text ?? "" };
    this.turns.set(turn.mid, merged);
    if (turn.role !== "assistant") return merged;
    merged.think = turn.think ?? "";
    if (!held || !isStreaming(merged)) return merged;
    for (const channel of SYNC_CHANNELS) {
      const old = held[channel] ?? "";
      if (old.length > merged[channel].length && old.startsWith(merged[channel])) merged[channel] = old;
    }
    merged.tool = held.tool;
    merged.toolEnd = held.toolEnd;
    return merged;
  }

  #takeFrame(message, now, result) {
    const gap = this.state === null || message.n > this.frame + 1;
    this.frame = Math.max(this.frame, message.n);
    let hole = false;
    for (const piece of message.p ?? []) hole = !this.#takePiece(piece, result) || hole;
    if (result.texts.size) this.#unstash(result);
    if (message.s && message.n === this.frame) {
      for (const status of [message.s].flat()) this.#takeStatus(status);
      result.status = true;
    }
    this.unacked += 1;
    if (this.unacked >= ACK_FRAMES || now - this.ackedAt >= ACK_MS) this.#ack(now, result.send);
    if (gap || hole) this.#ask(now, result.send);
  }

  #takeStatus(status) {
    this.status = status;
    this.statuses.set(status.mid, status);
    const turn = this.turns.get(status.mid);
    if (turn && isStreaming(turn) && status.phase !== "done") turn.phase = status.phase;
  }

  /** Append what is new of a piece; false when something before it is missing. */
  #takePiece(piece, result) {
    const [mid, channel, offset, delta] = piece;
    const turn = this.turns.get(mid);
    if (!turn) return this.#keep(piece);
    if (!isStreaming(turn)) return true;
    if (channel === "tool") return takeTool(turn, offset, delta, result);
    if (!SYNC_CHANNELS.includes(channel)) return true;
    const length = turn[channel].length;
    if (offset > length) return this.#keep(piece);
    if (offset + delta.length > length) {
      turn[channel] += delta.slice(length - offset);
      result.texts.add(mid);
    }
    return true;
  }

  #keep(piece) {
    if (this.stash.length < STASH_PIECES) this.stash.push(piece);
    return false;
  }

  /** Try the pieces that came too early, in the order of their offsets. */
  #unstash(result) {
    if (!this.stash.length) return;
    const waiting = this.stash.sort((a, b) => a[2] - b[2]);
    this.stash = [];
    for (const piece of waiting) this.#takePiece(piece, result);
  }
}

/** The state carries finished tool calls only: a hole in a call that is being written stays. */
function takeTool(turn, offset, delta, result) {
  const end = turn.toolEnd ?? 0;
  if (offset + delta.length <= end) return true;
  turn.tool = (turn.tool ?? "") + delta.slice(Math.max(0, end - offset));
  turn.toolEnd = offset + delta.length;
  result.texts.add(turn.mid);
  return true;
}
