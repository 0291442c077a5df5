/** The messages: a window on a long history that follows its end only when its end is in sight. */
import { isStreaming } from "../protocol.js";
import { AnswerTurn } from "./answer.js";
import { h, iconButton, show, textButton } from "./dom.js";
import { ToolTurn, UserTurn } from "./turns.js";

/** So many messages are drawn at first, and so many more each time one scrolls up to them. */
const PAGE = 30;
/** This near to its end, in pixels, the list follows it. */
const NEAR_END = 48;

const KINDS = { user: UserTurn, assistant: AnswerTurn, tool: ToolTurn };

/** The scrolling part of the chat. */
export class MessageList {
  /**
   * @param {object} chat The panel it belongs to.
   * @param {{make?: (turn: object) => object, label?: string, moved?: (top: number) => void}} [options]
   *   What draws a message, what a screen reader calls the list, and who hears where a person has
   *   scrolled to.
   */
  constructor(chat, { make, label = "Messages", moved } = {}) {
    this.chat = chat;
    this.make = make ?? ((turn) => new (KINDS[turn.role] ?? ToolTurn)(chat));
    this.label = label;
    this.moved = moved;
    this.placed = null;
    this.views = new Map();
    this.turns = [];
    this.shown = PAGE;
    this.cid = null;
    this.stuck = true;
    this.pinned = true;
    this.#build();
  }

