"""Who speaks next: rules that take a view of the dialogue and name speakers; pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from workbench.chat.dialogue_values import Turn, View
from workbench.chat.participants import Participant, spoken
from workbench.errors import ConfigError
from workbench.messages import GenerateConfig, Message, nearest_names

OrderCall = Callable[[View], str | Sequence[str] | None]
"""A rule of the user: returns who speaks next; several speak without hearing each other, `None`
ends the dialogue."""

ORDERS = ("round_robin", "broadcast", "debate", "moderated")

_OPEN = "Give your opening statement."
_ANSWER = "Answer what was said last, and make your own case stronger."
_CLOSE = "Give your closing statement; bring up nothing new."


@dataclass(frozen=True, slots=True)
class Call:
    """A turn that is to be taken; `note` says what it is to be."""

    speaker: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class Moderator:
    """A model that picks who speaks next.

    Attributes:
        model: Its name.
        instructions: What it goes by.
        options: Ollama options; without a temperature it is 0.
    """

    model: str
    instructions: str = "Pick who can best take the conversation further."
    options: Mapping[str, Any] = field(default_factory=dict)

    def config(self, choices: Sequence[str], *, seed: int | None) -> GenerateConfig:
        """Return how it is asked for one of the choices."""
        return choice_config(choices, options=self.options, seed=seed)


def choice_config(
    choices: Sequence[str], *, options: Mapping[str, Any], seed: int | None
) -> GenerateConfig:
    """Return a configuration whose answer is a JSON object with one of the choices."""
    schema = {
        "type": "object",
        "properties": {"choice": {"type": "string", "enum": list(choices)}},
        "required": ["choice"],
    }
    base: dict[str, Any] = {"temperature": 0.0}
    if seed is not None:
        base["seed"] = seed
    return GenerateConfig(options={**base, **options}, format=schema)


def check_order(order: str | OrderCall) -> str | OrderCall:
    """Return an order that exists.

    Raises:
        ConfigError: When it does not; the hint names the nearest.
    """
    if callable(order) or order in ORDERS:
        return order
    near = nearest_names(str(order), ORDERS, count=1)
    hint = f"Did you mean {near[0]!r}?" if near else f"One of {', '.join(ORDERS)}, or a callable."
    raise ConfigError(f"there is no order {order!r}.", key="order", hint=hint)


def next_calls(order: str, view: View) -> list[Call]:
    """Return the turns of the next step; those of one step do not hear each other.

    For `moderated` it is the fallback: who would speak next in turn.
    """
    if not view.active:
        return []
    if order == "broadcast":
        return [Call(name) for name in view.active]
    if order == "debate":
        name = next_in_turn(view)
        return [Call(name, _debate_note(name, view))]
    return [Call(next_in_turn(view))]


def next_in_turn(view: View) -> str:
    """Return who follows the one who spoke last, those who are muted left out."""
    everybody = [participant.name for participant in view.participants]
    last = next((turn.speaker for turn in reversed(view.turns) if not turn.human), None)
    start = everybody.index(last) + 1 if last in everybody else 0
    for name in [*everybody[start:], *everybody[:start]]:
        if name in view.active:
            return name
    raise ConfigError("everybody is muted.", key="mute")


def _debate_note(name: str, view: View) -> str:
    said = [turn for turn in view.turns if not turn.human and turn.status in ("done", "cancelled")]
    mine = any(turn.speaker == name for turn in said)
    left = None if view.limit is None else view.limit - len(view.spoken)
    if mine and left is not None and left <= len(view.active):
        return _CLOSE
    return _ANSWER if mine else _OPEN


def calls_of(answer: object, view: View) -> list[Call]:
    """Return what a user's rule named.

    Raises:
        ConfigError: When it named somebody who does not take part.
    """
    if answer is None:
        return []
    names = [answer] if isinstance(answer, str) else answer
    if not isinstance(names, Sequence) or not all(isinstance(name, str) for name in names):
        raise ConfigError(f"an order returns a name, a list of names or None, not {answer!r}.")
    known = [participant.name for participant in view.participants]
    for name in names:
        if name not in known:
            near = nearest_names(name, known, count=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"One of: {', '.join(known)}."
            raise ConfigError(f"the order named {name!r}.", key="order", hint=hint)
    return [Call(name) for name in dict.fromkeys(names) if name in view.active]


def candidates(view: View) -> list[str]:
    """Return whom a moderator may pick: the active ones, but not who has just spoken."""
    last = view.last.speaker if view.last is not None else None
    return [name for name in view.active if name != last] or list(view.active)


def moderator_messages(
    moderator: Moderator, view: View, choices: Sequence[str], *, recent: int = 8
) -> list[Message]:
    """Return what a moderator is asked: who takes part, what was said last, who may speak.

    Args:
        moderator: Who picks.
        view: The dialogue so far.
        choices: Whom it may pick.
        recent: How many of the last turns it is shown.
    """
    listed = "\n".join(f"- {_about(p)}" for p in view.participants if p.name in choices)
    return [
        Message("system", f"You lead a conversation. {moderator.instructions}"),
        Message(
            "user",
            f"{said_so_far(view, recent=recent)}\n\nWho may speak next:\n{listed}\n\n"
            'Answer with JSON: {"choice": name}.',
        ),
    ]


def _about(participant: Participant) -> str:
    line = " ".join(participant.system.split())
    return f"{participant.name}: {line[:200]}" if line else participant.name


def said_so_far(view: View, *, recent: int | None = None) -> str:
    """Return a dialogue as the lines that everybody can hear.

    Args:
        view: The dialogue.
        recent: Only so many of the last turns; `None` is all.
    """
    heard: list[Turn] = [turn for turn in view.turns if turn.heard]
    kept = heard if recent is None else heard[-recent:]
    names = [participant.name for participant in view.participants]
    lines = [spoken(turn.line(), names) for turn in kept]
    if len(kept) < len(heard):
        lines.insert(0, f"({len(heard) - len(kept)} earlier turns are left out)")
    return "\n\n".join([view.opening, *lines] if view.opening else lines) or "(nothing was said)"
