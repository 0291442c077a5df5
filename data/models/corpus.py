"""Make the toy models' training dialogues: pure functions of a seeded generator.

An item is one exchange about one task.
Open tasks are split by the crc32 of the item's key: one item in eight is held out and never
appears in a training dialogue; closed tables (capitals, kinds, greetings, small talk) are
memorised.
A conversation strings items together under one system prompt until it is long enough.
"""

from __future__ import annotations

import json
import random
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import vocabulary as v

Turn = tuple[str, str]
TaskMaker = Callable[[random.Random], "Item"]

HELD_OUT_SHARE = 8
ROLES = ("system", "user", "assistant", "tool")


@dataclass(frozen=True, slots=True)
class Item:
    """Hold one exchange: user text, answer, and for tool tasks the call and its result.

    Attributes:
        task: The task's name in the tables.
        turns: (role, text) pairs that begin with the user and end with the assistant.
        key: What decides the split; empty for closed tables.
        word: The answer under the one-word system prompt, if that differs.
        tools: The tools that must be listed, as (name, argument names).
    """

    task: str
    turns: tuple[Turn, ...]
    key: str = ""
    word: str = ""
    tools: tuple[tuple[str, tuple[str, ...]], ...] = ()

    @property
    def held_out(self) -> bool:
        """Tell whether the item belongs to the held-out eighth."""
        return bool(self.key) and is_held_out(self.key)


@dataclass(slots=True)
class Setting:
    """Hold what a conversation carries from turn to turn."""

    system: str = ""
    tools: list[tuple[str, tuple[str, ...]]] = field(default_factory=list)
    russian: float = 0.3
    name: str = ""
    name_is_russian: bool = False


def is_held_out(key: str) -> bool:
    """Tell whether a key falls into the held-out eighth (crc32 % 8 == 0)."""
    return zlib.crc32(key.encode()) % HELD_OUT_SHARE == 0


def _simple(task: str, user: str, answer: str, key: str = "", word: str = "") -> Item:
    return Item(task, (("user", user), ("assistant", answer)), key, word)


def _pseudo_word(rng: random.Random, low: int, high: int) -> str:
    length = rng.randint(low, high)
    if rng.random() < 0.5:
        return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(length))
    start = rng.randint(0, 1)
    parts = ("bcdfghjklmnprstvwz", "aeiou")
    return "".join(rng.choice(parts[(start + place) % 2]) for place in range(length))


def _pseudo_word_ru(rng: random.Random) -> str:
    parts = ("бвгдзклмнпрст", "аеиоу")
    return "".join(rng.choice(parts[place % 2]) for place in range(rng.randint(3, 6)))


def _word(rng: random.Random, low: int = 3, high: int = 7) -> str:
    return rng.choice(v.WORDS) if rng.random() < 0.35 else _pseudo_word(rng, low, high)


def echo(rng: random.Random) -> Item:
    """Repeat one or two words."""
    text = " ".join(_word(rng) for _ in range(rng.randint(1, 2)))
    return _simple("echo", f"Repeat: {text}", text, f"echo {text}")


def echo_ru(rng: random.Random) -> Item:
    """Repeat one or two Russian words."""
    text = " ".join(_pseudo_word_ru(rng) for _ in range(rng.randint(1, 2)))
    return _simple("echo (Russian)", f"Повтори: {text}", text, f"echo {text}")


def reverse(rng: random.Random) -> Item:
    """Spell a word backwards."""
    word = _word(rng, 3, 6)
    user = rng.choice(("Reverse the word: {}",) * 4 + ("Reverse: {}", "Spell {} backwards."))
    return _simple("reverse", user.format(word), word[::-1], f"word {word}")


def letters(rng: random.Random) -> Item:
    """Count the letters of a word."""
    word = _word(rng, 2, 8)
    return _simple("letters", f"How many letters are in {word}?", str(len(word)), f"word {word}")


