/** The kernel's side of dialogues and comparisons in the page: pictures made by the real one, and what a person sent. */
import { emptyState } from "./kernel.js";

/** Answers a view as the Python side does; `picture` is the name of what is shown. */
export class MockLanes {
  /** @param {Record<string, object>} made What the page's server made. @param {ArrayBuffer} mathSource */
  constructor(made, mathSource) {
    this.made = made;
    this.mathSource = mathSource;
    this.sent = [];
    this.handlers = new Set();
    this.model = {
      send: (content) => {
        if (this.gone) throw new Error("Cannot send");
        this.sent.push(content);
        setTimeout(() => this.take(content), 2);
      },
      on: (name, fn) => name === "msg:custom" && this.handlers.add(fn),
      off: (_name, fn) => this.handlers.delete(fn),
      get: () => undefined,
    };
  }

  emit(content, buffers = []) {
    const copy = structuredClone(content);
    for (const fn of this.handlers) fn(copy, buffers);
  }

  /** Show a picture; a plain Ollama tells of no models, so that the list is one of the page. */
  show(name) {
    const found = this.made[name];
    this.picture = { ...found, s: { ...found.s, models: emptyState().models, ...this.over } };
    this.emit(this.picture);
  }

  take(message) {
    const takers = {
      hello: () => this.show(this.first),
      sync: () => this.emit(this.picture),
      need: () => this.emit({ t: "mod", mod: "math" }, [new DataView(this.mathSource)]),
      stored: () => this.emit({ ...this.made.stored, query: message.query }),
    };
    takers[message.t]?.();
  }
}
