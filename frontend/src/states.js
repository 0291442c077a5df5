/** States of a model in words; the dot beside the word has one of three colours. */
const STATES = {
  idle: ["in memory", "ready"],
  busy: ["answering", "ready"],
  loading: ["loading", "moving"],
  queued: ["waiting", "moving"],
  stopping: ["stopping", "moving"],
  releasing: ["unloading", "moving"],
  absent: ["not loaded", "cold"],
  unknown: ["state unknown", "cold"],
  hidden: ["state hidden until the vote", "cold"],
};

/** Return the word and the kind of dot for a state. */
export function stateWord(state) {
  return STATES[state] ?? [state ?? "state unknown", "cold"];
}