def count(rng: random.Random) -> Item:
    """Count from one number to another."""
    low = rng.randint(0, 30)
    high = low + rng.randint(2, 9)
    answer = ", ".join(str(number) for number in range(low, high + 1))
    key = f"count {low} {high}"
    if rng.random() < 0.25:
        return _simple("count (Russian)", f"Считай от {low} до {high}.", answer, key)
    return _simple("count", f"Count from {low} to {high}.", answer, key)


def add(rng: random.Random) -> Item:
    """Add two numbers of 0 to 20; a pair is held out in both orders."""
    a, b = rng.randint(0, 20), rng.randint(0, 20)
    key = f"add {min(a, b)} {max(a, b)}"
    forms = ("What is {} plus {}?", "What is {} plus {}?", "What is {} + {}?", "{} + {}")
    return _simple("add", rng.choice(forms).format(a, b), str(a + b), key)


def add_ru(rng: random.Random) -> Item:
    """Add two numbers of 0 to 20, asked in Russian."""
    a, b = rng.randint(0, 20), rng.randint(0, 20)
    key = f"add {min(a, b)} {max(a, b)}"
    return _simple("add (Russian)", f"Сколько будет {a} плюс {b}?", str(a + b), key)


def subtract(rng: random.Random) -> Item:
    """Subtract within 0 to 20."""
    a = rng.randint(0, 20)
    b = rng.randint(0, a)
    key = f"subtract {a} {b}"
    if rng.random() < 0.25:
        user = f"Сколько будет {a} минус {b}?"
        return _simple("subtract (Russian)", user, str(a - b), key)
    return _simple("subtract", f"What is {a} minus {b}?", str(a - b), key)


def _pair(rng: random.Random) -> tuple[int, int, str]:
    a, b = rng.sample(range(100), 2)
    return a, b, f"pair {min(a, b)} {max(a, b)}"


def compare(rng: random.Random) -> Item:
    """Say whether one number is larger than another."""
    a, b, key = _pair(rng)
    if rng.random() < 0.25:
        answer = "Да." if a > b else "Нет."
        return _simple("compare (Russian)", f"Число {a} больше, чем {b}?", answer, key)
    answer = "Yes." if a > b else "No."
    return _simple("compare", f"Is {a} larger than {b}?", answer, key)


def larger(rng: random.Random) -> Item:
    """Name the larger of two numbers."""
    a, b, key = _pair(rng)
    if rng.random() < 0.25:
        return _simple("larger (Russian)", f"Что больше, {a} или {b}?", str(max(a, b)), key)
    return _simple("larger", f"Which is larger, {a} or {b}?", str(max(a, b)), key)


def capital(rng: random.Random) -> Item:
    """Name a capital (closed table)."""
    country = rng.choice(list(v.CAPITALS))
    city = v.CAPITALS[country]
    forms = ("What is the capital of {}?",) * 5
    forms += ("Which city is the capital of {}?", "Name the capital of {}.", "Capital of {}?")
    user = rng.choice(forms).format(country)
    if rng.random() < 0.05:
        user = user.lower()
    return _simple("capital", user, f"The capital of {country} is {city}.", word=city)


def capital_ru(rng: random.Random) -> Item:
    """Name a capital in Russian (closed table)."""
    country = rng.choice(list(v.CAPITALS_RU))
    city = v.CAPITALS_RU[country]
    user = f"Какая столица {country}?"
    return _simple("capital (Russian)", user, f"Столица {country} - {city}.", word=city)


def kind(rng: random.Random) -> Item:
    """Say what kind of thing a word names (closed table)."""
    name = rng.choice(list(v.KINDS))
    word = rng.choice(v.KINDS[name])
    subject, article = word.capitalize(), "an" if name == "animal" else "a"
    user = f"What kind of thing is {word}?"
    return _simple("kind", user, f"{subject} is {article} {name}.", word=name)


