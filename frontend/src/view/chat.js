/** The chat as a whole: takes what the protocol says and lets the parts draw it. */
import { askLab } from "../lab.js";
import { ChatsDrawer } from "./chats.js";
import { Composer } from "./composer.js";
import { h, show } from "./dom.js";
import { Header } from "./header.js";
import { handleKeys } from "./keys.js";
import { MessageList } from "./list.js";
import { LiveView } from "./live.js";
import { ParamsDrawer } from "./params.js";
import { Welcome } from "./welcome.js";

/** One view of a conversation. */
export class ChatView extends LiveView {
  /**
   * @param {object} model The anywidget model.
   * @param {HTMLElement} el
   */
  constructor(model, el) {
    super(model, "chat");
    /** @type {{text: string, known: Set<string>}|null} A question the kernel has not shown yet. */
    this.pending = null;
    this.stopping = null;
    this.#build();
    this.begin(el);
  }

  #build() {
    this.params = new ParamsDrawer(this);
    this.chats = new ChatsDrawer(this);
    this.header = new Header(this);
    this.list = new MessageList(this);
    this.welcome = new Welcome(this);
    this.composer = new Composer(this);
    this.root = h(
      "section",
      { class: "wb-root wb-waiting", "data-lm-suppress-shortcuts": "true", "aria-label": "Chat" },
      this.header.el,
      this.notices.el,
      h("div", { class: "wb-stage" }, this.list.el, this.welcome.el, this.chats.el, this.params.el),
      this.silence.el,
      this.composer.el,
      this.announcer.el,
    );
    this.pump.before = () => this.list.beforeDraw();
    this.pump.after = () => this.list.afterDraw();
    handleKeys(this);
  }

  /** Ask a question; it shows at once, muted, until the kernel has it. */
  ask(text) {
    const known = new Set((this.state?.turns ?? []).map((turn) => turn.mid));
    if (!this.send({ t: "send", text })) return false;
    this.#expect({ text, known });
    return true;
  }

  /** Stop the answer; the view shows at once that it was heard. */
  stop() {
    if (!this.protocol.streaming || this.stopping !== null) return;
    this.stopping = performance.now();
    this.send({ t: "stop" });
    const { comm_id } = this.state?.env ?? {};
    if (comm_id) askLab(this.root, "stop", { comm_id });
    this.#drawBusy();
  }

  /** Ask for another answer. */
  regenerate(mid) {
    if (!this.protocol.streaming) this.send({ t: "regen", mid });
  }

  /** Ask another question in place of one. */
  edit(mid, text) {
    return this.send({ t: "edit", mid, text });
  }

  #expect(pending) {
    this.pending = pending;
    this.list.showPending(pending.text);
    show(this.welcome.el, false);
    this.list.toBottom();
  }

  /** Draw everything anew. */
  draw() {
    const { state } = this;
    if (this.pending && state.turns.some((t) => t.role === "user" && !this.pending.known.has(t.mid))) {
      this.pending = null;
      this.list.showPending(null);
    }
    if (!this.protocol.streaming) this.stopping = null;
    for (const part of [this.header, this.list, this.welcome, this.composer, this.params, this.chats]) {
      part.update(state);
    }
    this.#drawBusy();
  }

  /** Draw what grew. */
  progress(result) {
    if (this.stopping !== null && !this.protocol.streaming) this.stopping = null;
    this.list.progress(result.texts, this.protocol.statuses, this.stopping);
  }

  #drawBusy() {
    this.composer.busy(this.protocol.streaming, this.stopping, this.state?.env ?? {});
    this.list.progress(new Set(), this.protocol.statuses, this.stopping);
    this.root.setAttribute("aria-busy", String(this.protocol.streaming));
  }

  event(event, buffers) {
    if (super.event(event, buffers)) return true;
    const takers = { chats: () => this.chats.take(event), ctx: () => this.composer.context(event) };
    takers[event.t]?.();
    return event.t in takers;
  }

  notice(event) {
    super.notice(event);
    if (event.level === "error" && this.pending) {
      this.composer.restore(this.pending.text);
      this.pending = null;
      this.list.showPending(null);
      if (this.state) this.welcome.update(this.state);
    }
  }

  tick() {
    if (this.protocol.streaming) this.#drawBusy();
  }

  /** Keep what is there when the kernel is gone. */
  lose() {
    this.#interrupted();
    this.composer.disable();
    this.list.freeze();
    this.header.disable();
  }

  /** Nothing comes any more of an answer that was on its way. */
  #interrupted() {
    const last = this.state?.turns.at(-1);
    if (!this.protocol.streaming || !last) return;
    Object.assign(last, { reason: "interrupted", phase: null });
    this.state.busy = null;
    this.stopping = null;
    this.list.update(this.state);
    this.#drawBusy();
  }

  closeParts() {
    this.header.close();
    this.list.close();
    this.composer.close();
  }
}
