/** Does drawing work in slices, so that no task holds up the page. */

/** How long one slice may take, in milliseconds. */
export const SLICE_MS = 10;
/** How much of what a job once took counts at its next turn: some turns have little to do. */
const REMEMBERED = 0.9;

/**
 * Calls jobs once per animation frame; a job that has more to do returns true and is called again.
 * A job that took longer last time than is left of the slice waits for the next frame: what several
 * answers draw is laid out and painted in the same task, and would add up.
 * A hidden page has no animation frames: a timer takes over.
 */
export class Pump {
  constructor() {
    this.jobs = new Set();
    /** What each job took, in milliseconds. */
    this.took = new WeakMap();
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
    const start = performance.now();
    const deadline = start + SLICE_MS;
    let now = start;
    for (const job of [...this.jobs]) {
      const usual = this.took.get(job) ?? 0;
      // The first is run in any case; those that wait stand in front next time.
      if (now > start && now + usual > deadline) break;
      this.jobs.delete(job);
      if (job(deadline)) this.jobs.add(job);
      const begun = now;
      now = performance.now();
      this.took.set(job, Math.max(now - begun, usual * REMEMBERED));
    }
    this.after?.();
    if (this.jobs.size) this.#schedule();
  }
}
