"""A comparison as its view is told of it: plain JSON values.

While names are hidden nothing of them is in the picture: no name, no figure, no text before every
answer to the prompt has ended, and no error that could name a model.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from workbench.chat.compare import Comparison
from workbench.chat.compare_values import Answer, Asked, Contender
from workbench.chat.transcript import error_wire
from workbench.messages import GenerateConfig
from workbench.widgets.frames import LiveAnswer
from workbench.widgets.lanes import COLOURS
from workbench.widgets.snapshot import model_label, model_rows

if TYPE_CHECKING:
    from workbench.client.values import ModelInfo
    from workbench.evals.ranking import Ranking

Picture = dict[str, Any]
Pair = tuple[int, int]

LONGEST_LABEL = 120
_HIDDEN_ERROR = "This answer failed. The reason is told with the names."
HIDDEN_PROBLEM = "One of them cannot answer now; which one is told with the names."
HIDDEN_HINT = "Show the names to see which, and what to do."


def letter(position: int) -> str:
    """Return what the answer at a position is called: A, B and so on."""
    return chr(ord("A") + position) if position < 26 else str(position + 1)


def mid_of(comparison: Comparison, asked: Asked, position: int) -> str:
    """Return the address of an answer in the view: by its place, which tells nothing of it."""
    answer = asked.answers.get(comparison.sides(asked.index)[position])
    attempt = 0 if answer is None else answer.attempt
    return f"{comparison.id}:{asked.index}:{position}:{attempt}"


def place_of(comparison: Comparison, mid: str) -> tuple[Asked, str]:
    """Return the prompt and the name of the side that an address of the view means.

    Raises:
        ValueError: When it is none of this comparison.
    """
    cid, *numbers = mid.split(":")
    if cid != comparison.id or len(numbers) != 3:
        raise ValueError(f"no answer {mid!r}")
    prompt, position = int(numbers[0]), int(numbers[1])
    if not 0 <= prompt < len(comparison.asked) or not 0 <= position < len(comparison.names):
        raise ValueError(f"no answer {mid!r}")
    return comparison.asked[prompt], comparison.sides(prompt)[position]


def is_held(comparison: Comparison, asked: Asked) -> bool:
    """Whether answers wait for each other: shown one by one their speed would tell of them."""
    return comparison.hidden(asked.index) and not all(one.ended for one in asked.answers.values())


def turns_of(comparison: Comparison, asked: Asked, live: Mapping[str, LiveAnswer]) -> list[Picture]:
    """Return the answers to a prompt, from left to right.

    Args:
        live: The answers on their way by their addresses; their texts travel in frames.
    """
    turns: list[Picture] = []
    for position, name in enumerate(comparison.sides(asked.index)):
        answer = asked.answers.get(name)
        mid = mid_of(comparison, asked, position)
        turns.append(_turn(comparison, asked, answer, mid, live.get(mid), position))
    return turns


def _turn(
    comparison: Comparison,
    asked: Asked,
    answer: Answer | None,
    mid: str,
    live: LiveAnswer | None,
    position: int,
) -> Picture:
    hidden, held = comparison.hidden(asked.index), is_held(comparison, asked)
    turn: Picture = {"mid": mid, "role": "assistant", "lane": position, "tools": []}
    name = comparison.sides(asked.index)[position]
    turn |= {"who": f"Answer {letter(position)}" if hidden else name, "colour": position % COLOURS}
    turn |= {"text": "", "think": "", "phase": None, "reason": None, "error": None, "fig": None}
    turn["held"] = held
    if answer is None or held:
        return turn
    turn["text"], turn["think"] = answer.text, answer.thinking
    if live is not None:
        turn["text"], turn["think"] = (live.channels[key].text for key in ("text", "think"))
    if not answer.ended:
        turn["phase"] = "queued" if answer.status == "waiting" else _phase(comparison, name)
        return turn
    turn["reason"] = answer.stop_reason
    turn["error"] = _error(answer, hidden=hidden)
    turn["fig"] = None if hidden else _figures(answer)
    return turn


def _phase(comparison: Comparison, name: str) -> str:
    phase = comparison.lanes[name].phase
    return "queued" if phase in ("idle", "done") else phase


def _error(answer: Answer, *, hidden: bool) -> Picture | None:
    if answer.error is None:
        return None
    if hidden:
        return {"type": "", "text": _HIDDEN_ERROR, "hint": None, "plan": None}
    wire = error_wire(answer.error)
    return {**{key: wire.get(key) for key in ("type", "hint", "plan")}, "text": wire["message"]}


def _figures(answer: Answer) -> Picture | None:
    generation = answer.generation
    if generation is None:
        return None
    usage = generation.usage
    counts = [count for count in (usage.input_tokens, usage.output_tokens) if count is not None]
    return {
        "ttft_s": generation.ttft_s,
        "tokens": usage.output_tokens,
        "tokens_s": generation.tokens_per_s,
        "prompt_tokens": usage.input_tokens,
        "load_s": generation.load_s,
        "elapsed_s": generation.elapsed_s,
        "ctx_used": sum(counts) if counts else None,
    }


def lanes_of(comparison: Comparison, asked: Asked) -> list[Picture]:
    """Return the head of each lane, from left to right."""
    hidden, held = comparison.hidden(asked.index), is_held(comparison, asked)
    lanes = []
    for position, name in enumerate(comparison.sides(asked.index)):
        side, answer = comparison.contender(name), asked.answers.get(name)
        doing = comparison.lanes[name]
        away = _is_away(comparison, asked, doing.turn)
        lanes.append(
            {
                "key": position,
                "colour": position % COLOURS,
                "letter": letter(position),
                "name": f"Answer {letter(position)}" if hidden else name,
                "model": "" if hidden else ", ".join(facts_of(side)),
                "title": "" if hidden else side.model,
                "status": _rest(answer, hidden=hidden, held=held),
                "judge": answer is not None and answer.can_be_judged and not held,
                "open": held or (answer is not None and not answer.ended),
                "away": {"prompt": doing.turn, "phase": doing.phase} if away else None,
            }
        )
    return lanes


def _is_away(comparison: Comparison, asked: Asked, turn: int | None) -> bool:
    """Whether a side works on another prompt, and may be seen to: not on one that is hidden."""
    if not comparison.busy or turn is None or turn == asked.index:
        return False
    return not comparison.hidden(asked.index) and not comparison.hidden(turn)


def _rest(answer: Answer | None, *, hidden: bool, held: bool) -> Picture:
    """Return how a lane ended, as its head says it while nothing arrives."""
    if answer is None:
        return {"phase": "idle"}
    if held or answer.generation is None:
        return {"phase": "queued"}
    made = answer.generation
    if hidden:
        return {"phase": "done", "detail": made.stop_reason if made.error is None else "error"}
    return {
        "phase": "done",
        "detail": made.stop_reason if made.error is None else type(made.error).__name__,
        "tps": made.tokens_per_s,
        "tok": made.usage.output_tokens,
        "ttft": made.ttft_s,
    }


def picker_rows(models: Sequence[ModelInfo], *, hiding: bool) -> list[Picture]:
    """Return the models to choose from; while names are hidden, without what each one does now.

    A model that answers again, failed to load or was unloaded would tell whose answer that is.
    """
    rows = model_rows(models)
    if not hiding:
        return rows
    nothing: Picture = {"state": "hidden", "evicts": [], "fit": {"verdict": None, "reason": None}}
    return [{**row, **nothing} for row in rows]


def facts_of(side: Contender) -> list[str]:
    """Return how a side is asked, in words."""
    label = model_label(side.model)
    found = [] if label == side.name or side.model == side.name else [label]
    found += [f"{name} {value}" for name, value in side.config.options.items()]
    if side.config.think is not None:
        found.append(f"think {side.config.think}".lower())
    if side.system:
        found.append("system prompt")
    return found


# --- votes


def countable(comparisons: Iterable[Comparison]) -> tuple[list[Picture], int]:
    """Return the votes that may be ranked, and how many are on prompts that are still hidden."""
    found: list[Picture] = []
    waiting = 0
    for one in comparisons:
        hidden = {asked.index for asked in one.asked if one.hidden(asked.index)}
        shown = [vote for vote in one.votes if vote["turn"] not in hidden]
        waiting += len(one.votes) - len(shown)
        found += shown
    return found, waiting


def waiting_words(count: int) -> str:
    """Say why votes are not counted yet."""
    votes = "1 vote is" if count == 1 else f"{count} votes are"
    return f"{votes} on a prompt whose names are hidden; counted once they are shown."


def pairs_of(comparison: Comparison, asked: Asked) -> list[Pair]:
    """Return which answers can be judged against each other, by their places."""
    if is_held(comparison, asked):
        return []
    names = comparison.sides(asked.index)
    found = [
        place
        for place, name in enumerate(names)
        if (answer := asked.answers.get(name)) is not None and answer.can_be_judged
    ]
    return list(itertools.combinations(found, 2))


def verdict_of(
    comparison: Comparison, asked: Asked, pair: Pair, voter: str | None = None
) -> str | None:
    """Return the verdict on two answers as they are shown, `a` being the left one."""
    names = [comparison.sides(asked.index)[place] for place in pair]
    ids = {asked.answers[name].request_id or None for name in names if name in asked.answers}
    for vote in reversed(comparison.votes):
        if vote["turn"] != asked.index or {vote["label_a"], vote["label_b"]} != set(names):
            continue
        if voter is not None and vote["voter"] != voter:
            continue
        # A vote on an answer that was asked for again is not one on the new answer.
        if {vote.get("request_id_a"), vote.get("request_id_b")} != ids:
            continue
        verdict = str(vote["verdict"])
        mirrored = vote["label_a"] != names[0]
        return {"a": "b", "b": "a"}.get(verdict, verdict) if mirrored else verdict
    return None


def next_pair(comparison: Comparison, asked: Asked, voter: str | None) -> Pair | None:
    """Return the pair to judge: the first without a vote, else the first."""
    pairs = pairs_of(comparison, asked)
    fresh = (pair for pair in pairs if verdict_of(comparison, asked, pair, voter) is None)
    return next(fresh, pairs[0] if pairs else None)


def stage_of(comparison: Comparison, asked: Asked, voter: str | None) -> str:
    """Return how far a prompt is, in one letter.

    `.` waits, `w` is being answered, `d` is answered, `f` misses an answer, `v` is voted on.
    """
    answers = [asked.answers.get(name) for name in comparison.names]
    if comparison.busy and any(one is not None and not one.ended for one in answers):
        begun = any(one is not None and one.status != "waiting" for one in answers)
        return "w" if begun else "."
    pairs = pairs_of(comparison, asked)
    if pairs and all(verdict_of(comparison, asked, pair, voter) for pair in pairs):
        return "v"
    return "d" if all(one is not None and one.status == "done" for one in answers) else "f"


def counts_of(asked: Asked) -> Picture:
    """Return how many answers to a prompt have ended, of how many."""
    answers = asked.answers.values()
    return {"ended": sum(one.ended for one in answers), "all": len(asked.answers)}


# --- setup


def draft_sides(sides: Iterable[Contender]) -> list[Picture]:
    """Return sides as the setup of the view has them."""
    return [
        {
            "model": side.model,
            "name": side.name,
            "system": side.system,
            "params": dict(side.config.options),
            "think": side.config.think,
            "keep_alive": side.config.keep_alive,
        }
        for side in sides
    ]


def as_contender(side: Mapping[str, Any], *, taken: Iterable[str] = ()) -> Contender:
    """Return a side of the view's setup; a name that is taken gets a number.

    Raises:
        ValueError: When it has no model.
    """
    model = str(side.get("model") or "").strip()
    if not model:
        raise ValueError("a side has no model")
    options = {key: value for key, value in (side.get("params") or {}).items() if value is not None}
    config = GenerateConfig(
        options=options, think=side.get("think"), keep_alive=side.get("keep_alive")
    )
    wished = str(side.get("name") or "").strip() or model
    name, number, used = wished, 2, set(taken)
    while name in used:
        name, number = f"{wished} #{number}", number + 1
    return Contender(model, name, str(side.get("system") or ""), config)


def split_prompts(text: str, *, lines: bool) -> list[str]:
    """Return the prompts in a text: each line that is not empty, or the text as it is."""
    parts = text.splitlines() if lines else [text]
    return [part.strip() for part in parts if part.strip()]


def label_of(text: str) -> str:
    """Return the beginning of a prompt, on one line."""
    line = " ".join(text.split())
    return line if len(line) <= LONGEST_LABEL else line[: LONGEST_LABEL - 1] + "…"


# --- ranking


def ranking_of(ranking: Ranking) -> Picture:
    """Return a ranking as rows with intervals and with what to know of them."""
    return {
        "rows": [
            {
                "rank": one.rank,
                "name": one.name,
                "strength": one.strength,
                "strength_low": one.strength_low,
                "strength_high": one.strength_high,
                "win": one.win_rate,
                "win_low": one.win_rate_low,
                "win_high": one.win_rate_high,
                "votes": one.votes,
                "wins": one.wins,
                "losses": one.losses,
                "ties": one.ties,
                "group": one.group,
                "note": one.note,
            }
            for one in ranking
        ],
        "votes": ranking.n_votes,
        "level": ranking.level,
        "notes": [note for note in ranking.notes if not _is_of_a_row(note, ranking)],
    }


def _is_of_a_row(note: str, ranking: Ranking) -> bool:
    return any(one.note and note == f"{one.name}: {one.note}." for one in ranking)