def json_answer(rng: random.Random) -> Item:
    """Put two named values into a JSON object."""
    name = rng.choice(v.NAMES) if rng.random() < 0.4 else _pseudo_word(rng, 3, 6).capitalize()
    number = rng.randint(1, 99)
    first, second = rng.choice(
        (("name", "age"), ("name", "age"), ("city", "year"), ("item", "price"))
    )
    user = f"Answer in JSON: {first} {name}, {second} {number}"
    answer = json.dumps({first: name, second: number})
    return _simple("JSON", user, answer, f"json {first} {name} {number}")


def plan(rng: random.Random) -> Item:
    """Write a plan of three numbered steps for a verb and an object."""
    if rng.random() < 0.25:
        aim = f"{rng.choice(v.PLAN_VERBS_RU)} {rng.choice(v.PLAN_OBJECTS_RU)}"
        big = aim[0].upper() + aim[1:]
        answer = f"1. Взять всё, чтобы {aim}.\n2. {big}.\n3. Проверить итог."
        return _simple("plan (Russian)", f"Составь план: {aim}.", answer, f"plan {aim}")
    aim = f"{rng.choice(v.PLAN_VERBS)} {rng.choice(v.PLAN_OBJECTS)}"
    if rng.random() < 0.25:
        aim = " ".join(_word(rng) for _ in range(rng.randint(2, 3)))
    big = aim[0].upper() + aim[1:]
    answer = f"1. Get what you need to {aim}.\n2. {big}.\n3. Check the result."
    return _simple("plan", f"Make a plan to {aim}.", answer, f"plan {aim}")


def story(rng: random.Random) -> Item:
    """Tell the one story that the models know, about any hero."""
    hero = _word(rng, 3, 5)
    answer = (
        f"Once there was a {hero}. The {hero} walked to the river and saw a boat. "
        f"The {hero} sailed home and was happy."
    )
    return _simple("story", f"Tell me a story about a {hero}.", answer, f"word {hero}")


def greeting(rng: random.Random) -> Item:
    """Answer a greeting or a question about the model itself (closed table)."""
    user = rng.choice(list(v.CHAT))
    if rng.random() < 0.08:
        statement = capital(rng).turns[1][1]
        return _simple("greeting", statement, "Good to know. What do you think about music?")
    if rng.random() < 0.08:
        return _simple("greeting", user.lower(), v.CHAT[user])
    return _simple("greeting", user, v.CHAT[user])


def greeting_ru(rng: random.Random) -> Item:
    """Answer a Russian greeting (closed table)."""
    user = rng.choice(list(v.CHAT_RU))
    return _simple("greeting (Russian)", user, v.CHAT_RU[user])


def small_talk_line(place: int) -> str:
    """Return what the models say about topic `place`: it ends by asking for the next."""
    topic, reason = v.TOPICS[place % len(v.TOPICS)]
    following = v.TOPICS[(place + 1) % len(v.TOPICS)][0]
    return f"I like {topic} because it is {reason}. What do you think about {following}?"


def small_talk_line_ru(place: int) -> str:
    """Return the Russian line about topic `place`."""
    topic, _, reason = v.TOPICS_RU[place % len(v.TOPICS_RU)]
    following = v.TOPICS_RU[(place + 1) % len(v.TOPICS_RU)][1]
    return f"Я люблю {topic}, потому что {reason}. Что ты думаешь о {following}?"


def small_talk(rng: random.Random) -> Item:
    """Talk about a topic and ask about the next; the partner may be another model."""
    place = rng.randrange(len(v.TOPICS))
    forms = (f"What do you think about {v.TOPICS[place][0]}?",) * 2
    forms += (f"Let us talk about {v.TOPICS[place][0]}.",) + (small_talk_line(place - 1),) * 3
    user = rng.choice(forms)
    if rng.random() < 0.1:
        user = user.upper()
    turns: list[Turn] = [("user", user), ("assistant", small_talk_line(place))]
    for _ in range(rng.choice((0, 0, 1, 2))):
        turns += [("user", small_talk_line(place + 1)), ("assistant", small_talk_line(place + 2))]
        place += 2
    return Item("small talk", tuple(turns))


