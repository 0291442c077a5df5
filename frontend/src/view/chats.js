/** The drawer of conversations. */
import { Shelf, turnsOf } from "./shelf.js";

const KIND = {
  title: "Conversations",
  one: "conversation",
  begin: "Begin a new conversation",
  list: "chats",
  id: "cid",
  facts: (item) => [turnsOf(item), item.model],
};

/** The drawer. */
export class ChatsDrawer extends Shelf {
  /** @param {import("./chat.js").ChatView} chat */
  constructor(chat) {
    super(chat, KIND);
  }

  begin() {
    super.begin();
    this.panel.composer.focus();
  }
}
