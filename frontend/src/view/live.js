/** What every panel with arriving answers shares: the protocol, the pump, and what to do without a kernel. */
import { askLab, inLab } from "../lab.js";
import { Link } from "../link.js";
import { Late } from "../late.js";
import { Protocol } from "../protocol.js";
import { Pump } from "../pump.js";
import { Announcer } from "./announce.js";
import { copyText, h } from "./dom.js";
import { NoticeBar } from "./notice.js";
import { Silence } from "./silence.js";

const TICK_MS = 250;

/**
 * A view that draws what the protocol holds.  A panel builds its parts, sets `root`, calls `begin`,
 * and says in `draw`, `progress`, `lose` and `closeParts` what happens then.
 */
export class LiveView {
  /**
   * @param {object} model The anywidget model.
   * @param {string} noun What is lost when the kernel is gone: `chat`.
   */
  constructor(model, noun) {
    this.noun = noun;
    this.protocol = new Protocol(crypto.randomUUID?.() ?? String(Math.random()).slice(2));
    this.pump = new Pump();
    this.link = new Link(model, { message: (m, b) => this.#receive(m, b), gone: () => this.#gone() });
    this.late = new Late(() => this.send({ t: "need", mod: "math" }));
    this.announcer = new Announcer();
    this.notices = new NoticeBar();
    this.silence = new Silence();
    /** Called once when the kernel refuses what was asked last. */
    this.onError = null;
  }

  get state() {
    return this.protocol.state;
  }

  /** Show the view and ask the kernel for the first picture. */
  begin(el) {
    // Our Lab extension knows of kernels that died or were shut down.
    this.root.addEventListener("workbench:gone", () => this.link.lose());
    el.classList.add("wb-host");
    el.append(this.root);
    this.timer = setInterval(() => this.#tick(), TICK_MS);
    this.send(this.protocol.hello(performance.now()));
  }

  /** Send a message to the kernel. */
  send(message, buffers) {
    const lab = message.t === "hello" && inLab() ? { lab: true } : {};
    return this.link.send({ view: this.protocol.view, ...lab, ...message }, buffers);
  }

  /** Insert an answer, or code of it, as a cell. */
  insert(mid, code = null, source = null) {
    this.send({ t: "insert", mid, code, source });
  }

  #receive(content, buffers) {
    const result = this.protocol.apply(content, performance.now());
    result.send.forEach((message) => this.send(message));
    if (result.structure) {
      this.root.classList.remove("wb-waiting");
      this.root.classList.toggle("wb-readonly", Boolean(this.state.conv.read_only));
      this.draw();
    } else if (result.texts.size || result.status) this.progress(result);
    if (result.structure || result.texts.size || result.status) this.silence.update(this.protocol.unanswered);
    if (result.event) this.event(result.event, buffers);
  }

  /** Take a message that is no part of the picture; says whether it was known. */
  event(event, buffers) {
    const takers = {
      notice: () => this.notice(event),
      mod: () =>
        this.late.load(buffers[0], this.pump).catch((error) => this.notices.show("error", error.message)),
      file: () => this.#isMine(event) && download(event, buffers[0]),
      clip: () => this.#isMine(event) && this.#clip(event),
      keep: () => this.#keep(event),
    };
    takers[event.t]?.();
    return event.t in takers;
  }

  /** Every view hears an answer; only the one that asked acts on it. */
  #isMine(event) {
    return !event.view || event.view === this.protocol.view;
  }

  /** Let the notebook's output hold the transcript, for the day when its kernel is gone. */
  #keep(event) {
    if (askLab(this.root, "keep", event.data)) this.send({ t: "kept", digest: event.digest });
  }

  /** Show what the kernel has to say. */
  notice(event) {
    this.notices.show(event.level, event.text, event.hint);
    if (event.level !== "error") return;
    this.onError?.();
    this.onError = null;
  }

  async #clip(event) {
    if (askLab(this.root, "insert", { text: event.text, kind: event.kind ?? "code" })) return;
    const done = await copyText(event.text);
    this.notices.show(
      done ? "info" : "warn",
      done ? "Copied: paste it into a cell." : "The browser did not allow copying.",
      done
        ? "Cells are inserted directly where the workbench's Lab extension is active."
        : "Use the Copy button.",
    );
  }

  #tick() {
    this.protocol.tick(performance.now()).forEach((message) => this.send(message));
    this.tick?.();
    this.silence.update(this.protocol.unanswered);
  }

  #gone() {
    if (!this.root) return;
    this.root.classList.add("wb-gone");
    this.lose();
    this.silence.end(`The kernel of this ${this.noun} is gone. The text stays here; run the cell again to go on.`);
  }

  /** End the view. */
  close() {
    this.send(this.protocol.bye());
    clearInterval(this.timer);
    this.pump.close();
    this.link.close();
    this.closeParts();
    this.root.remove();
  }
}

function download(event, buffer) {
  const url = URL.createObjectURL(new Blob([buffer], { type: event.mime }));
  h("a", { href: url, download: event.name }).click();
  setTimeout(() => URL.revokeObjectURL(url), 10000);
}
