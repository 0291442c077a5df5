"""When a dialogue ends: rules that look at a view of it and give a reason; pure.

A callable of the user may stand for a rule: it gets the `View` and returns a reason, true or
nothing; it runs in a thread of its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, ClassVar

from workbench.chat.dialogue_values import View
from workbench.errors import ConfigError
from workbench.messages import nearest_names
from workbench.units import format_seconds

_WORD = re.compile(r"\w+")
_SHINGLE = 4


def _at_least(rule: Any, least: float, *names: str, whole: bool = True) -> None:
    for name in names:
        value = getattr(rule, name)
        kind = int if whole else (int, float)
        if isinstance(value, bool) or not isinstance(value, kind) or not least <= value < math.inf:
            wanted = "a whole number" if whole else "a number"
            raise ConfigError(
                f"the stop rule {rule.rule} needs {wanted} of at least {least} as its {name}, "
                f"not {value!r}.",
                key=rule.rule,
            )


def _is_text(rule: Any, name: str) -> None:
    value = getattr(rule, name)
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(
            f"the stop rule {rule.rule} needs a text as its {name}, not {value!r}.", key=rule.rule
        )


@dataclass(frozen=True, slots=True)
class MaxTurns:
    """Ends after so many turns of models."""

    rule: ClassVar[str] = "turns"
    count: int

    def __post_init__(self) -> None:
        _at_least(self, 1, "count")

    def check(self, view: View) -> str | None:
        """Return why the dialogue ends, or `None`."""
        if len(view.spoken) < self.count:
            return None
        return "1 turn was taken" if self.count == 1 else f"{self.count} turns were taken"


@dataclass(frozen=True, slots=True)
class MaxTokens:
    """Ends when the models have written so many tokens, as their engines counted them."""

    rule: ClassVar[str] = "tokens"
    count: int

    def __post_init__(self) -> None:
        _at_least(self, 1, "count")

    def check(self, view: View) -> str | None:
        """Return why the dialogue ends, or `None`."""
        written = sum(turn.usage.output_tokens or 0 for turn in view.turns)
        if written < self.count:
            return None
        return f"{written} tokens were written, {self.count} were allowed"


@dataclass(frozen=True, slots=True)
class MaxSeconds:
    """Ends after so many seconds, pauses left out; the turn that is being said is finished."""

    rule: ClassVar[str] = "seconds"
    seconds: float

    def __post_init__(self) -> None:
        _at_least(self, 0, "seconds", whole=False)

    def check(self, view: View) -> str | None:
        """Return why the dialogue ends, or `None`."""
        if view.elapsed_s < self.seconds:
            return None
        return f"{format_seconds(self.seconds)} have passed"


@dataclass(frozen=True, slots=True)
class Phrase:
    """Ends when somebody says a phrase, in any case; `by` names who must say it."""

    rule: ClassVar[str] = "phrase"
    text: str
    by: str | None = None

    def __post_init__(self) -> None:
        _is_text(self, "text")
        if self.by is not None:
            _is_text(self, "by")

    def check(self, view: View) -> str | None:
        """Return why the dialogue ends, or `None`."""
        turn = view.last
        if turn is None or self.by not in (None, turn.speaker):
            return None
        if self.text.casefold() not in turn.text.casefold():
            return None
        return f"{turn.speaker} said {self.text!r}"


@dataclass(frozen=True, slots=True)
class Repetition:
    """Ends when turns repeat what was said before: models that agree for ever.

    Attributes:
        ratio: Share of a turn's runs of four words that an earlier turn must contain, 0 to 1.
        times: How many turns in a row must repeat.
        back: How many earlier turns each is compared with.
    """

    rule: ClassVar[str] = "repetition"
    ratio: float = 0.8
    times: int = 2
    back: int = 6

    def __post_init__(self) -> None:
        _at_least(self, 0, "ratio", whole=False)
        _at_least(self, 1, "times", "back")
        if not 0 < self.ratio <= 1:
            raise ConfigError(
                f"the ratio of repetition is above 0 and at most 1, not {self.ratio!r}.",
                key=self.rule,
            )

    def check(self, view: View) -> str | None:
        """Return why the dialogue ends, or `None`."""
        said = [turn for turn in view.turns if turn.heard and not turn.human]
        if len(said) <= self.times:
            return None
        for place in range(len(said) - self.times, len(said)):
            earlier = said[max(0, place - self.back) : place]
            if not any(overlap(said[place].text, turn.text) >= self.ratio for turn in earlier):
                return None
        share = f"{100 * self.ratio:.0f} %"
        return f"the last {self.times} turns repeat {share} or more of what was said before"


def overlap(text: str, earlier: str) -> float:
    """Return the share of a text's runs of four words that an earlier text contains, 0 to 1."""
    new, old = _shingles(text), _shingles(earlier)
    return len(new & old) / len(new) if new else 0.0


