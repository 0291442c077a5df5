/** Files, images and variables that go with the next question. */
import { bytes, count, visible } from "../text.js";
import { h, icon, iconButton, show, textButton } from "./dom.js";
import { Menu, menuItem } from "./menu.js";

/** Larger files are refused before they travel. */
const LARGEST = 20 * 1024 * 1024;

/** The chips above the text, and the ways to add one. */
export class Attachments {
  constructor(chat) {
    this.chat = chat;
    this.key = "";
    this.chips = h("div", { class: "wb-chips", "aria-label": "Attachments", role: "list", hidden: true });
    this.file = h("input", {
      type: "file",
      multiple: true,
      hidden: true,
      "aria-label": "Choose files",
      on: { change: () => this.#chosen() },
    });
    this.menu = new Menu(
      iconButton("clip", "Attach", () => {}),
      {
        label: "Attach",
        fill: () => [
          menuItem("File or image …", () => this.#close(() => this.file.click())),
          menuItem("Variable of the notebook …", () => this.#close(() => this.#askName())),
        ],
      },
    );
    this.name = h("input", {
      class: "wb-field",
      "aria-label": "Variable name",
      placeholder: "df",
      spellcheck: "false",
      on: { keydown: (event) => this.#nameKey(event) },
    });
    this.form = h(
      "span",
      { class: "wb-var-form", hidden: true },
      this.file,
      this.name,
      textButton("Attach variable", () => this.#attachVariable(), { text: "Attach" }),
    );
  }

  #close(then) {
    this.menu.hide();
    then();
  }

  #askName() {
    show(this.form, true);
    this.name.focus();
  }

  #nameKey(event) {
    if (event.key === "Enter") this.#attachVariable();
    if (event.key === "Escape") {
      event.stopPropagation();
      show(this.form, false);
      this.chat.composer.focus();
    }
  }

  #attachVariable() {
    const name = this.name.value.trim();
    if (name) this.chat.send({ t: "attach_var", name });
    this.name.value = "";
    show(this.form, false);
    this.chat.composer.focus();
  }

  #chosen() {
    this.#add([...this.file.files]);
    this.file.value = "";
  }

  /** Send files to the kernel; it answers with a state that lists them. */
  async #add(files) {
    for (const file of files) {
      if (file.size > LARGEST) {
        this.chat.notices.show(
          "warn",
          `${file.name} is too large: ${bytes(file.size)}.`,
          `At most ${bytes(LARGEST)}.`,
        );
        continue;
      }
      const name = file.name || "pasted";
      this.chat.send({ t: "attach", name, mime: file.type }, [await file.arrayBuffer()]);
    }
  }

  /** Take files from the clipboard; text goes its usual way. */
  paste(event) {
    const files = [...(event.clipboardData?.files ?? [])];
    if (!files.length) return;
    event.preventDefault();
    this.#add(files);
  }

  /** Take files dropped anywhere on the chat. */
  acceptDrops(chat, target) {
    const holds = (event) => [...(event.dataTransfer?.types ?? [])].includes("Files");
    queueMicrotask(() => {
      const root = target.closest(".wb-root") ?? target;
      root.addEventListener("dragover", (event) => {
        if (!holds(event)) return;
        event.preventDefault();
        root.classList.add("wb-drop");
      });
      root.addEventListener("dragleave", (event) => {
        if (!root.contains(event.relatedTarget)) root.classList.remove("wb-drop");
      });
      root.addEventListener("drop", (event) => {
        root.classList.remove("wb-drop");
        if (!holds(event) || chat.state?.conv.read_only) return;
        event.preventDefault();
        this.#add([...event.dataTransfer.files]);
      });
    });
  }

  update(state) {
    const items = state.attachments ?? [];
    const key = JSON.stringify(items);
    if (key === this.key) return;
    this.key = key;
    const at = [...this.chips.children].findIndex((chip) => chip.contains(document.activeElement));
    show(this.chips, items.length > 0);
    this.chips.replaceChildren(...items.map((item) => this.#chip(item)));
    if (at < 0) return;
    // What was removed takes the focus with it: the next one gets it, else the text.
    const next = this.chips.children[Math.min(at, items.length - 1)]?.querySelector("button");
    if (next) next.focus();
    else this.chat.composer.focus();
  }

  #chip(item) {
    const size = [
      item.bytes ? bytes(item.bytes) : null,
      item.tokens_est ? `≈ ${count(item.tokens_est)} tokens` : null,
    ];
    return h(
      "span",
      { class: "wb-chip", role: "listitem" },
      icon(item.kind === "image" ? "image" : "file"),
      h("span", {}, visible(item.name)),
      h("small", {}, size.filter(Boolean).join(" · ")),
      iconButton("close", `Remove ${item.name}`, () => this.chat.send({ t: "detach", aid: item.aid })),
    );
  }
}
