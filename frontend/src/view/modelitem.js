/** One model of a picker: its state, what it can, and whether it fits into memory. */
import { stateWord } from "../states.js";
import { bytes, seconds } from "../text.js";
import { h } from "./dom.js";

/** Whether a model would fit into memory now: in words, and how good that is. */
const FITS = {
  alongside: ["fits beside what is loaded", "good"],
  alone: ["fits alone", "good"],
  offload: ["runs partly on the processor, slower", "mid"],
  too_large: ["too large for the memory", "high"],
};

/**
 * Make the entry of a model.
 * @param {object} row
 * @param {boolean} chosen
 * @param {() => void} onChoose
 */
export function modelItem(row, chosen, onChoose) {
  const [word, kind] = stateWord(row.state);
  const facts = [word];
  if (row.size_bytes) facts.push(bytes(row.size_bytes));
  if (row.load_s && kind === "cold") facts.push(`loads in ${seconds(row.load_s)}`);
  for (const skill of ["vision", "thinking", "tools"]) if (row[skill]) facts.push(skill);
  const fit = kind === "cold" && !row.remote ? FITS[row.fit?.verdict] : null;
  if (row.pinned) facts.push("pinned");
  if (row.remote) facts.push("elsewhere");
  const leaves = kind === "cold" && row.evicts?.length ? `unloads ${row.evicts.join(", ")}` : null;
  const room = [fit?.[0], leaves].filter(Boolean).join(" · ");
  return h(
    "button",
    {
      type: "button",
      role: "option",
      // The name replaces what stands inside: what a choice unloads must be heard as well.
      "aria-description": [...facts, room].filter(Boolean).join(", "),
      class: "wb-item wb-model-item",
      "aria-selected": String(chosen),
      "aria-label": `Use ${row.name}`,
      title: row.fit?.reason ?? null,
      on: { click: onChoose },
    },
    h("span", { class: "wb-dot", "data-kind": kind }),
    h(
      "span",
      { class: "wb-model-line" },
      h("span", { class: "wb-model-name" }, row.name),
      row.toy && h("span", { class: "wb-badge" }, "toy"),
    ),
    h("span", { class: "wb-model-facts" }, facts.join(" · ")),
    room && h("span", { class: "wb-fit", "data-level": leaves ? "mid" : fit[1] }, room),
  );
}
