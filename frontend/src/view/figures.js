/** What an answer took, once it is there; what was not measured is not shown. */
import { count, rate, seconds } from "../text.js";
import { h, setText, show } from "./dom.js";

/** The quiet line of figures below an answer, with the context as a thin bar. */
export class Figures {
  constructor() {
    this.text = h("span", {});
    this.bar = h("span", { class: "wb-bar-fill" });
    this.meter = h("span", { class: "wb-bar", role: "img", hidden: true }, this.bar);
    this.used = h("span", { class: "wb-ctx-text" });
    this.el = h(
      "div",
      { class: "wb-figures" },
      this.text,
      h("span", { class: "wb-ctx" }, this.meter, this.used),
    );
    this.ctx = this.meter.parentElement;
  }

  /** @param {object|null} fig @param {number|null} limit Context of the next answer, where the figures have none. */
  update(fig, limit) {
    const known = fig ?? {};
    const facts = paceFacts(known.tokens_s, known.tokens, known.ttft_s);
    if (isNumber(known.load_s) && known.load_s >= 0.1) facts.push(`load ${seconds(known.load_s)}`);
    setText(this.text, facts.join(" · "));
    this.text.title = detail(known);
    const ctx = known.ctx ?? limit;
    const shown = isNumber(known.ctx_used) && isNumber(ctx) && ctx > 0;
    show(this.meter, shown);
    show(this.ctx, shown);
    show(this.text, facts.length > 0);
    show(this.el, shown || facts.length > 0);
    if (!shown) return;
    const share = Math.min(1, known.ctx_used / ctx);
    this.bar.style.width = `${(share * 100).toFixed(1)}%`;
    this.bar.dataset.level = share > 0.9 ? "high" : share > 0.7 ? "mid" : "low";
    const words = `${count(known.ctx_used)} of ${count(ctx)} tokens of context used`;
    this.meter.setAttribute("aria-label", words);
    this.ctx.title = words;
    setText(this.used, `${Math.round(share * 100)} % context`);
  }
}

/** Pace, tokens and time to the first one, as far as they are known; `about` marks an estimate. */
export function paceFacts(tps, tok, ttft, about = "") {
  const facts = [];
  if (isNumber(tps)) facts.push(`${about}${rate(tps)} tokens/s`);
  if (isNumber(tok)) facts.push(`${count(tok)} ${tok === 1 ? "token" : "tokens"}`);
  if (isNumber(ttft)) facts.push(`first after ${seconds(ttft)}`);
  return facts;
}

function isNumber(value) {
  return typeof value === "number" && Number.isFinite(value);
}

function detail(fig) {
  const lines = [];
  if (isNumber(fig.prompt_tokens)) lines.push(`prompt ${count(fig.prompt_tokens)} tokens`);
  if (isNumber(fig.elapsed_s)) lines.push(`whole answer ${seconds(fig.elapsed_s)}`);
  return lines.join(" · ");
}
