/**
 * The one plotly.js of a page, shared by every panel on it.
 *
 * It has 4.8 MB, so it is not part of a bundle: the first panel that draws asks its kernel, which
 * sends the file of the plotly wheel once as a buffer.
 */

/** After so long without an answer it is asked for again: a notebook loses messages. */
const AGAIN_MS = 15000;

/** What the page holds; all bundles on it see the same. */
function page() {
  window.workbenchPlotly ??= { module: null, askedAt: null, waiting: [] };
  return window.workbenchPlotly;
}

/** One panel's way to the library. */
export class PlotlyLibrary {
  /** @param {() => void} ask Asks the kernel for the file. */
  constructor(ask) {
    this.ask = ask;
    this.needed = false;
  }

  /** The library, or null while it is not there. */
  get module() {
    return page().module;
  }

  /**
   * Call back with the library, now or when it comes.
   * @param {(plotly: object) => void} then
   */
  when(then) {
    if (this.module) return then(this.module);
    this.needed = true;
    page().waiting.push(then);
    return this.tick();
  }

  /** Ask, or ask again when the answer was lost. */
  tick() {
    const held = page();
    if (!this.needed || held.module) return;
    const now = performance.now();
    if (held.askedAt !== null && now - held.askedAt < AGAIN_MS) return;
    held.askedAt = now;
    this.ask();
  }

  /**
   * Take the file; the page runs it once.
   * @param {BufferSource} source
   */
  async load(source) {
    const held = page();
    if (held.module || held.loading) return;
    held.loading = true;
    const former = window.Plotly;
    const url = URL.createObjectURL(new Blob([source], { type: "text/javascript" }));
    try {
      await run(url);
      held.module = window.Plotly;
    } finally {
      held.loading = false;
      URL.revokeObjectURL(url);
      // Another plotly of the page stays what it was.
      if (former === undefined) delete window.Plotly;
      else window.Plotly = former;
    }
    for (const then of held.waiting.splice(0)) then(held.module);
  }
}

function run(url) {
  return new Promise((resolve, reject) => {
    const script = document.createElement("script");
    script.src = url;
    script.onload = resolve;
    script.onerror = () => reject(new Error("plotly.js could not be run"));
    document.head.append(script);
    script.remove();
  });
}
