/** Scenes of the dialogue panel and of the comparison, for the eye and for tests. */
import { seen } from "./runs-scenes.js";

/** A scene shows a picture, and then presses buttons, by their labels. */
function scene(picture, ...labels) {
  return {
    before: (kernel) => {
      kernel.first = picture;
    },
    after: async () => {
      await seen(".wb-root:not(.wb-waiting)");
      for (const label of labels) (await seen(`.wb-root [aria-label="${label}"]`)).click();
    },
  };
}

/** The same, and then the kernel is gone. */
function gone(picture) {
  const { before, after } = scene(picture);
  return {
    before,
    after: async (kernel) => {
      await after();
      kernel.gone = true;
      document.querySelector(".wb-root").dispatchEvent(new CustomEvent("workbench:gone"));
    },
  };
}

export const DIALOGUE_SCENES = {
  setup: scene("setup"),
  missing: scene("missing"),
  ready: scene("ready"),
  speaking: scene("speaking"),
  lanes: scene("lanes"),
  paused: scene("paused"),
  approve: scene("approve"),
  edit: scene("approve", "Edit the turn"),
  failed: scene("failed"),
  ended: scene("ended"),
  branch: scene("ended", "Continue with another model"),
  stored: scene("ended", "Dialogues"),
  person: scene("ended", "Parameters of Bob"),
  drafted: scene("setup", "Parameters of participant 2"),
  kernelgone: gone("speaking"),
};

export const COMPARE_SCENES = {
  welcome: scene("welcome"),
  answered: scene("answered"),
  diff: scene("answered", "Differences"),
  failed: scene("failed"),
  ranking: scene("ranking", "Ranking"),
  changed: scene("changed"),
  streaming: scene("streaming"),
  stopped: scene("stopped"),
  blind: scene("blind"),
  missing: scene("missing"),
  side: scene("answered", "Parameters of gemma3:4b"),
  settings: scene("answered", "Settings"),
  kernelgone: gone("streaming"),
};
