/** The memory of each device: who holds how much of it, and what is free. */
import { memory, visible } from "../text.js";
import { h, setText, show } from "../view/dom.js";
import { paint, swatch } from "./swatch.js";
import { short } from "./words.js";

/** The bars. */
export class Devices {
  constructor(panel) {
    this.panel = panel;
    this.shown = new Map();
    this.none = h("p", { class: "wbm-detail", hidden: true });
    this.body = h("div", { class: "wbm-device-list" });
    this.el = h("section", { class: "wbm-devices", "aria-label": "Memory of the devices" }, this.body, this.none);
  }

  update(picture) {
    const ids = picture.devices.map((device) => device.id);
    for (const [id, bar] of this.shown) {
      if (ids.includes(id)) continue;
      bar.el.remove();
      this.shown.delete(id);
    }
    for (const device of picture.devices) {
      let bar = this.shown.get(device.id);
      if (!bar) {
        bar = new DeviceBar(this.panel);
        this.shown.set(device.id, bar);
        this.body.append(bar.el);
      }
      bar.update(device);
    }
    show(this.none, !picture.devices.length);
    const reason = picture.env?.gpu_reason;
    setText(this.none, reason ? `Memory unknown: ${visible(reason)}` : "No device has told its memory yet.");
  }
}

class DeviceBar {
  constructor(panel) {
    this.panel = panel;
    this.name = h("span", { class: "wbm-device-name" });
    this.facts = h("span", { class: "wbm-detail" });
    this.total = h("span", { class: "wbm-device-total" });
    this.bar = h("div", { class: "wbm-device-bar", role: "img" });
    this.legend = h("ul", { class: "wbm-legend" });
    this.reason = h("p", { class: "wbm-detail", hidden: true });
    this.el = h(
      "div",
      { class: "wbm-device" },
      h("div", { class: "wbm-device-head" }, this.name, this.facts, this.total),
      this.bar,
      this.legend,
      this.reason,
    );
  }

  update(device) {
    setText(this.name, visible(device.name ?? device.id));
    setText(this.facts, factsOf(device));
    const { total_bytes: total, free_bytes: free } = device;
    setText(this.total, totals(device));
    const parts = partsOf(device);
    const known = Boolean(total);
    show(this.bar, known);
    if (known) this.#drawBar(device, parts, total);
    this.#drawLegend(parts, free);
    // That a host has no thermometer needs no line; that its memory is unknown does.
    const reason = visible(device.reason ?? "");
    const matters = device.kind === "declared" || [total, device.used_bytes, free].some((value) => typeof value !== "number");
    show(this.reason, matters && Boolean(reason));
    setText(this.reason, reason);
    this.facts.title = [device.source && `Source: ${device.source}`, reason].filter(Boolean).join("\n");
  }

  #drawBar(device, parts, total) {
    while (this.bar.childElementCount > parts.length) this.bar.lastElementChild.remove();
    parts.forEach((part, at) => {
      const el = this.bar.children[at] ?? this.bar.appendChild(h("span", { class: "wbm-fill" }));
      el.classList.toggle("wbm-others", part.others);
      paint(el, part.others ? null : this.panel.rowOf(part.name, part.backend));
      el.style.width = `${Math.max(0, Math.min(100, (100 * part.bytes) / total))}%`;
      el.title = `${part.label}: ${memory(part.bytes)}`;
    });
    const told = parts.map((part) => `${part.label} ${memory(part.bytes)}`);
    if (typeof device.free_bytes === "number") told.push(`free ${memory(device.free_bytes)}`);
    this.bar.setAttribute("aria-label", `${device.name ?? device.id}: ${told.join(", ")} of ${memory(total)}`);
  }

  #drawLegend(parts, free) {
    const key = JSON.stringify([parts, free]);
    if (key === this.key) return;
    this.key = key;
    const items = parts.map((part) =>
      h(
        "li",
        {},
        part.others ? h("span", { class: "wbm-swatch wbm-fill wbm-others", "aria-hidden": "true" }) : swatch(this.panel.rowOf(part.name, part.backend)),
        h("span", {}, part.label),
        h("span", { class: "wbm-bytes" }, memory(part.bytes)),
      ),
    );
    if (typeof free === "number")
      items.push(
        h("li", {}, h("span", { class: "wbm-swatch wbm-free", "aria-hidden": "true" }), h("span", {}, "free"), h("span", { class: "wbm-bytes" }, memory(free))),
      );
    this.legend.replaceChildren(...items);
  }
}

function totals({ total_bytes: total, used_bytes: used }) {
  if (!total) return "memory unknown";
  return typeof used === "number" ? `${memory(used)} of ${memory(total)}` : `${memory(total)}, use unknown`;
}

function partsOf(device) {
  const parts = (device.models ?? [])
    .filter((model) => model.bytes > 0)
    .map((model) => ({ name: model.name, backend: model.backend, bytes: model.bytes, label: visible(short(model.name)), others: false }));
  if (device.other_bytes > 0) parts.push({ bytes: device.other_bytes, label: "other programs", others: true });
  return parts;
}

function factsOf(device) {
  return [
    typeof device.utilization_pct === "number" && `${Math.round(device.utilization_pct)} % busy`,
    typeof device.temperature_c === "number" && `${Math.round(device.temperature_c)} °C`,
    typeof device.power_w === "number" && `${Math.round(device.power_w)} W`,
    device.kind === "declared" && "declared",
  ]
    .filter(Boolean)
    .join(" · ");
}
