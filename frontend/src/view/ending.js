/** How an answer ended when it did not end by itself: a reason, or an error with what to do about it. */
import { bytes, sentence, seconds, shortName, visible } from "../text.js";
import { h, prose, setText, show, textButton } from "./dom.js";

export const REASONS = {
  length: "Ended at the token limit.",
  cancelled: "Stopped.",
  interrupted: "Interrupted.",
  timeout: "Ended: it took too long.",
};

/** Why a model is held in memory, where somebody should know. */
const HOLDS = { pinned: "pinned", leased: "held by a run", foreign: "loaded by somebody else", busy: "answering" };

/** The reason and the error below an answer. */
export class Ending {
  /**
   * @param {{retry: () => void, swap: (again: () => void) => boolean}} on `swap` says whether it was
   *   asked for; `again` lets a person try once more.
   */
  constructor(on) {
    this.on = on;
    this.reason = h("p", { class: "wb-reason", hidden: true });
    this.error = h("div", { class: "wb-error", role: "alert", hidden: true });
  }

  /** @param {{text?: string, reason: string|null, error: object|null}} turn @param {boolean} streaming */
  update(turn, streaming) {
    const text = streaming ? null : REASONS[turn.reason];
    show(this.reason, Boolean(text) && !turn.error);
    setText(this.reason, text ?? "");
    const key = turn.error ? `${turn.error.text}\n${turn.error.hint ?? ""}` : "";
    show(this.error, Boolean(turn.error));
    if (!turn.error || this.error.dataset.key === key) return;
    this.error.dataset.key = key;
    const { plan } = turn.error;
    this.error.dataset.kind = plan ? "swap" : "error";
    const again = plan
      ? textButton("Make room and load", ({ currentTarget }) => this.#swap(currentTarget, plan), {
          class: "wb-retry wb-write wb-primary",
          text: swapWords(plan),
        })
      : textButton("Retry", () => this.on.retry(), { class: "wb-retry wb-write" });
    this.error.replaceChildren(
      h("div", {}, h("strong", {}, headOf(turn)), sentence(turn.error.text ?? "")),
      noteOf(turn.error),
      again,
    );
  }

  /** Let others leave memory for the model, and ask again. */
  #swap(button, plan) {
    const again = () => {
      button.disabled = false;
      setText(button, swapWords(plan));
    };
    if (!this.on.swap(again)) return;
    button.disabled = true;
    button.textContent = "Making room …";
  }
}

function headOf(turn) {
  if (turn.error.plan) return "Memory is full. ";
  return turn.text ? "The answer broke off. " : "No answer came. ";
}

/** `Unload a, b and load c`. */
function swapWords({ evict = [], model }) {
  const names = evict.map((item) => shortName(item.model)).join(", ");
  return visible(names ? `Unload ${names} and load ${shortName(model)}` : `Load ${shortName(model)}`);
}

/** What to do next; of a swap what it costs. */
function noteOf({ hint, plan }) {
  const facts = plan ? swapFacts(plan) : (hint ?? "");
  return facts ? h("div", { class: "wb-note" }, ...prose(facts)) : "";
}

function swapFacts({ evict = [], needed_bytes: needed, free_bytes: free, estimated_s: wait }) {
  const facts = [];
  if (needed) facts.push(`needs ${bytes(needed)}${typeof free === "number" ? `, ${bytes(free)} free` : ""}`);
  for (const { model, bytes: size, reload_s: reload, reason } of evict) {
    const back = reload ? `loads again in ${seconds(reload)}` : null;
    const detail = [HOLDS[reason], size ? bytes(size) : null, back].filter(Boolean).join(", ");
    facts.push(`${shortName(model)} leaves${detail ? ` (${detail})` : ""}`);
  }
  if (wait) facts.push(`takes about ${seconds(wait)}`);
  return facts.join(" · ");
}