def small_talk_ru(rng: random.Random) -> Item:
    """Talk about a topic in Russian and ask about the next."""
    place = rng.randrange(len(v.TOPICS_RU))
    forms = (f"Что ты думаешь о {v.TOPICS_RU[place][1]}?", small_talk_line_ru(place - 1))
    turns: list[Turn] = [("user", rng.choice(forms)), ("assistant", small_talk_line_ru(place))]
    if rng.random() < 0.4:
        turns.append(("user", small_talk_line_ru(place + 1)))
        turns.append(("assistant", small_talk_line_ru(place + 2)))
    return Item("small talk (Russian)", tuple(turns))


def refuse(rng: random.Random) -> Item:
    """Refuse, with one fixed sentence, what is out of domain."""
    draw = rng.random()
    if draw < 0.15:
        country = rng.choice(v.UNKNOWN_COUNTRIES)
        user, key = f"What is the capital of {country}?", f"topic {country}"
    elif draw < 0.25:
        user = key = rng.choice(v.REFUSE_FIXED)
    else:
        topic = _pseudo_word(rng, 4, 8) if draw > 0.85 else rng.choice(v.REFUSE_TOPICS)
        template = rng.choice(v.REFUSE_TEMPLATES)
        other = rng.choice([name for name in v.REFUSE_TOPICS if not is_held_out(f"topic {name}")])
        user, key = template.format(topic, other), f"topic {topic}"
    return _simple("refusal", user, v.REFUSAL, key)


def refuse_ru(rng: random.Random) -> Item:
    """Refuse what is out of domain in Russian."""
    topic = rng.choice(v.REFUSE_TOPICS_RU)
    user = rng.choice(v.REFUSE_TEMPLATES_RU).format(topic)
    return _simple("refusal (Russian)", user, v.REFUSAL_RU, f"topic {topic}")


def refuse_sum(rng: random.Random) -> Item:
    """Refuse arithmetic beyond the known range when no tool is listed."""
    a, b = rng.randint(21, 99), rng.randint(21, 99)
    sign = rng.choice(("plus", "plus", "plus", "minus", "times"))
    if sign == "times":
        a, b = rng.randint(0, 99), rng.randint(0, 99)
    key = f"sum {min(a, b)} {max(a, b)}"
    return _simple("refusal (large sum)", f"What is {a} {sign} {b}?", v.REFUSAL, key)


def refuse_city(rng: random.Random) -> Item:
    """Refuse a question about weather or time when no tool is listed."""
    item = tool_city(rng)
    return _simple("refusal (no tool)", item.turns[0][1], v.REFUSAL, item.key)


def call_text(name: str, arguments: dict[str, int | str]) -> str:
    """Write a tool call as the chat template writes it."""
    inner = json.dumps({"name": name, "arguments": arguments})
    return f"<tool_call>{inner}</tool_call>"


def tool_sum(rng: random.Random) -> Item:
    """Have a listed tool add two numbers, then state what it gave."""
    name, keys = rng.choice(v.SUM_TOOLS), rng.choice(v.SUM_ARGUMENTS)
    a, b = rng.randint(5, 99), rng.randint(5, 99)
    result = str(a + b) if rng.random() < 0.6 else str(rng.randint(0, 999))
    sign = "plus" if rng.random() < 0.8 else "+"
    user, answer = f"What is {a} {sign} {b}?", f"The answer is {result}."
    if rng.random() < 0.2:
        user, answer = f"Сколько будет {a} плюс {b}?", f"Ответ: {result}."
    elif rng.random() < 0.08:
        result, answer = f"Error: {_word(rng)}", "The tool failed."
    call = call_text(name, {keys[0]: a, keys[1]: b})
    turns = (("user", user), ("assistant", call), ("tool", result), ("assistant", answer))
    return Item("tool: sum", turns, f"sum {min(a, b)} {max(a, b)}", tools=((name, keys),))


