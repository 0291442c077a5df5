/** The kernel's side of the dashboard in the page: a picture made by the real one, and what a person sent. */

/** Answers a view as the Python side does. */
export class MockDashboard {
  /** @param {object} picture What the page's server made of a real store. @param {ArrayBuffer} plotly */
  constructor({ details, ...picture }, plotly) {
    this.picture = picture;
    this.details = details;
    this.plotly = plotly;
    this.n = 0;
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

  sendState() {
    this.emit({ t: "state", v: 1, n: this.n, s: { ...this.picture, now: Date.now() / 1000 } });
  }

  take(message) {
    const takers = {
      hello: () => this.sendState(),
      sync: () => this.sendState(),
      beat: () => message.n !== this.n && this.sendState(),
      need: () => this.emit({ t: "mod", mod: "plotly" }, [new DataView(this.plotly)]),
      filter: () => this.set({ filters: { ...this.picture.filters, ...message.set } }),
      page: () => this.#page(message),
      detail: () => this.set({ detail: message.id === null ? null : (this.details[message.id] ?? { id: message.id, gone: true }) }),
      take: () => this.set({ said: { level: "ok", text: "600 requests written to", path: `/data/workbench-exports/requests-20261125-${message.what}`, at: Date.now() / 1000 } }),
      dismiss: () => this.set({ said: null }),
    };
    takers[message.t]?.();
  }

  #page({ by = this.picture.table.by, desc = this.picture.table.desc, offset = 0 }) {
    const rows = [...this.picture.table.rows].sort((a, b) => (a[by] < b[by] ? -1 : 1) * (desc ? -1 : 1));
    this.set({ table: { ...this.picture.table, by, desc, offset, rows } });
  }

  /** Change parts and tell the view. */
  set(parts) {
    Object.assign(this.picture, parts);
    this.emit({ t: "d", n: (this.n += 1), set: parts });
  }

  /** Change a chart and tell the view. */
  chart(name, chart) {
    this.picture.rows[name] = chart;
    this.emit({ t: "d", n: (this.n += 1), rows: { [name]: chart } });
  }
}
