/** Setting a dialogue up: who talks about what, in which order, and when it ends. */
import { h, icon, iconButton, show, textButton } from "../view/dom.js";
import { fillModels, Follower, labelled, numberIn } from "./fields.js";

const ORDERS = [
  ["round_robin", "One after the other"],
  ["broadcast", "Everybody to each round"],
  ["debate", "Debate"],
  ["moderated", "A moderator picks"],
];
const HUMANS = [
  ["off", "Reads along"],
  ["interject", "May say something"],
  ["approve", "Approves each turn"],
];
const MOST = 6;
const NAMES = ["Ada", "Ben", "Cleo", "Dan", "Eve", "Finn"];

/** What is shown while there is no dialogue. */
export class SetupForm {
  /** @param {import("./panel.js").DialogueView} panel */
  constructor(panel) {
    this.panel = panel;
    this.follower = new Follower();
    this.rows = [];
    this.#build();
  }

  #build() {
    this.opening = h("textarea", {
      class: "wb-field wb-opening",
      rows: "3",
      "aria-label": "Opening",
      placeholder: "What are they to talk about?",
      on: { change: () => this.#set({ opening: this.opening.value }), keydown: (event) => this.#key(event) },
    });
    this.people = h("div", { class: "wb-people", role: "group", "aria-label": "Participants" });
    this.add = textButton("Add a participant", () => this.#add(), { class: "wb-add", text: "Add a participant" });
    this.el = h(
      "div",
      { class: "wb-setup", hidden: true },
      h(
        "div",
        { class: "wb-setup-column" },
        h("h2", {}, "Let models talk to each other"),
        labelled("They talk about", this.opening, { class: "wb-wide" }),
        h("div", { class: "wb-param" }, h("span", {}, "Participants"), this.people, this.add),
        h("div", { class: "wb-setup-fields" }, ...this.#main()),
        h("details", { class: "wb-setup-more" }, h("summary", {}, icon("chevron"), "More ways to end, and the seed"), h("div", { class: "wb-setup-fields" }, ...this.#more())),
      ),
    );
  }

  #select(label, options, change) {
    return h("select", { class: "wb-field", "aria-label": label, on: { change } }, ...options.map(([value, text]) => h("option", { value }, text)));
  }

  #number(label, change, props = {}) {
    const input = h("input", { class: "wb-field", type: "number", min: "1", step: "1", "aria-label": label, placeholder: "no limit", ...props });
    input.addEventListener("change", () => {
      const value = numberIn(input);
      if (value !== undefined) change(value);
    });
    return input;
  }

  #main() {
    this.order = this.#select("Order", ORDERS, () => this.#set({ order: this.order.value }));
    this.turns = this.#number("Turns", (turns) => this.#set({ turns }));
    this.human = this.#select("You", HUMANS, () => this.#set({ human: this.human.value }));
    this.moderator = h("select", { class: "wb-field", "aria-label": "Moderator", on: { change: () => this.#set({ moderator: this.moderator.value || null }) } });
    this.moderatorField = labelled("Moderator", this.moderator, { hidden: true });
    return [labelled("Order", this.order), labelled("Turns", this.turns), labelled("You", this.human), this.moderatorField];
  }

  #more() {
    const text = (label, name, placeholder) =>
      h("input", {
        class: "wb-field",
        "aria-label": label,
        placeholder,
        on: { change: (event) => this.#stop({ [name]: event.target.value.trim() || null }) },
      });
    this.phrase = text("Stops at a phrase", "phrase", "such as: agreed");
    this.tokens = this.#number("Stops after tokens", (tokens) => this.#stop({ tokens }));
    this.seconds = this.#number("Stops after seconds", (value) => this.#stop({ seconds: value }));
    this.question = text("Stops when a judge says yes to", "judge", "such as: Do they agree?");
    this.judge = h("select", { class: "wb-field", "aria-label": "Judge", on: { change: () => this.#set({ judge: this.judge.value || null }) } });
    this.seed = this.#number("Seed", (seed) => this.#set({ seed }), { placeholder: "drawn", min: "0" });
    return [
      labelled("Phrase that ends it", this.phrase),
      labelled("Most tokens", this.tokens),
      labelled("Most seconds", this.seconds),
      labelled("Seed", this.seed),
      labelled("A judge's yes ends it", this.question),
      labelled("Judge", this.judge),
    ];
  }

  /** Ctrl+Enter begins. */
  #key(event) {
    if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
    event.preventDefault();
    this.#set({ opening: this.opening.value });
    this.panel.send({ t: "start" });
  }

  get draft() {
    return this.panel.state.draft;
  }

  #set(changes) {
    this.panel.send({ t: "draft", set: changes });
  }

  #stop(changes) {
    this.#set({ stop: { ...this.draft.stop, ...changes } });
  }

  #add() {
    const { participants } = this.draft;
    const taken = new Set(participants.map((person) => person.name));
    const name = NAMES.find((free) => !taken.has(free)) ?? `Guest ${participants.length + 1}`;
    const { model, options } = participants.at(-1) ?? { model: this.panel.state.models[0]?.name ?? "", options: {} };
    this.#set({ participants: [...participants, { name, model, options }] });
  }

  update(state) {
    const { draft } = state;
    show(this.el, Boolean(draft));
    if (!draft) return;
    const set = (input, value) => this.follower.set(input, value);
    set(this.opening, draft.opening);
    set(this.order, draft.order);
    set(this.turns, draft.turns);
    set(this.human, draft.human);
    set(this.phrase, draft.stop.phrase);
    set(this.tokens, draft.stop.tokens);
    set(this.seconds, draft.stop.seconds);
    set(this.question, draft.stop.judge);
    set(this.seed, draft.seed);
    show(this.moderatorField, draft.order === "moderated");
    fillModels(this.moderator, state.models, draft.moderator, "Choose a model");
    fillModels(this.judge, state.models, draft.judge, "Choose a model");
    this.#drawPeople(draft.participants, state.models);
    show(this.add, draft.participants.length < MOST);
  }

  #drawPeople(people, models) {
    while (this.rows.length > people.length) this.#drop(this.rows.pop());
    while (this.rows.length < people.length) {
      const row = new PersonRow(this, this.rows.length);
      this.rows.push(row);
      this.people.append(row.el);
    }
    people.forEach((person, place) => this.rows[place].update(person, models, people.length > 1));
  }

  #drop(row) {
    this.panel.person.doors.delete(row.door);
    const inside = row.el.contains(document.activeElement);
    row.el.remove();
    if (inside) this.rows.at(-1)?.name.focus();
  }

  /** Change one participant of the draft. */
  change(place, changes) {
    const participants = this.draft.participants.map((person, at) => (at === place ? { ...person, ...changes } : person));
    this.#set({ participants });
  }

  /** Take one out. */
  remove(place) {
    this.#set({ participants: this.draft.participants.filter((_, at) => at !== place) });
  }
}

/** One participant that is being set up. */
class PersonRow {
  constructor(form, place) {
    this.form = form;
    this.place = place;
    this.follower = new Follower();
    this.name = h("input", {
      class: "wb-field wb-person-name",
      "aria-label": `Name of participant ${place + 1}`,
      on: { change: () => form.change(place, { name: this.name.value.trim() }) },
    });
    this.model = h("select", {
      class: "wb-field",
      "aria-label": `Model of participant ${place + 1}`,
      on: { change: () => form.change(place, { model: this.model.value }) },
    });
    this.door = form.panel.person.doorOf(`Parameters of participant ${place + 1}`, () => form.draft?.participants[place]?.name);
    this.removing = iconButton("close", `Remove participant ${place + 1}`, () => form.remove(place));
    this.el = h(
      "div",
      { class: "wb-person" },
      h("span", { class: "wb-swatch" }),
      this.name,
      this.model,
      this.door,
      this.removing,
    );
    this.el.dataset.colour = place % MOST;
  }

  update(person, models, several) {
    this.follower.set(this.name, person.name);
    fillModels(this.model, models, person.model, person.model ? null : "Choose a model");
    this.removing.disabled = !several;
  }
}