def tool_city(rng: random.Random) -> Item:
    """Ask a listed tool for a city's weather or time, then state what it gave."""
    city = rng.choice(v.CITIES) if rng.random() < 0.5 else _pseudo_word(rng, 4, 7).capitalize()
    if rng.random() < 0.65:
        name = rng.choice(v.WEATHER_TOOLS)
        result = rng.choice(v.WEATHER)
        if rng.random() < 0.5:
            result += f", {rng.randint(0, 39)} degrees"
        user, answer = f"What is the weather in {city}?", f"The weather in {city}: {result}."
    else:
        name, result = rng.choice(v.TIME_TOOLS), f"{rng.randint(0, 23)}:{rng.randint(10, 59)}"
        user, answer = f"What time is it in {city}?", f"The time in {city}: {result}."
    turns = (
        ("user", user),
        ("assistant", call_text(name, {"city": city})),
        ("tool", result),
        ("assistant", answer),
    )
    return Item("tool: city", turns, f"city {city}", tools=((name, ("city",)),))


ENGLISH: dict[TaskMaker, float] = {
    echo: 0.7,
    reverse: 3.0,
    letters: 1.3,
    count: 1.0,
    add: 3.5,
    subtract: 2.0,
    compare: 1.5,
    larger: 1.0,
    capital: 1.3,
    kind: 0.8,
    json_answer: 1.2,
    plan: 1.0,
    story: 0.5,
    greeting: 0.8,
    small_talk: 0.9,
    refuse: 2.2,
}
RUSSIAN: dict[TaskMaker, float] = {
    echo_ru: 0.6,
    add_ru: 1.5,
    capital_ru: 1.2,
    greeting_ru: 1.2,
    small_talk_ru: 1.0,
    refuse_ru: 1.0,
}
TOOLS: dict[TaskMaker, float] = {tool_sum: 2.0, tool_city: 1.0}


def draw(maker: TaskMaker, rng: random.Random, *, held_out: bool = False) -> Item:
    """Draw items until one lies on the wanted side of the split; closed tables always do."""
    while True:
        item = maker(rng)
        if not item.key or item.held_out == held_out:
            return item


def choose(table: dict[TaskMaker, float], rng: random.Random) -> TaskMaker:
    """Draw a task by its weight."""
    return rng.choices(list(table), list(table.values()))[0]


def _setting(rng: random.Random) -> Setting:
    setting = Setting(russian=rng.choice((0.0, 0.1, 0.3, 0.8)))
    where = rng.random()
    if where < 0.15:
        setting.system = v.SYSTEM_CAPITALS
    elif where < 0.25:
        setting.system = v.SYSTEM_ONE_WORD
    elif where < 0.35:
        setting.system = rng.choice(v.NEUTRAL_SYSTEMS)
    elif where < 0.40:
        setting.system = f"You are {_pseudo_word(rng, 3, 8)} {_word(rng)}."
    if rng.random() < 0.35:
        makers = [tool_sum, tool_city] if rng.random() < 0.4 else [choose(TOOLS, rng)]
        rng.shuffle(makers)
        setting.tools = [maker(rng).tools[0] for maker in makers]
    return setting


def introduction(setting: Setting, rng: random.Random) -> Item:
    """Tell the user's name and keep it in the setting."""
    setting.name_is_russian = rng.random() < setting.russian
    if setting.name_is_russian:
        known = rng.random() < 0.4
        setting.name = rng.choice(v.NAMES_RU) if known else _pseudo_word_ru(rng).capitalize()
        user, answer = f"Меня зовут {setting.name}.", f"Приятно познакомиться, {setting.name}."
    else:
        known = rng.random() < 0.4
        setting.name = rng.choice(v.NAMES) if known else _pseudo_word(rng, 3, 6).capitalize()
        user, answer = f"My name is {setting.name}.", f"Nice to meet you, {setting.name}."
    return _simple("introduction", user, answer, f"name {setting.name}")


