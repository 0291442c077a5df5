/**
 * What the kernel said about the models, as a pure state machine: no DOM, no timers.
 *
 * The first message is the whole picture, later ones carry what changed and a number.  A notebook
 * loses messages without a word: a number that is left out means asking for the whole again, and
 * every beat says which number is held, so that a lost last message is noticed too.
 */

export const VERSION = 1;
export const BEAT_MS = 5000;
export const RESEND_MS = 2000;
export const RESEND_MAX_MS = 16000;

/** Every part of the picture besides the rows. */
export const SECTIONS = [
  "link",
  "backends",
  "devices",
  "warning",
  "queue",
  "settings",
  "pulls",
  "events",
  "said",
  "env",
];

/**
 * @typedef {object} Change
 * @property {boolean} whole The picture was replaced.
 * @property {Set<string>} rows Keys of the models that changed, came or went.
 * @property {Set<string>} sections Names of the parts that changed.
 * @property {object[]} send What to send to the kernel.
 */

/** Holds the picture. */
export class Store {
  /** @param {string} view A random name of this view. */
  constructor(view) {
    this.view = view;
    /** @type {object|null} */
    this.picture = null;
    this.number = 0;
    this.beatAt = 0;
    this.asked = null;
  }

  /** How often the kernel was asked in vain. */
  get unanswered() {
    return this.asked ? this.asked.tries - 1 : 0;
  }

  /** Return the first message of a view. */
  hello(now) {
    this.beatAt = now;
    this.asked = { kind: "hello", at: now, wait: RESEND_MS, tries: 1 };
    return this.#question();
  }

  /** Return the message of a view that nobody looks at any more. */
  bye() {
    this.asked = null;
    return { t: "bye", view: this.view };
  }

  /**
   * Take a message of the kernel.
   * @param {object} message
   * @param {number} now Milliseconds, monotonic.
   * @returns {Change}
   */
  apply(message, now) {
    const change = { whole: false, rows: new Set(), sections: new Set(), send: [] };
    if (message?.t === "state") this.#takeWhole(message, change);
    else if (message?.t === "d") this.#takeDifference(message, now, change);
    return change;
  }

  /** Let time pass; returns what to send. */
  tick(now) {
    if (this.asked) {
      if (now - this.asked.at < this.asked.wait) return [];
      this.asked.at = now;
      this.asked.wait = Math.min(this.asked.wait * 2, RESEND_MAX_MS);
      this.asked.tries += 1;
      return [this.#question()];
    }
    if (this.picture === null || now - this.beatAt < BEAT_MS) return [];
    this.beatAt = now;
    return [{ t: "beat", view: this.view, n: this.number }];
  }

  #question() {
    return this.asked.kind === "hello"
      ? { t: "hello", v: VERSION, view: this.view }
      : { t: "sync", view: this.view, n: this.number };
  }

  #takeWhole(message, change) {
    if (!message.s || typeof message.s.rows !== "object") return;
    this.picture = message.s;
    this.number = message.n;
    this.asked = null;
    change.whole = true;
  }

  #takeDifference(message, now, change) {
    if (this.picture === null || message.n !== this.number + 1) {
      // An older one, sent again for another view, says nothing new.
      if (this.picture !== null && message.n <= this.number) return;
      if (this.asked) return;
      this.asked = { kind: "sync", at: now, wait: RESEND_MS, tries: 1 };
      change.send.push(this.#question());
      return;
    }
    this.number = message.n;
    for (const [key, row] of Object.entries(message.rows ?? {})) {
      if (row === null) delete this.picture.rows[key];
      else this.picture.rows[key] = row;
      change.rows.add(key);
    }
    for (const [name, value] of Object.entries(message.set ?? {})) {
      this.picture[name] = value;
      change.sections.add(name);
    }
    if (message.ev?.length) {
      const kept = message.keep ?? 50;
      this.picture.events = [...this.picture.events, ...message.ev].slice(-kept);
      change.sections.add("events");
    }
  }
}
