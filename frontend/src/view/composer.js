/** Where a person writes: text, what goes with it, and whether it fits the context. */
import { count } from "../text.js";
import { Attachments } from "./attachments.js";
import { h, iconButton, setText, show } from "./dom.js";

const TALLEST = 240;
const MEASURE_MS = 350;
/** Short drafts without attachments always fit: the kernel is not asked. */
const SHORT = 400;
/** A guess until the kernel answers. */
const UNITS_PER_TOKEN = 4;

/** The composer. */
export class Composer {
  constructor(chat) {
    this.chat = chat;
    this.fit = null;
    this.warned = false;
    this.streaming = false;
    this.#build();
  }

  #build() {
    this.area = h("textarea", {
      class: "wb-input",
      rows: "1",
      dir: "auto",
      "aria-label": "Message",
      placeholder: "Write a message",
      on: {
        input: () => this.#changed(),
        keydown: (event) => this.#key(event),
        paste: (event) => this.attachments.paste(event),
      },
    });
    this.attachments = new Attachments(this.chat);
    this.meterText = h("span", {});
    this.meterFill = h("span", { class: "wb-bar-fill" });
    this.meter = h(
      "span",
      { class: "wb-meter", hidden: true },
      h("span", { class: "wb-bar" }, this.meterFill),
      this.meterText,
    );
    this.warning = h("p", { class: "wb-warning", role: "alert", hidden: true });
    this.sendButton = iconButton("send", "Send message", () => this.submit(), { class: "wb-send" });
    this.stopButton = iconButton("stop", "Stop answer", () => this.#stop(), {
      class: "wb-stop",
      hidden: true,
    });
    this.hint = h(
      "span",
      { class: "wb-keys", "aria-hidden": "true" },
      "Enter sends · Shift+Enter new line · Esc stops",
    );
    this.box = h(
      "div",
      { class: "wb-box" },
      this.attachments.chips,
      this.area,
      h(
        "div",
        { class: "wb-box-foot" },
        this.attachments.menu.el,
        this.attachments.form,
        this.hint,
        this.meter,
        this.sendButton,
        this.stopButton,
      ),
    );
    this.reading = h(
      "p",
      { class: "wb-reading", hidden: true },
      "Another notebook is writing this conversation. You can read it here, or begin a new one.",
    );
    this.el = h("footer", { class: "wb-composer" }, this.warning, this.reading, this.box);
    this.attachments.acceptDrops(this.chat, this.el);
  }

  update(state) {
    const readOnly = Boolean(state.conv.read_only);
    show(this.reading, readOnly);
    show(this.box, !readOnly);
    this.attachments.update(state);
    const name = state.model?.name;
    this.area.placeholder = name ? `Message ${name}` : "Choose a model first";
    const key = JSON.stringify([state.attachments, state.limits, name]);
    if (key !== this.key) {
      this.key = key;
      this.#measureSoon();
    }
    this.#state();
  }

  /** Switch between Send and Stop. */
  busy(streaming, stopping) {
    this.streaming = streaming;
    // A button that goes away must not take the focus with it: it would fall out of the chat.
    if (streaming !== (this.stopButton.hidden === false) && this.#holds()) this.focus();
    show(this.sendButton, !streaming);
    show(this.stopButton, streaming);
    this.stopButton.classList.toggle("wb-stopping", stopping !== null);
    this.stopButton.setAttribute("aria-label", stopping === null ? "Stop answer" : "Stopping");
    this.stopButton.disabled = stopping !== null;
    this.#state();
  }

  #holds() {
    return [this.sendButton, this.stopButton].includes(document.activeElement);
  }

  #stop() {
    this.focus();
    this.chat.stop();
  }

  #state() {
    const attached = this.chat.state?.attachments?.length;
    this.sendButton.disabled = this.chat.link.gone || (!this.area.value.trim() && !attached);
  }

  #changed() {
    this.area.style.height = "auto";
    this.area.style.height = `${Math.min(this.area.scrollHeight, TALLEST)}px`;
    this.#state();
    this.#warn(null);
    this.#measureSoon();
  }

  #measureSoon() {
    clearTimeout(this.measuring);
    this.fit = null;
    const attached = this.chat.state?.attachments?.length ?? 0;
    if (this.area.value.length < SHORT && !attached) {
      show(this.meter, false);
      return;
    }
    this.#drawMeter(this.#guess());
    this.measuring = setTimeout(
      () => this.chat.send({ t: "measure", text_len: this.area.value.length }),
      MEASURE_MS,
    );
  }

  #guess() {
    const attached = this.chat.state?.attachments ?? [];
    const tokens = attached.reduce(
      (sum, item) => sum + (item.tokens_est ?? 0),
      this.area.value.length / UNITS_PER_TOKEN,
    );
    return { tokens_est: Math.round(tokens), ctx: this.chat.state?.limits?.ctx ?? null, fits: true };
  }

  /** Take the kernel's answer to `measure`. */
  context(event) {
    this.fit = event;
    this.#drawMeter(event);
    if (event.fits === false) this.#warn(tooLong(event));
    else if (event.drops)
      this.#warn("The oldest messages will be left out: with them it does not fit the context.", false);
  }

  #drawMeter({ tokens_est: tokens, ctx, fits }) {
    const share = ctx ? Math.min(1, tokens / ctx) : 0;
    this.meterFill.style.width = `${share * 100}%`;
    this.meterFill.dataset.level = fits === false ? "high" : share > 0.7 ? "mid" : "low";
    show(this.meterFill.parentElement, Boolean(ctx));
    setText(this.meterText, ctx ? `≈ ${count(tokens)} of ${count(ctx)} tokens` : `≈ ${count(tokens)} tokens`);
    show(this.meter, true);
  }

  #warn(text, strong = true) {
    this.warned = false;
    show(this.warning, Boolean(text));
    this.warning.classList.toggle("wb-strong", strong);
    setText(this.warning, text ?? "");
  }

  #key(event) {
    if (event.isComposing) return;
    if (event.key === "Enter" && !event.shiftKey && !event.ctrlKey && !event.metaKey) {
      event.preventDefault();
      this.submit();
    } else if (event.key === "ArrowUp" && !this.area.value && !event.altKey) {
      event.preventDefault();
      this.chat.list.editLast();
    }
  }

  /** Send what is written; what does not fit asks once more. */
  submit() {
    const text = this.area.value.trim();
    const attached = this.chat.state?.attachments?.length;
    if (this.streaming || this.chat.pending || (!text && !attached) || !this.chat.state?.model) return;
    if (this.fit?.fits === false && !this.warned) {
      this.#warn(`${tooLong(this.fit)} Press Enter again to send it nevertheless.`);
      this.warned = true;
      return;
    }
    if (!this.chat.ask(text)) return;
    if (this.#holds()) this.focus();
    this.area.value = "";
    this.#changed();
  }

  /** Put a text in for the person to send. */
  propose(text) {
    this.area.value = text;
    this.#changed();
    this.focus();
  }

  /** Give a text back that could not be sent. */
  restore(text) {
    if (!this.area.value) this.propose(text);
  }

  focus() {
    this.area.focus();
  }

  /** Close the menu of attachments; says whether it was open. */
  closeMenus() {
    return this.attachments.menu.hide();
  }

  disable() {
    for (const control of this.box.querySelectorAll("button, textarea")) control.disabled = true;
  }

  close() {
    clearTimeout(this.measuring);
    this.attachments.menu.close();
  }
}

function tooLong(event) {
  return `Too long: ≈ ${count(event.tokens_est)} tokens, the context holds ${count(event.ctx)}.`;
}
