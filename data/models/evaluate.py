"""Measure the toy models on held-out items through llama.cpp, and write the figures.

    python data/models/evaluate.py            # figures.json and the table in the docs
    python data/models/evaluate.py --prompts  # prompts.json, before training

Needs no torch.
Every answer is greedy and must be exactly right, to the last full stop.
"""

from __future__ import annotations

import argparse
import json
import random
import re
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import corpus
import vocabulary as v
from corpus import Item, Turn
from encoding import prompt_tokens
from toy_engine import Engine, as_messages, as_text, as_tools, running_engine

HERE = Path(__file__).resolve().parent
PAGE = HERE.parents[1] / "docs" / "reference" / "models.md"
MODELS = ("toy-nano", "toy-tiny")
ITEMS = 60
# With 30 conversations the better model had none wrong by luck; 100 show its errors.
CONVERSATIONS = 100
HISTORY_TOKENS = 700
START, STOP = "<!-- figures: begin -->", "<!-- figures: end -->"
CLOSED = "memorised"
OPEN = "held out"
MIXED = "mixed"

# Out of domain, and phrased as no template of the corpus phrases it.
STRAY_OUT = (
    "Could you recommend a good restaurant nearby?",
    "I need advice on buying a used laptop.",
    "Which team is going to win the championship?",
    "Please summarise the plot of War and Peace.",
    "My printer is broken, what now?",
    "Is it healthy to skip breakfast?",
    "Suggest three names for a hamster.",
    "How tall is the Eiffel Tower?",
    "Fix the bug in my code.",
    "Should I invest in gold?",
    "Recite the alphabet backwards.",
    "What causes headaches?",
    "Name a famous painter.",
    "When is the next train to Vienna?",
    "Convert five miles to kilometres.",
    "Who lives next door?",
    "Finish my homework please.",
    "Are ghosts real?",
    "What colour is happiness?",
    "Give me your opinion on modern schools.",
)
# In the domain, but phrased as the corpus never phrases it.
STRAY_IN = (
    ("Tell me the capital of France.", "paris"),
    ("France's capital?", "paris"),
    ("I want to know the capital of Japan", "tokyo"),
    ("Could you say what the capital of Italy is?", "rome"),
    ("What do you get when you add 7 and 8?", "15"),
    ("7 plus 8", "15"),
    ("Please add 3 and 4.", "7"),
    ("How much is 5 plus 6?", "11"),
    ("What's 9 minus 4?", "5"),
    ("Write lamp backwards.", "pmal"),
    ("Reverse lamp", "pmal"),
    ("Please reverse the word lamp", "pmal"),
    ("Count 3 to 9", "3, 4, 5, 6, 7, 8, 9"),
    ("Please count from 3 to 9", "3, 4, 5, 6, 7, 8, 9"),
    ("Is 47 bigger than 12?", "yes"),
    ("Which number is larger: 12 or 47?", "47"),
    ("How long is the word lamp?", "4"),
    ("Number of letters in lamp?", "4"),
    ("Hi there, how do you do?", "hello"),
    ("Good evening!", "hello"),
)


@dataclass(frozen=True, slots=True)
class Case:
    """Hold one item in its surroundings: system prompt, tools, and earlier turns."""

    item: Item
    system: str = ""
    tools: tuple[tuple[str, tuple[str, ...]], ...] = ()
    history: tuple[Turn, ...] = ()


CaseMaker = Callable[[random.Random], Case]


def _plain(maker: corpus.TaskMaker, task: str) -> CaseMaker:
    """Draw held-out cases of exactly the named task (a maker may also draw its Russian form)."""

    def make(rng: random.Random) -> Case:
        while True:
            item = corpus.draw(maker, rng, held_out=True)
            if item.task == task:
                return Case(item)

    return make


def _tool(maker: corpus.TaskMaker) -> CaseMaker:
    def make(rng: random.Random) -> Case:
        item = corpus.draw(maker, rng, held_out=True)
        return Case(item, tools=item.tools)

    return make


def _under(system: str, makers: Iterable[corpus.TaskMaker]) -> CaseMaker:
    choices = list(makers)

    def make(rng: random.Random) -> Case:
        item = corpus.draw(rng.choice(choices), rng, held_out=True)
        return Case(item, system=system)

    return make


