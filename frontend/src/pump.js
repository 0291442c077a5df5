/** Does drawing work in slices, so that no task holds up the page. */

/** How long one slice may take, in milliseconds. */
export const SLICE_MS = 10;

/**
 * Calls jobs once per animation frame; a job that has more to do returns true and is called again.
 * A hidden page has no animation frames: a timer takes over.
 */
export class Pump {
  constructor() {
    this.jobs = new Set();
    this.before = null;
    this.after = null;
    this.scheduled = false;
    this.closed = false;
  }

  /** @param {(deadline: number) => boolean} job */
  add(job) {
    this.jobs.add(job);
    this.#schedule();
  }

  /** Forget a job. */
  remove(job) {
    this.jobs.delete(job);
  }

  /** Stop for good. */
  close() {
    this.closed = true;
    this.jobs.clear();
  }

  #schedule() {
    if (this.scheduled || this.closed) return;
    this.scheduled = true;
    const run = () => {
      if (!this.scheduled) return;
      this.scheduled = false;
      cancelAnimationFrame(frame);
      clearTimeout(timer);
      this.#run();
    };
    const frame = requestAnimationFrame(run);
    const timer = setTimeout(run, 200);
  }

  #run() {
    if (this.closed) return;
    this.before?.();
    const deadline = performance.now() + SLICE_MS;
    for (const job of [...this.jobs]) {
      this.jobs.delete(job);
      if (job(deadline)) this.jobs.add(job);
      if (performance.now() >= deadline) break;
    }
    this.after?.();
    if (this.jobs.size) this.#schedule();
  }
}
