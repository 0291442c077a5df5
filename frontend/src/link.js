/** The comm to the kernel; notices when it is gone. */

/** Sends messages of the view and hands on those of the kernel. */
export class Link {
  /**
   * @param {object} model The anywidget model.
   * @param {{message: (content: object, buffers: DataView[]) => void, gone: () => void}} on
   */
  constructor(model, on) {
    this.model = model;
    this.on = on;
    this.gone = false;
    this.take = (content, buffers) => on.message(content, buffers ?? []);
    // Widget managers say so when the kernel restarts.  anywidget hands on the event, and not the
    // flag: a comm that is alive is said to be so before there is a view.
    this.live = () => {
      if (model.comm_live !== true) this.lose();
    };
    model.on("msg:custom", this.take);
    model.on("comm_live_update", this.live);
  }

  /**
   * Send a message.
   * @param {object} content
   * @param {ArrayBuffer[]} [buffers]
   * @returns {boolean} Whether it could be sent.
   */
  send(content, buffers) {
    if (this.gone) return false;
    try {
      const sent = this.model.send(content, undefined, buffers);
      sent?.catch?.(() => this.lose());
      return true;
    } catch {
      this.lose();
      return false;
    }
  }

  /** Take the kernel for gone. */
  lose() {
    if (this.gone) return;
    this.gone = true;
    this.on.gone();
  }

  /** Listen no more. */
  close() {
    this.model.off?.("msg:custom", this.take);
    this.model.off?.("comm_live_update", this.live);
  }
}