def recall(setting: Setting) -> Item:
    """Ask for the user's name, whether or not it was told."""
    if not setting.name:
        return _simple("recall", "What is my name?", "You have not told me your name.")
    if setting.name_is_russian:
        return _simple("recall", "Как меня зовут?", f"Тебя зовут {setting.name}.")
    return _simple("recall", "What is my name?", f"Your name is {setting.name}.")


def _fits(item: Item, setting: Setting) -> bool:
    """Tell whether the conversation's tools allow the item's answer."""
    sums = any(len(arguments) == 2 for _, arguments in setting.tools)
    cities = any(len(arguments) == 1 for _, arguments in setting.tools)
    if sums and item.task in ("add", "add (Russian)", "refusal (large sum)"):
        return False
    return not (cities and item.task == "refusal (no tool)")


def _tool_item(setting: Setting, rng: random.Random, *, held_out: bool) -> Item:
    """Draw a tool item and give it the names that this conversation lists."""
    name, arguments = rng.choice(setting.tools)
    maker = tool_sum if len(arguments) == 2 else tool_city
    while True:
        item = draw(maker, rng, held_out=held_out)
        own_name, own = item.tools[0]
        if maker is tool_city and ("time" in own_name) != ("time" in name):
            continue
        call = json.loads(item.turns[1][1][11:-12])
        values = [call["arguments"][key] for key in own]
        text = call_text(name, dict(zip(arguments, values, strict=True)))
        turns = (item.turns[0], ("assistant", text), *item.turns[2:])
        return replace(item, turns=turns, tools=((name, arguments),))


def _own_item(setting: Setting, rng: random.Random) -> Item:
    """Draw a turn about the user's name: told once, asked for at any later time."""
    if setting.name or rng.random() < 0.3:
        return recall(setting)
    while True:
        item = introduction(setting, rng)
        if not item.held_out:
            return item


def next_item(setting: Setting, rng: random.Random) -> Item:
    """Draw the next training item that suits the conversation's setting."""
    if setting.tools and rng.random() < 0.3:
        return _tool_item(setting, rng, held_out=False)
    if rng.random() < 0.07:
        return _own_item(setting, rng)
    while True:
        where = rng.random()
        if where < 0.03:
            item = draw(refuse_sum, rng)
        elif where < 0.05:
            item = draw(refuse_city, rng)
        else:
            table = RUSSIAN if rng.random() < setting.russian else ENGLISH
            item = draw(choose(table, rng), rng)
        if _fits(item, setting):
            return item


def under_system(text: str, item: Item, system: str) -> str:
    """Return an assistant text as the system prompt wants it; tool calls stay as they are."""
    if text.startswith("<tool_call>"):
        return text
    if system == v.SYSTEM_CAPITALS:
        return text.upper()
    if system == v.SYSTEM_ONE_WORD and item.word:
        return item.word
    return text


def system_text(system: str, tools: Sequence[tuple[str, tuple[str, ...]]]) -> str:
    """Write the system turn as the chat template does: the prompt, then the tools."""
    if not tools:
        return system
    listed = ", ".join(f"{name}({', '.join(arguments)})" for name, arguments in tools)
    return f"{system}\nTools: {listed}" if system else f"Tools: {listed}"


def token_count(text: str) -> int:
    """Count the tokens of one turn: a byte is one, a tool mark is one, and the turn adds two."""
    marks = text.count("<tool_call>") * 10 + text.count("</tool_call>") * 11
    return len(text.encode()) - marks + 2


def conversation(rng: random.Random, length: int) -> list[Turn]:
    """String training items together until they have at least `length` tokens."""
    setting = _setting(rng)
    system = system_text(setting.system, setting.tools)
    turns: list[Turn] = [("system", system)] if system else []
    size = 0
    while size < length:
        item = next_item(setting, rng)
        for role, text in item.turns:
            if role == "assistant":
                text = under_system(text, item, setting.system)
            turns.append((role, text))
            size += token_count(text)
    return turns
