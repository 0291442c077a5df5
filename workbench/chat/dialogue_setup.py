"""How a dialogue is set up: checked once, kept in its transcript, read back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

from workbench.chat.judge import Judge, as_judge
from workbench.chat.orders import Moderator, OrderCall, check_order, choice_config
from workbench.chat.participants import Participant, as_cast, check_name
from workbench.chat.recollection import Memory, Summary, as_memory, memory_wire
from workbench.chat.runners import Runner, by_runner, runner_of
from workbench.chat.staging import Wanted, wanted_models
from workbench.chat.stops import (
    GoalReached,
    JudgeSays,
    MaxTurns,
    Repetition,
    StopRule,
    rule_wire,
    rules_from_wire,
    stop_rules,
)
from workbench.errors import ConfigError
from workbench.messages import GenerateConfig

Human = Literal["off", "interject", "approve"]
Schedule = Literal["memory", "sequential", "parallel"]

GUARD = Repetition()
"""The repetition guard that is on unless it is taken away."""

_SEEDS = 2**31
_FIRST = "turn"


@dataclass(frozen=True, slots=True)
class Answers:
    """What a person says to a dialogue that runs where nobody looks.

    Attributes:
        approvals: Number of the models' turn, from 0, to its answer; `None` is for the others.
        said: Number of the models' turn before which it is said, who says it, and what.
    """

    approvals: Mapping[int | None, tuple[bool, str | None]]
    said: tuple[tuple[int, str, str], ...] = ()

    @classmethod
    def read(cls, source: str | Path | Sequence[Mapping[str, Any]]) -> Answers:
        """Read answers from a YAML or JSON file, or take them as they would stand in it.

        Raises:
            ConfigError: When the file cannot be read, or an entry is not an answer.
        """
        entries: Any = source
        if isinstance(source, str | Path):
            entries = _loaded(Path(source))
        if not isinstance(entries, Sequence) or isinstance(entries, str):
            raise ConfigError("the answers are a list of entries.", key="answers")
        approvals: dict[int | None, tuple[bool, str | None]] = {}
        said: list[tuple[int, str, str]] = []
        for number, entry in enumerate(entries):
            _read_entry(number, entry, approvals, said)
        return cls(approvals, tuple(said))

    def approval(self, number: int) -> tuple[bool, str | None] | None:
        """Return the answer to a turn; `None` when there is none."""
        return self.approvals.get(number, self.approvals.get(None))


def _loaded(path: Path) -> Any:
    import yaml

    try:
        return yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"the answers at {path} cannot be read: {exc}.", key="answers") from exc
    except yaml.YAMLError as exc:
        raise ConfigError(f"{path} is neither YAML nor JSON: {exc}.", key="answers") from exc


def _read_entry(
    number: int,
    entry: Any,
    approvals: dict[int | None, tuple[bool, str | None]],
    said: list[tuple[int, str, str]],
) -> None:
    hint = "Such as {turn: 0, approve: true}, {turn: all, approve: true}, {turn: 2, say: text}."
    turn = entry.get(_FIRST) if isinstance(entry, Mapping) else None
    place = None if turn == "all" else turn
    if place is not None and (isinstance(place, bool) or not isinstance(place, int)):
        place, turn = None, None
    if turn is None:
        raise ConfigError(f"answer {number} names no turn.", key="answers", hint=hint)
    unknown = set(entry) - {_FIRST, "approve", "text", "say", "as"}
    if unknown or ("say" in entry) == ("approve" in entry or "text" in entry):
        raise ConfigError(f"answer {number} is none: {entry!r}.", key="answers", hint=hint)
    if "say" not in entry:
        text = entry.get("text")
        approvals[place] = (bool(entry.get("approve", True)), None if text is None else str(text))
        return
    if place is None:
        raise ConfigError(f"answer {number} is said before no turn.", key="answers", hint=hint)
    said.append((place, check_name(str(entry.get("as", "you"))), str(entry["say"])))


@dataclass(frozen=True, slots=True)
class Setup:
    """How a dialogue goes; see `Dialogue` for what each part means."""

    cast: tuple[Participant, ...]
    opening: str = ""
    order: str | OrderCall = "round_robin"
    turns: int | None = 8
    stop: tuple[StopRule, ...] = ()
    repetition: Repetition | None = GUARD
    memory: Memory | None = None
    human: Human = "off"
    judge: Judge | None = None
    moderator: Moderator | None = None
    seed: int = 0
    schedule: Schedule = "memory"
    swap: bool = False
    answers: Answers | None = None
    unattended: bool = False

    def __post_init__(self) -> None:
        for key, number in (("turns", self.turns), ("seed", self.seed)):
            if number is not None and (isinstance(number, bool) or not isinstance(number, int)):
                raise ConfigError(f"{key} is a whole number, not {number!r}.", key=key)
        if self.turns is not None and self.turns < 1:
            raise ConfigError("a dialogue has at least one turn.", key="turns")
        _one_of("human", self.human, get_args(Human))
        _one_of("schedule", self.schedule, get_args(Schedule))
        if self.order == "moderated" and self.moderator is None:
            raise ConfigError(
                "a moderated dialogue needs a moderator.",
                key="moderator",
                hint="Give the name of a model, or Moderator('model', 'what it goes by').",
            )
        judged = [rule for rule in self.stop if isinstance(rule, JudgeSays | GoalReached)]
        if judged and self.judge is None:
            raise ConfigError(
                f"the stop rule {judged[0].rule} needs a judge.",
                key="judge",
                hint="Give the name of a model, or Judge('model').",
            )

    @property
    def rules(self) -> tuple[StopRule, ...]:
        """Every stop rule, those of its own fields first."""
        turns = () if self.turns is None else (MaxTurns(self.turns),)
        guard = () if self.repetition is None else (self.repetition,)
        return (*turns, *guard, *self.stop)

    def participant(self, name: str) -> Participant:
        """Return who has a name.

        Raises:
            ConfigError: When nobody has it.
        """
        found = next((item for item in self.cast if item.name == name), None)
        if found is None:
            names = ", ".join(item.name for item in self.cast)
            raise ConfigError(f"nobody is called {name!r}.", key="name", hint=f"One of: {names}.")
        return found

    def config(self, participant: Participant, index: int) -> GenerateConfig:
        """Return how a participant is asked for the turn of an index: with a seed in any case."""
        config = participant.config()
        return config.merged(options={"seed": self.seed_of(index), **config.options})

    def seed_of(self, index: int) -> int:
        """Return the seed of a turn that has none of its own."""
        return (self.seed + index) % _SEEDS

    def with_model(self, name: str, model: str) -> Setup:
        """Return the setup with another model in a role."""
        self.participant(name)
        cast = tuple(replace(p, model=model) if p.name == name else p for p in self.cast)
        return replace(self, cast=cast)

    def wanted(self) -> list[Wanted]:
        """Return every model that will be asked, with the context it needs and its roles."""
        roles: list[tuple[str, str, Mapping[str, object]]] = [
            (p.model, p.name, p.options) for p in self.cast
        ]
        if self.order == "moderated" and self.moderator is not None:
            roles.append((self.moderator.model, "moderator", self.moderator.options))
        if self.judge is not None:
            roles.append((self.judge.model, "judge", self.judge.options))
        if isinstance(self.memory, Summary):
            roles.append((self.memory.model, "summary", self.memory.options))
        return wanted_models(roles)

    def runner(self, name: str) -> Runner:
        """Return what a participant's turns need in memory."""
        participant = self.participant(name)
        return runner_of(participant.model, participant.options)

    def planned_runners(self, *, loaded: Sequence[str] = ()) -> list[Runner] | None:
        """Return what each request of the planned turns needs; `None` when nobody can know.

        Args:
            loaded: Names of the models in memory.
        """
        if self.turns is None or self.order == "moderated" or callable(self.order):
            return None
        runners: list[Runner] = []
        here, number = list(loaded), 0
        while number < self.turns:
            coming = [self.runner(item.name) for item in self.cast]
            if self.order == "broadcast" and self.schedule == "memory":
                groups = by_runner(coming, lambda item: item, loaded=here)
                coming = [runner for group in groups for runner in group]
            for runner in coming[: self.turns - number]:
                number += 1
                runners += [runner, *self._judges(number)]
            here = [runners[-1].model]
        return runners

    def _judges(self, number: int) -> list[Runner]:
        rules = [rule for rule in self.stop if isinstance(rule, JudgeSays | GoalReached)]
        if self.judge is None or not any(number % rule.every == 0 for rule in rules):
            return []
        return [runner_of(self.judge.model, self.judge.options)]

    def to_wire(self) -> dict[str, Any]:
        """Return it as JSON values; of callables only their names."""
        order = self.order if isinstance(self.order, str) else _name_of(self.order)
        return {
            "participants": [item.to_wire() for item in self.cast],
            "opening": self.opening,
            "order": order,
            "turns": self.turns,
            "stop": [rule_wire(rule) for rule in self.stop],
            "repetition": None if self.repetition is None else asdict(self.repetition),
            "memory": memory_wire(self.memory),
            "human": self.human,
            "judge": None if self.judge is None else self.judge.to_wire(),
            "moderator": None if self.moderator is None else asdict(self.moderator),
            "seed": self.seed,
            "schedule": self.schedule,
            "swap": self.swap,
        }

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Setup:
        """Read what `to_wire` wrote; an order that was a callable is left as its name.

        Raises:
            ConfigError: When it is not a setup.
        """
        try:
            guard = wire["repetition"]
            return cls(
                cast=as_cast(wire["participants"]),
                opening=str(wire["opening"]),
                order=str(wire["order"]),
                turns=wire["turns"],
                stop=rules_from_wire(wire["stop"]),
                repetition=None if guard is None else Repetition(**guard),
                memory=as_memory(wire["memory"]),
                human=wire["human"],
                judge=as_judge(wire["judge"]),
                moderator=as_moderator(wire["moderator"]),
                seed=int(wire["seed"]),
                schedule=wire["schedule"],
                swap=bool(wire["swap"]),
            )
        except (KeyError, TypeError, ValueError) as exc:
            raise ConfigError(f"this is not the setup of a dialogue: {exc!r}.") from exc


