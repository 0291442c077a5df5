/** The drawer of one side's parameters: the chat's own, on a side in place of a conversation. */
import { setText } from "../view/dom.js";
import { ParamsDrawer } from "../view/params.js";

/** The drawer. */
export class SideDrawer extends ParamsDrawer {
  /** @param {import("./panel.js").CompareView} panel */
  constructor(panel) {
    const side = {
      get state() {
        return drawer.seen;
      },
      send: (message) => drawer.take(message),
    };
    super(side);
    const drawer = this;
    this.panel = panel;
    this.place = 0;
    this.seen = null;
    this.preset_ = null;
  }

  /** Open it for a side, or close it when it shows that one. */
  openFor(place) {
    const same = this.open && this.place === place;
    this.place = place;
    this.preset_ = null;
    if (this.panel.state) this.update(this.panel.state);
    this.markDoors();
    if (!same && this.open) return;
    this.panel.open(this);
  }

  /** Take what the chat's drawer would tell a conversation. */
  take(message) {
    const { sides } = this.panel.state.setup;
    const side = sides[this.place];
    if (!side) return;
    if (message.t === "config") this.#change({ system: message.system, params: message.params, think: message.think });
    else if (message.op === "use") this.#use(message.name);
    else if (message.op === "save") {
      const { system, params, think } = this.changed ?? side;
      this.preset_ = message.name;
      this.panel.send({ t: "preset", op: "save", name: message.name, system, params, think });
    } else this.panel.send(message);
  }

  #use(name) {
    const found = this.panel.state.presets.find((one) => one.name === name);
    if (!found) return;
    this.#change({ system: found.system, params: found.params, think: found.think });
    this.preset_ = name;
  }

  #change(fields) {
    const { sides } = this.panel.state.setup;
    this.changed = fields;
    this.preset_ = null;
    this.panel.setSides(sides.map((side, place) => (place === this.place ? { ...side, ...fields } : side)));
  }

  update(state) {
    const side = state.setup.sides[this.place];
    if (!side) {
      this.hide();
      return;
    }
    setText(this.el.querySelector("h2"), `Parameters of ${side.name}`);
    const conv = { cid: `${state.conv.cid}:${this.place}`, read_only: false };
    this.seen = { conv, system: side.system, params: side.params, think: side.think, presets: state.presets, preset: this.preset_ };
    super.update(this.seen);
  }
}