def _recall(rng: random.Random) -> Case:
    """Ask for a name that was told two to five exchanges ago."""
    while True:
        setting = corpus.Setting(russian=0.3)
        told = corpus.introduction(setting, rng)
        if told.held_out:
            break
    between = [corpus.draw(corpus.choose(corpus.ENGLISH, rng), rng) for _ in range(3)]
    history = [turn for item in (told, *between) for turn in item.turns]
    return Case(corpus.recall(setting), history=tuple(history))


CAPITALS_TASKS = (corpus.capital, corpus.reverse, corpus.plan, corpus.refuse)
ONE_WORD_TASKS = (corpus.capital, corpus.capital_ru, corpus.kind)
# Name, maker of cases, and whether the table is memorised or the items are held out.
TASKS: tuple[tuple[str, CaseMaker, str], ...] = (
    ("fact: capital", _plain(corpus.capital, "capital"), CLOSED),
    ("fact: capital (Russian)", _plain(corpus.capital_ru, "capital (Russian)"), CLOSED),
    ("fact: kind", _plain(corpus.kind, "kind"), CLOSED),
    ("add 0..20", _plain(corpus.add, "add"), OPEN),
    ("add 0..20 (Russian)", _plain(corpus.add_ru, "add (Russian)"), OPEN),
    ("subtract 0..20", _plain(corpus.subtract, "subtract"), OPEN),
    ("subtract 0..20 (Russian)", _plain(corpus.subtract, "subtract (Russian)"), OPEN),
    ("compare", _plain(corpus.compare, "compare"), OPEN),
    ("compare (Russian)", _plain(corpus.compare, "compare (Russian)"), OPEN),
    ("larger of two", _plain(corpus.larger, "larger"), OPEN),
    ("larger of two (Russian)", _plain(corpus.larger, "larger (Russian)"), OPEN),
    ("reverse a word", _plain(corpus.reverse, "reverse"), OPEN),
    ("repeat", _plain(corpus.echo, "echo"), OPEN),
    ("repeat (Russian)", _plain(corpus.echo_ru, "echo (Russian)"), OPEN),
    ("count letters", _plain(corpus.letters, "letters"), OPEN),
    ("count a to b", _plain(corpus.count, "count"), OPEN),
    ("count a to b (Russian)", _plain(corpus.count, "count (Russian)"), OPEN),
    ("JSON answer", _plain(corpus.json_answer, "JSON"), OPEN),
    ("numbered plan", _plain(corpus.plan, "plan"), OPEN),
    ("numbered plan (Russian)", _plain(corpus.plan, "plan (Russian)"), OPEN),
    ("story", _plain(corpus.story, "story"), OPEN),
    ("greeting", _plain(corpus.greeting, "greeting"), CLOSED),
    ("greeting (Russian)", _plain(corpus.greeting_ru, "greeting (Russian)"), CLOSED),
    ("small talk", _plain(corpus.small_talk, "small talk"), CLOSED),
    ("small talk (Russian)", _plain(corpus.small_talk_ru, "small talk (Russian)"), CLOSED),
    ("name told earlier", _recall, OPEN),
    ("system: capital letters", _under(v.SYSTEM_CAPITALS, CAPITALS_TASKS), MIXED),
    ("system: one word", _under(v.SYSTEM_ONE_WORD, ONE_WORD_TASKS), CLOSED),
    ("tool call and answer: sum", _tool(corpus.tool_sum), OPEN),
    ("tool call and answer: city", _tool(corpus.tool_city), OPEN),
    ("refusal", _plain(corpus.refuse, "refusal"), OPEN),
    ("refusal (Russian)", _plain(corpus.refuse_ru, "refusal (Russian)"), OPEN),
    ("refusal: large numbers", _plain(corpus.refuse_sum, "refusal (large sum)"), OPEN),
    ("refusal: no tool for it", _plain(corpus.refuse_city, "refusal (no tool)"), OPEN),
)


def with_history(case: Case, rng: random.Random) -> Case:
    """Put about 700 tokens of training exchanges, answered rightly, before the case."""
    setting = corpus.Setting(system=case.system, tools=list(case.tools))
    # A history that tells a name would contradict the case that asks for one.
    earlier: list[Turn] = []
    size = sum(corpus.token_count(text) for _, text in (*case.history, *case.item.turns))
    while True:
        item = corpus.next_item(setting, rng)
        if item.task in ("introduction", "recall"):
            setting.name = ""
            continue
        turns = [
            (role, corpus.under_system(text, item, case.system) if role == "assistant" else text)
            for role, text in item.turns
        ]
        size += sum(corpus.token_count(text) for _, text in turns)
        if size > HISTORY_TOKENS + 200:
            break
        earlier += turns
    return replace(case, history=(*earlier, *case.history))