def _shingles(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text.casefold())
    if len(words) < _SHINGLE:
        return {tuple(words)} if words else set()
    return {tuple(words[i : i + _SHINGLE]) for i in range(len(words) - _SHINGLE + 1)}


@dataclass(frozen=True, slots=True)
class JudgeSays:
    """Ends when the dialogue's judge answers a question with yes.

    Attributes:
        question: Such as `Do they agree?`.
        every: Asked after every so many turns of models.
    """

    rule: ClassVar[str] = "judge"
    question: str
    every: int = 1

    def __post_init__(self) -> None:
        _is_text(self, "question")
        _at_least(self, 1, "every")

    def due(self, view: View) -> bool:
        """Whether it is asked now."""
        return bool(view.spoken) and len(view.spoken) % self.every == 0

    def reason(self, model: str) -> str:
        """Return why the dialogue ends."""
        return f"the judge {model} answered yes to {self.question!r}"


@dataclass(frozen=True, slots=True)
class GoalReached:
    """Ends when the dialogue's judge finds that a goal is reached.

    Attributes:
        goal: Such as `a plan with three steps that both accept`.
        every: Asked after every so many turns of models.
    """

    rule: ClassVar[str] = "goal"
    goal: str
    every: int = 1

    def __post_init__(self) -> None:
        _is_text(self, "goal")
        _at_least(self, 1, "every")

    @property
    def question(self) -> str:
        """What the judge is asked."""
        return f"Has the conversation reached this goal: {self.goal}?"

    def due(self, view: View) -> bool:
        """Whether it is asked now."""
        return bool(view.spoken) and len(view.spoken) % self.every == 0

    def reason(self, model: str) -> str:
        """Return why the dialogue ends."""
        return f"the judge {model} finds that the goal is reached: {self.goal}"


Judged = JudgeSays | GoalReached
Counted = MaxTurns | MaxTokens | MaxSeconds | Phrase | Repetition
StopCall = Callable[[View], object]
StopRule = Counted | Judged | StopCall

_RULES: Mapping[str, tuple[type, str]] = {
    "turns": (MaxTurns, "count"),
    "tokens": (MaxTokens, "count"),
    "seconds": (MaxSeconds, "seconds"),
    "phrase": (Phrase, "text"),
    "repetition": (Repetition, "ratio"),
    "judge": (JudgeSays, "question"),
    "goal": (GoalReached, "goal"),
}


def stop_rules(stop: StopRule | Mapping[str, Any] | Iterable[StopRule]) -> tuple[StopRule, ...]:
    """Return rules given as objects, callables, or a mapping such as `{"phrase": "agreed"}`.

    In a mapping the value is the rule's main field, or a mapping of its fields.

    Raises:
        ConfigError: When there is no such rule, or a value is not one.
    """
    if isinstance(stop, Mapping):
        return tuple(_rule(str(name), value) for name, value in stop.items())
    given: object = stop
    if isinstance(given, Iterable) and not isinstance(given, str):
        return tuple(_checked(rule) for rule in given)
    return (_checked(stop),)


def _checked(rule: Any) -> StopRule:
    if isinstance(rule, Counted | Judged) or callable(rule):
        found: StopRule = rule
        return found
    hint = f"Known: {', '.join(_RULES)}."
    if isinstance(rule, str):
        hint = f"To end at a phrase, write {{'phrase': {rule!r}}}. {hint}"
    raise ConfigError(f"{rule!r} is no stop rule.", key="stop", hint=hint)


def _rule(name: str, value: Any) -> StopRule:
    if name not in _RULES:
        near = nearest_names(name, _RULES, count=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(_RULES)}."
        raise ConfigError(f"there is no stop rule {name!r}.", key=name, hint=hint)
    kind, main = _RULES[name]
    fields = dict(value) if isinstance(value, Mapping) else {main: value}
    try:
        rule: StopRule = kind(**fields)
    except TypeError as exc:
        raise ConfigError(f"the stop rule {name} does not take {value!r}.", key=name) from exc
    wanted: type | tuple[type, ...] = (int, float) if name in ("seconds", "repetition") else str
    wanted = int if main == "count" else wanted
    given = fields.get(main, getattr(rule, main))
    if isinstance(given, bool) or not isinstance(given, wanted):
        raise ConfigError(f"the stop rule {name} does not take {given!r}.", key=name)
    return rule


def rule_wire(rule: StopRule) -> dict[str, Any]:
    """Return a rule as JSON values; of a callable only its name."""
    if isinstance(rule, Counted | Judged):
        return {"rule": rule.rule, **asdict(rule)}
    return {"rule": "callable", "name": getattr(rule, "__qualname__", type(rule).__name__)}


def rules_from_wire(wire: Sequence[Mapping[str, Any]]) -> tuple[StopRule, ...]:
    """Read what `rule_wire` wrote; callables are left out, they are not kept."""
    return tuple(
        _rule(str(item["rule"]), {k: v for k, v in item.items() if k != "rule"})
        for item in wire
        if item["rule"] in _RULES
    )
