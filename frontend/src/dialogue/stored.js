/** The drawer of dialogues that are on disk. */
import { Shelf, turnsOf } from "../view/shelf.js";

const KIND = {
  title: "Dialogues",
  one: "dialogue",
  begin: "Set up a new dialogue",
  list: "stored",
  id: "id",
  facts: (item) => [turnsOf(item), item.who.join(", ")],
};

/** The drawer. */
export class StoredDrawer extends Shelf {
  /** @param {import("./panel.js").DialogueView} panel */
  constructor(panel) {
    super(panel, KIND);
  }
}