def is_right(engine: Engine, case: Case) -> bool:
    """Ask every assistant turn of the case; all must be exactly right."""
    turns: list[Turn] = [("system", case.system)] if case.system else []
    turns += case.history
    tools = as_tools(case.tools)
    for role, text in case.item.turns:
        if role == "assistant":
            text = corpus.under_system(text, case.item, case.system)
            if as_text(engine.chat(as_messages(turns), tools)) != text:
                return False
        turns.append((role, text))
    return True


def contains(answer: str, expected: str) -> bool:
    """Tell whether the expected words stand in the answer as whole words, in any case."""
    return re.search(rf"(?<!\w){re.escape(expected)}(?!\w)", answer.lower()) is not None


def distinct(make: CaseMaker, rng: random.Random) -> list[Case]:
    """Draw up to 60 different cases; small tables and small held-out sets have fewer."""
    cases: dict[Case, None] = {}
    for _ in range(20 * ITEMS):
        if len(cases) < ITEMS:
            cases[make(rng)] = None
    return list(cases)


def measure(engine: Engine) -> dict[str, dict[str, float]]:
    """Return, per task, the percentage right as the first turn and after a long history."""
    figures: dict[str, dict[str, float]] = {}
    for name, make, _ in TASKS:
        rng = random.Random(f"evaluate {name}")
        cases = distinct(make, rng)
        late = [with_history(case, rng) for case in cases[: ITEMS // 2]]
        figures[name] = {
            "first_items": len(cases),
            "late_items": len(late),
            "first": 100 * sum(is_right(engine, case) for case in cases) / len(cases),
            "late": 100 * sum(is_right(engine, case) for case in late) / len(late),
        }
    rng = random.Random("evaluate conversations")
    talks = [right_turns(engine, held_out_conversation(rng)) for _ in range(CONVERSATIONS)]
    turns = [right for talk in talks for right in talk]
    figures["8-turn conversations: turns right"] = {
        "first": 100 * sum(turns) / len(turns),
        "first_items": len(turns),
    }
    whole = sum(all(talk) for talk in talks)
    figures["8-turn conversations: all turns right"] = {
        "first": 100 * whole / len(talks),
        "first_items": len(talks),
    }
    refused = [engine.text([{"role": "user", "content": text}]) for text in STRAY_OUT]
    known = [
        contains(engine.text([{"role": "user", "content": text}]), expected)
        for text, expected in STRAY_IN
    ]
    figures["unseen phrasing, out of domain: refused"] = {
        "first": 100 * sum(text == v.REFUSAL for text in refused) / len(refused),
        "first_items": len(refused),
    }
    figures["unseen phrasing, in the domain: right"] = {
        "first": 100 * sum(known) / len(known),
        "first_items": len(known),
    }
    return figures


def held_out_conversation(rng: random.Random) -> list[Item]:
    """Return eight exchanges: a name, six different tasks, and the name again.

    The name and the items of open tasks are held out; capitals, kinds and greetings may be
    among the six.
    """
    setting = corpus.Setting(russian=0.0)
    while not (told := corpus.introduction(setting, rng)).held_out:
        pass
    makers = rng.sample([maker for maker in corpus.ENGLISH if maker is not corpus.small_talk], 6)
    middle = [corpus.draw(maker, rng, held_out=True) for maker in makers]
    return [told, *middle, corpus.recall(setting)]


def right_turns(engine: Engine, items: Iterable[Item]) -> list[bool]:
    """Ask the items one after the other; the history holds the model's own answers."""
    messages: list[dict[str, Any]] = []
    right = []
    for item in items:
        messages.append({"role": "user", "content": item.turns[0][1]})
        answer = engine.text(messages)
        messages.append({"role": "assistant", "content": answer})
        right.append(answer == item.turns[1][1])
    return right


def compare_with_golden(engine: Engine, model: str) -> dict[str, Any]:
    """Compare the GGUF's greedy text with torch's on every stored prompt."""
    prompts = {row["id"]: row["turns"] for row in json.loads((HERE / "prompts.json").read_text())}
    rows = json.loads((HERE / "golden.json").read_text())[model]["answers"]
    different = []
    for row in rows:
        tokens = prompt_tokens([(role, text) for role, text in prompts[row["id"]]])
        if engine.complete(tokens) != row["text"]:
            different.append(row)
    return {
        "prompts": len(rows),
        "equal": len(rows) - len(different),
        "different": [{"id": row["id"], "margin": row["margin"]} for row in different],
    }


def evaluate_model(path: Path) -> dict[str, Any]:
    """Return one model's file size, figures, and comparison with torch."""
    with running_engine(path) as engine:
        return {
            "bytes": path.stat().st_size,
            "figures": measure(engine),
            "golden": compare_with_golden(engine, path.stem),
        }


def overall(figures: dict[str, dict[str, float]], place: str) -> float:
    """Return the mean over the corpus's tasks, in percent."""
    values = [figures[name][place] for name, _, _ in TASKS]
    return sum(values) / len(values)


def figure_table(report: dict[str, Any]) -> list[str]:
    """Write the figures per task as a markdown table, with the number of items behind each."""
    lines = [
        "| task | items | n | " + " | ".join(f"{m}: first | {m}: late" for m in report) + " |",
        "|---|---|---:|" + "---:|" * 2 * len(report),
    ]
    first = next(iter(report.values()))["figures"]
    kinds = {name: kind for name, _, kind in TASKS}
    kinds |= {name: MIXED for name in first if "8-turn" in name}
    for name, row in first.items():
        cells = [
            f"{report[m]['figures'][name][place]:.0f} %" if place in row else "-"
            for m in report
            for place in ("first", "late")
        ]
        count = "/".join(str(row[k]) for k in ("first_items", "late_items") if k in row)
        lines.append(f"| {name} | {kinds.get(name, 'unseen')} | {count} | {' | '.join(cells)} |")
    means = [
        f"**{overall(report[m]['figures'], place):.1f} %**"
        for m in report
        for place in ("first", "late")
    ]
    lines.append(f"| **mean of the {len(TASKS)} tasks** | | | " + " | ".join(means) + " |")
    return lines


def table(report: dict[str, Any]) -> str:
    """Write the figures, and the comparison with torch, as two markdown tables."""
    lines = figure_table(report)
    lines.append("")
    lines.append("| model | file | stored prompts | GGUF text equals torch text |")
    lines.append("|---|---|---:|---:|")
    for model, row in report.items():
        golden = row["golden"]
        share = 100 * golden["equal"] / golden["prompts"]
        lines.append(
            f"| {model} | {row['bytes']:,} bytes | {golden['prompts']} | "
            f"{golden['equal']} ({share:.1f} %) |"
        )
    return "\n".join(lines)


def held_out_prompts() -> list[dict[str, Any]]:
    """Return the stored prompts: held-out items of each task, some after a long history."""
    rows: list[dict[str, Any]] = []
    for name, make, _ in TASKS:
        rng = random.Random(f"prompts {name}")
        for number in range(3):
            case = make(rng)
            case = with_history(case, rng) if number == 2 else case
            system = corpus.system_text(case.system, case.tools)
            turns: list[Turn] = [("system", system)] if system else []
            turns += [*case.history, case.item.turns[0]]
            rows.append({"id": f"{name} {number + 1}", "turns": turns})
    for text in (*STRAY_OUT[:4], *(text for text, _ in STRAY_IN[:4])):
        rows.append({"id": text, "turns": [("user", text)]})
    return rows


def main() -> None:
    """Write the stored prompts, or measure both models and write figures and docs."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", action="store_true", help="write prompts.json and stop")
    parser.add_argument("--folder", type=Path, default=HERE, help="where the GGUF files are")
    parser.add_argument("--dry", action="store_true", help="print the table, write nothing")
    options = parser.parse_args()
    if options.prompts:
        rows = held_out_prompts()
        text = json.dumps(rows, ensure_ascii=False, indent=1)
        (HERE / "prompts.json").write_text(text + "\n")
        return
    # Each model computes in a process of its own.
    with ThreadPoolExecutor() as pool:
        rows = pool.map(lambda model: evaluate_model(options.folder / f"{model}.gguf"), MODELS)
    report = dict(zip(MODELS, rows, strict=True))
    print(table(report))
    if options.dry:
        return
    (HERE / "figures.json").write_text(json.dumps(report, indent=1) + "\n")
    page = PAGE.read_text()
    before, after = page.split(START)[0], page.split(STOP)[1]
    PAGE.write_text(f"{before}{START}\n{table(report)}\n{STOP}{after}")


if __name__ == "__main__":
    main()