def _name_of(order: OrderCall) -> str:
    return f"callable {getattr(order, '__qualname__', type(order).__name__)}"


def _one_of(key: str, value: str, known: Sequence[str]) -> None:
    if value not in known:
        raise ConfigError(f"{key} is one of {', '.join(known)}, not {value!r}.", key=key)


def as_moderator(moderator: Moderator | str | Mapping[str, Any] | None) -> Moderator | None:
    """Return a moderator given as an object, a model's name or a mapping of its fields.

    Raises:
        ConfigError: When it is none of these.
    """
    if moderator is None:
        return None
    try:
        found = moderator
        if isinstance(moderator, str):
            found = Moderator(moderator)
        elif isinstance(moderator, Mapping):
            found = Moderator(**moderator)
    except TypeError as exc:
        raise ConfigError(f"{moderator!r} is no moderator.", key="moderator") from exc
    if not isinstance(found, Moderator) or not found.model:
        raise ConfigError(f"{moderator!r} is no moderator.", key="moderator")
    choice_config(["a"], options=found.options, seed=None)
    return found


def make_setup(
    participants: Sequence[Participant | Mapping[str, Any]],
    *,
    opening: str,
    order: str | OrderCall,
    stop: StopRule | Mapping[str, Any] | Sequence[StopRule],
    memory: Memory | Mapping[str, Any] | None,
    judge: Judge | str | Mapping[str, Any] | None,
    moderator: Moderator | str | Mapping[str, Any] | None,
    answers: Answers | str | Path | Sequence[Mapping[str, Any]] | None,
    **fields: Any,
) -> Setup:
    """Return a setup from what a person gave, checked.

    Raises:
        ConfigError: When something is not as it must be; nothing has been sent then.
    """
    found = answers if answers is None or isinstance(answers, Answers) else Answers.read(answers)
    return Setup(
        cast=as_cast(participants),
        opening=opening,
        order=check_order(order),
        stop=stop_rules(stop),
        memory=as_memory(memory),
        judge=as_judge(judge),
        moderator=as_moderator(moderator),
        answers=found,
        **fields,
    )
