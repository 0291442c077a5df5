"""Who takes part in a dialogue, what each one hears, and how that becomes messages: pure.

Chat templates of local models accept strictly alternating roles that begin with the user.  So what
a participant said itself is `assistant`, and each run of what others said is one `user` message
in which every line begins with `[Name]: `.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from workbench.errors import ConfigError
from workbench.messages import GenerateConfig, Message

BEGIN = "Please begin."
"""What the user says where a participant has to begin without having heard anything."""

GO_ON = "Please go on."
"""What the user says between two turns of one participant that heard nothing in between."""

_NAME = re.compile(r"[^\[\]\n\r\t]{1,60}")
_SUMMARY = "Summary of what was said before:"


@dataclass(frozen=True, slots=True)
class Participant:
    """A role in a dialogue that a model plays; one model may play several.

    Attributes:
        name: What the others call it; unique in a dialogue, without brackets.
        system: Its system prompt.
        options: Ollama options of its own: `temperature`, `seed`, `num_ctx` ...
        think: Whether or how hard it thinks; `None` leaves it to the model.
        keep_alive: Seconds or a duration its model stays in memory after a turn.
        sees: `all` that was said, only the `opening`, or what the named ones said; what it said
            itself and what a person says is always heard.
        share_thinking: Whether the others hear its thinking.
    """

    name: str
    model: str
    system: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    think: bool | str | None = None
    keep_alive: float | str | None = None
    sees: Literal["all", "opening"] | tuple[str, ...] = "all"
    share_thinking: bool = False

    def __post_init__(self) -> None:
        check_name(self.name)
        if not self.model:
            raise ConfigError(f"{self.name} needs a model.", key="model")
        for key in ("model", "system"):
            if not isinstance(value := getattr(self, key), str):
                raise ConfigError(f"the {key} of {self.name} is a text, not {value!r}.", key=key)
        # Typed by a person, so it may be anything.
        sees: object = self.sees
        if not isinstance(sees, Sequence) or not all(isinstance(name, str) for name in sees):
            hint = "all, opening, or a list of names."
            raise ConfigError(f"{self.name} cannot see {self.sees!r}.", key="sees", hint=hint)
        if isinstance(self.sees, str) and self.sees not in ("all", "opening"):
            object.__setattr__(self, "sees", (self.sees,))
        elif not isinstance(self.sees, str):
            object.__setattr__(self, "sees", tuple(self.sees))
        object.__setattr__(self, "options", dict(self.config().options))

    def config(self) -> GenerateConfig:
        """Return how it is asked.

        Raises:
            ConfigError: When an option is unknown.
        """
        return GenerateConfig(options=self.options, think=self.think, keep_alive=self.keep_alive)

    def to_wire(self) -> dict[str, Any]:
        """Return it as JSON values, without what is unset."""
        wire: dict[str, Any] = {"name": self.name, "model": self.model}
        if self.sees != "all":
            wire["sees"] = self.sees if isinstance(self.sees, str) else list(self.sees)
        for name in ("system", "options", "share_thinking"):
            if value := getattr(self, name):
                wire[name] = value
        for name in ("think", "keep_alive"):
            if (value := getattr(self, name)) is not None:
                wire[name] = value
        return wire

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any] | Any) -> Participant:
        """Read what `to_wire` wrote, or a person typed.

        Raises:
            ConfigError: When a field is unknown or missing.
        """
        if not isinstance(wire, Mapping):
            raise ConfigError(
                f"a participant is not {wire!r}.",
                key="participants",
                hint="Write {'name': 'Ann', 'model': ...}.",
            )
        known = ("name", "model", "system", "options", "think", "keep_alive", "sees")
        unknown = [key for key in wire if key not in (*known, "share_thinking")]
        if unknown:
            raise ConfigError(
                f"a participant has no {unknown[0]!r}.",
                key=str(unknown[0]),
                hint=f"Known: {', '.join(known)}, share_thinking.",
            )
        for key in ("name", "model"):
            if not wire.get(key):
                raise ConfigError(f"a participant needs a {key}.", key=key)
        return cls(**{str(key): value for key, value in wire.items()})


def check_name(name: Any) -> str:
    """Return a name that can stand in brackets before a line.

    Raises:
        ConfigError: When it cannot.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name != name.strip():
        raise ConfigError(
            f"{name!r} is not a name: 1 to 60 characters without brackets or line ends.",
            key="name",
        )
    found: str = name
    return found


