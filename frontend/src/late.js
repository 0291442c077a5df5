/** Parts of the front end that come from the kernel when they are first needed. */

/**
 * @typedef {object} LateModule
 * @property {(source: string, display: boolean) => string} toMathML
 * @property {(code: string, lang: string) => string|null} colour
 * @property {string[]} MATH_TAGS
 * @property {string[]} MATH_ATTRIBUTES
 * @property {(value: string) => string} mathStyle
 */

/** Holds back what needs the late module until it is there. */
export class Late {
  /** @param {() => void} ask Sends `need` to the kernel. */
  constructor(ask) {
    this.ask = ask;
    this.asked = false;
    /** @type {LateModule|null} */
    this.module = null;
    this.waiting = [];
  }

  /**
   * Call back with the module, now or when it comes.
   * @param {(module: LateModule) => void} then
   */
  when(then) {
    if (this.module) {
      then(this.module);
      return;
    }
    this.waiting.push(then);
    if (!this.asked) this.ask();
    this.asked = true;
  }

  /**
   * Take the module's source and run what waited, in slices.
   * @param {BufferSource} source
   * @param {import("./pump.js").Pump} pump
   */
  async load(source, pump) {
    if (this.module) return;
    const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    try {
      this.module = await import(url);
    } finally {
      URL.revokeObjectURL(url);
    }
    pump.add((deadline) => this.#run(deadline));
  }

  #run(deadline) {
    while (this.waiting.length && performance.now() < deadline) this.waiting.shift()(this.module);
    return this.waiting.length > 0;
  }
}