  #build() {
    this.earlier = textButton("Show earlier messages", () => this.#more(), {
      class: "wb-earlier",
      hidden: true,
    });
    this.pending = h("article", {
      class: "wb-turn wb-user wb-pending",
      hidden: true,
      "aria-label": "Your message, being sent",
    });
    this.items = h("div", { class: "wb-items" });
    this.column = h("div", { class: "wb-column" }, this.earlier, this.items, this.pending);
    this.log = h(
      "div",
      { class: "wb-log", role: "log", "aria-live": "off", "aria-label": this.label, tabindex: "0" },
      this.column,
    );
    this.jump = iconButton("down", "Jump to newest", () => this.toBottom(), {
      class: "wb-jump",
      hidden: true,
    });
    this.el = h("div", { class: "wb-list" }, this.log, this.jump);
    this.log.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    this.sizes = new ResizeObserver(() => this.afterDraw());
    this.sizes.observe(this.column);
    this.sizes.observe(this.log);
    this.near = new IntersectionObserver((found) => found.some((e) => e.isIntersecting) && this.#more(), {
      root: this.log,
    });
    this.near.observe(this.earlier);
  }

  update(state) {
    if (state.conv.cid !== this.cid) this.#open(state.conv.cid);
    // A reader further up keeps what is above the page: dropping it would move the text.
    if (!this.stuck) this.shown += Math.max(0, state.turns.length - this.turns.length);
    const held = this.#held();
    this.turns = state.turns;
    this.beforeDraw();
    this.#reconcile();
    if (held) this.#hold(held);
    this.afterDraw();
  }

  #open(cid) {
    this.cid = cid;
    this.shown = PAGE;
    this.stuck = this.pinned = true;
    for (const view of this.views.values()) view.close();
    this.views.clear();
    this.items.replaceChildren();
  }

  #reconcile() {
    const from = Math.max(0, this.turns.length - this.shown);
    const wanted = this.turns.slice(from);
    const mids = new Set(wanted.map((turn) => turn.mid));
    for (const [mid, view] of this.views) if (!mids.has(mid)) this.#drop(mid, view);
    let before = null;
    for (const turn of wanted.toReversed?.() ?? [...wanted].reverse()) {
      const view = this.#view(turn);
      view.update(turn, turn === this.turns.at(-1));
      if (view.el.nextSibling !== before || view.el.parentNode !== this.items)
        this.items.insertBefore(view.el, before);
      before = view.el;
    }
    show(this.earlier, from > 0);
    this.earlier.textContent = `Show earlier messages (${from})`;
  }

  /** The message that has the focus, by its place, and the name of its control. */
  #held() {
    const focused = document.activeElement;
    const mid = this.items.contains(focused) && focused.closest(".wb-turn")?.dataset.mid;
    if (!mid) return null;
    return { at: this.turns.findIndex((turn) => turn.mid === mid), name: focused.getAttribute("aria-label") };
  }

  /** A version in place of another takes over its focus: else it would fall out of the chat. */
  #hold({ at, name }) {
    const focused = document.activeElement;
    if (this.items.contains(focused) && !focused.closest("[hidden]")) return;
    const view = this.views.get((this.turns[at] ?? this.turns.at(-1))?.mid);
    if (!view) return this.chat.composer?.focus?.();
    const controls = [...view.el.querySelectorAll("button:not([disabled])")];
    const same = controls.find((el) => el.getAttribute("aria-label") === name && !el.closest("[hidden]"));
    return (same ?? view.el).focus({ preventScroll: true });
  }

  #view(turn) {
    let view = this.views.get(turn.mid);
    if (!view) {
      view = this.make(turn);
      view.el.dataset.mid = turn.mid;
      this.views.set(turn.mid, view);
    }
    return view;
  }

  #drop(mid, view) {
    view.close();
    view.el.remove();
    this.views.delete(mid);
  }

  #more() {
    const hidden = this.turns.length - this.shown;
    if (hidden <= 0) return;
    const height = this.log.scrollHeight;
    const top = this.log.scrollTop;
    this.shown += PAGE;
    this.#reconcile();
    this.place(top + this.log.scrollHeight - height);
  }

  /** Scroll to a place in pixels from the start; `moved` is not told of it. */
  place(top) {
    this.log.scrollTop = top;
    this.placed = this.log.scrollTop;
  }

  /**
   * Draw what grew since the last frame.
   * @param {Set<string>} mids
   * @param {Map<string, object>} statuses Of the messages on their way.
   * @param {number|null} stopping When Stop was pressed.
   */
  progress(mids, statuses, stopping) {
    for (const mid of mids) this.views.get(mid)?.progress?.();
    for (const [mid, view] of this.views)
      if (isStreaming(view.turn)) view.status?.(statuses.get(mid) ?? null, stopping);
  }

  /** Show a question that the kernel has not confirmed, or none. */
  showPending(text) {
    show(this.pending, text !== null);
    this.pending.replaceChildren();
    if (text !== null) this.pending.append(h("div", { class: "wb-bubble", dir: "auto" }, text));
    this.toBottom();
  }

  /** Decide before anything is appended whether the end is in sight. */
  beforeDraw() {
    this.pinned = this.stuck;
  }

  afterDraw() {
    if (this.pinned || this.stuck) this.place(this.log.scrollHeight);
    show(this.jump, !this.stuck);
  }

  toBottom() {
    this.stuck = this.pinned = true;
    this.afterDraw();
  }

  /** Go where another list was scrolled to; let go of the end if it is not there. */
  follow(top) {
    this.place(top);
    this.#settle();
  }

  #scrolled() {
    const top = this.log.scrollTop;
    this.#settle();
    if (top === this.placed) return;
    this.placed = null;
    this.moved?.(top);
  }

  #settle() {
    const { scrollHeight, scrollTop, clientHeight } = this.log;
    const up = scrollTop < (this.lastTop ?? 0) - 1;
    const atEnd = scrollHeight - scrollTop - clientHeight < NEAR_END;
    // Content that grows moves the end away by itself; only a person scrolling up lets go of it.
    if (atEnd) this.stuck = true;
    else if (up) this.stuck = this.pinned = false;
    this.lastTop = scrollTop;
    show(this.jump, !this.stuck);
  }

  /** The view of the message an element belongs to. */
  turnOf(el) {
    const item = el.closest?.(".wb-turn");
    return item ? this.views.get(item.dataset.mid) : null;
  }

  /** Move the focus between messages. */
  focusBy(step) {
    const items = [...this.items.children];
    if (!items.length) return;
    const at = items.indexOf(document.activeElement?.closest(".wb-turn"));
    const next =
      at < 0 ? items.at(step < 0 ? -1 : 0) : items[Math.max(0, Math.min(items.length - 1, at + step))];
    next.focus({ preventScroll: true });
    next.scrollIntoView({ block: "nearest" });
  }

  /** Edit the newest question. */
  editLast() {
    const last = this.turns.findLast((turn) => turn.role === "user");
    this.views.get(last?.mid)?.edit();
  }

  freeze() {
    for (const button of this.items.querySelectorAll(
      '[aria-label^="Insert"], .wb-branches button, .wb-retry',
    ))
      button.disabled = true;
  }

  close() {
    this.sizes.disconnect();
    this.near.disconnect();
    for (const view of this.views.values()) view.close();
  }
}