def as_cast(participants: Iterable[Participant | Mapping[str, Any]]) -> tuple[Participant, ...]:
    """Return participants given as objects or as mappings.

    Raises:
        ConfigError: When there is none, two have one name, or one sees somebody who is not there.
    """
    cast = tuple(
        item if isinstance(item, Participant) else Participant.from_wire(item)
        for item in participants
    )
    if not cast:
        raise ConfigError("a dialogue needs participants.", key="participants")
    seen: set[str] = set()
    for participant in cast:
        folded = participant.name.casefold()
        if folded in seen:
            raise ConfigError(f"two participants are called {participant.name!r}.", key="name")
        seen.add(folded)
    names = {participant.name for participant in cast}
    for participant in cast:
        strangers = [] if isinstance(participant.sees, str) else set(participant.sees) - names
        if strangers:
            raise ConfigError(
                f"{participant.name} sees {sorted(strangers)[0]!r}, who does not take part.",
                key="sees",
                hint=f"'all', 'opening', or some of: {', '.join(sorted(names))}.",
            )
    return cast


@dataclass(frozen=True, slots=True)
class Line:
    """Something that was said.

    Attributes:
        thinking: Only what the speaker shares.
        human: Whether a person said it; it is heard by all.
    """

    speaker: str
    text: str
    thinking: str = ""
    human: bool = False


def heard_by(participant: Participant, lines: Iterable[Line]) -> list[Line]:
    """Return what a participant has heard, its own lines among it, in order."""
    sees = participant.sees
    return [
        line
        for line in lines
        if line.text.strip()
        and (
            line.speaker == participant.name
            or line.human
            or sees == "all"
            or (not isinstance(sees, str) and line.speaker in sees)
        )
    ]


def messages_for(
    participant: Participant,
    heard: Sequence[Line],
    *,
    opening: str = "",
    names: Collection[str] = (),
    summary: str = "",
    note: str = "",
) -> list[Message]:
    """Return the messages a participant is asked with.

    After the system prompt roles alternate strictly; the first and the last are the user's.

    Args:
        participant: Who speaks next.
        heard: What `heard_by` returned, or the end of it.
        opening: What the dialogue is about; heard by all.
        names: Everybody's names; a line in a text that looks as if one of them began to speak is
            moved in by a space, so that nobody speaks for another.
        summary: Stands for what was heard before `heard`.
        note: What this turn is to be, for this turn only.
    """
    parts: list[tuple[bool, str]] = []
    if opening.strip():
        parts.append((False, opening))
    if summary.strip():
        parts.append((False, f"{_SUMMARY}\n{summary}"))
    for line in heard:
        if line.speaker == participant.name:
            parts.append((True, own_text(line, names)))
        else:
            parts.append((False, spoken(line, names)))
    if note:
        parts.append((False, note))
    system = [Message("system", participant.system)] if participant.system else []
    return [*system, *_alternating(parts)]


def _alternating(parts: Sequence[tuple[bool, str]]) -> list[Message]:
    messages: list[Message] = []
    run: list[str] = []
    for own, text in parts:
        if not own:
            run.append(text)
            continue
        messages.append(Message("user", "\n\n".join(run) or (GO_ON if messages else BEGIN)))
        messages.append(Message("assistant", text))
        run = []
    messages.append(Message("user", "\n\n".join(run) or (GO_ON if messages else BEGIN)))
    return messages


def own_text(line: Line, names: Collection[str]) -> str:
    """Return what a participant said, as it hears it itself: without its own name before it."""
    return _guarded(_without_name(line), names) or line.text


def spoken(line: Line, names: Collection[str]) -> str:
    """Return a line as the others hear it: `[Name]: text`."""
    said = f"[{line.speaker}]: {_guarded(_without_name(line), names)}"
    if not line.thinking.strip():
        return said
    return f"[{line.speaker}, thinking]: {_guarded(line.thinking.strip(), names)}\n\n{said}"


def _without_name(line: Line) -> str:
    # Models imitate the form they see, and would name themselves twice.
    text = line.text.strip()
    mark = f"[{line.speaker}]:"
    while text.startswith(mark):
        text = text[len(mark) :].lstrip()
    return text


def _guarded(text: str, names: Collection[str]) -> str:
    if "[" not in text or not names:
        return text
    others = "|".join(re.escape(name) for name in sorted(names, key=len, reverse=True))
    return re.sub(rf"^(?=\[(?:{others})(?:, thinking)?\]:)", " ", text, flags=re.MULTILINE)
