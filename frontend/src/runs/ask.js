/** Questions of a run to a person, and the answers. */
import { visible } from "../text.js";
import { h, icon, show, textButton } from "../view/dom.js";
import { glyph } from "./glyphs.js";
import { moment } from "./words.js";

/** The cards above the steps. */
export class Asks {
  constructor(panel) {
    this.panel = panel;
    this.cards = new Map();
    this.el = h("div", { class: "wbr-asks", hidden: true });
  }

  /** @param {object|null} picture Null while the run is read. */
  update(picture, row) {
    const open = picture ? row.asks.map((id) => this.panel.stepOf(id)).filter((step) => step?.ask !== null && step?.ask !== undefined) : [];
    const wanted = new Set(open.map((step) => keyOf(row, step)));
    for (const [key, card] of this.cards) {
      if (wanted.has(key)) continue;
      card.el.remove();
      this.cards.delete(key);
    }
    for (const step of open) {
      const key = keyOf(row, step);
      if (!this.cards.has(key)) {
        const card = new AskCard(this.panel, row.id, step, { look: true });
        this.cards.set(key, card);
        this.el.append(card.el);
      }
      this.cards.get(key).busy(picture.acts[`${row.id}/${step.id}`]);
    }
    show(this.el, open.length > 0);
  }
}

/** A step that asks something else gets another card. */
function keyOf(row, step) {
  return `${row.id}/${step.id}/${step.asked_sha}`;
}

/** One question with its buttons; a note goes with the answer. */
export class AskCard {
  /** @param {{look: boolean}} options Whether it offers to open the step. */
  constructor(panel, run, { id, ask, why, asked, asked_sha: sha }, { look }) {
    this.panel = panel;
    this.note = h("input", { class: "wb-field wbr-note", type: "text", "aria-label": `Note to the answer at ${visible(id)}`, placeholder: "Note (optional)", maxlength: "2000" });
    this.yes = this.#button("Yes", { run, step: id, asked: sha, yes: true }, "wb-primary");
    this.no = this.#button("No", { run, step: id, asked: sha, yes: false }, "");
    this.state = h("span", { class: "wbr-hint", role: "status" });
    const effects = why === "effects";
    this.el = h(
      "section",
      { class: "wbr-ask", "aria-label": `Question of ${visible(id)}` },
      glyph("ask", "ask"),
      h(
        "div",
        {},
        h("p", { class: "wbr-ask-text" }, visible(ask || `Shall ${id} go on?`)),
        h("p", { class: "wbr-hint" }, effects ? "This step acts on the outside world, and an attempt was broken off: it may have acted already." : `${visible(id)} asks${asked ? `, ${moment(asked, panel.now())}` : ""}`),
        h("div", { class: "wbr-answer" }, this.note, this.yes, this.no, look ? textButton(`Look at ${visible(id)}`, () => panel.step.open(id), { text: "Look closer" }) : null, this.state),
      ),
    );
  }

  #button(label, message, style) {
    const answer = () => this.panel.send({ t: "approve", ...message, note: this.note.value.trim() });
    return textButton(`${label}, at ${visible(message.step)}`, answer, { text: label, class: `${style} wbr-needs-kernel` });
  }

  /** Show that the answer is on its way. */
  busy(act) {
    for (const el of [this.yes, this.no, this.note]) el.disabled = Boolean(act) || this.panel.link.gone;
    this.state.textContent = act ? "The answer is on its way …" : "";
  }
}

/** An answer that was given. */
export function answerLine({ yes, who, when, note }) {
  const at = when ? moment(Date.parse(when) / 1000, Date.now() / 1000) : "";
  return h(
    "div",
    { class: "wbr-answered", "data-yes": String(Boolean(yes)) },
    icon(yes ? "check" : "close"),
    h("div", {}, h("strong", {}, yes ? "Yes" : "No"), h("span", { class: "wbr-hint" }, ` ${[who ? `by ${visible(who)}` : "", at].filter(Boolean).join(", ")}`), note ? h("p", {}, visible(note)) : null),
  );
}
