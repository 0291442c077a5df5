"""What a participant still hears word by word of a long dialogue: a window, or a summary; pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, ClassVar

from workbench.chat.participants import Line, Participant, spoken
from workbench.errors import ConfigError
from workbench.messages import GenerateConfig, Message

# English words are rarely more than this many tokens in any tokenizer but that of bytes.
_TOKENS_PER_WORD = 4


@dataclass(frozen=True, slots=True)
class Window:
    """Only the last lines are heard; the opening always is.

    Attributes:
        lines: How many, its own among them.
    """

    kind: ClassVar[str] = "window"
    lines: int = 12

    def __post_init__(self) -> None:
        if self.lines < 1:
            raise ConfigError("a window holds at least one line.", key="memory")


@dataclass(frozen=True, slots=True)
class Summary:
    """What lies further back is replaced by a summary that a model keeps up to date.

    Each summary is a request of its own, recorded with the dialogue.

    Attributes:
        model: Which model writes it.
        after: It is brought up to date when more than so many lines are heard word by word.
        keep: So many of the last lines stay as they were said.
        words: How long it may be.
        options: Ollama options; without a temperature it is 0.
    """

    kind: ClassVar[str] = "summary"
    model: str
    after: int = 12
    keep: int = 6
    words: int = 150
    options: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.model:
            raise ConfigError("a summary needs a model.", key="memory")
        if not 0 < self.keep <= self.after:
            raise ConfigError("a summary keeps at least one line, at most `after`.", key="memory")

    def config(self, *, seed: int | None) -> GenerateConfig:
        """Return how the summary is asked for."""
        base: dict[str, Any] = {"temperature": 0.0, "num_predict": self.words * _TOKENS_PER_WORD}
        if seed is not None:
            base["seed"] = seed
        return GenerateConfig(options={**base, **self.options})

    def messages(
        self, before: str, lines: Sequence[Line], *, opening: str, names: Collection[str]
    ) -> list[Message]:
        """Return what the model is asked: the last summary and the lines it does not hold."""
        said = "\n\n".join(spoken(line, names) for line in lines)
        parts = [f"The conversation began with:\n{opening}"] if opening else []
        parts += [f"Your summary so far:\n{before}"] if before else []
        parts.append(f"What was said since:\n{said}")
        parts.append(
            f"Write the summary anew, in at most {self.words} words: who holds what, what is "
            "agreed, what is open. Write nothing else."
        )
        return [
            Message("system", "You keep the minutes of a conversation."),
            Message("user", "\n\n".join(parts)),
        ]


Memory = Window | Summary


def as_memory(memory: Memory | Mapping[str, Any] | None) -> Memory | None:
    """Return a memory given as an object, or as `{"window": 12}` or `{"summary": model}`.

    Raises:
        ConfigError: When it is neither.
    """
    if memory is None or isinstance(memory, Window | Summary):
        return memory
    wrong = ConfigError(
        f"{memory!r} is no memory.", key="memory", hint="Give Window(12) or Summary('model')."
    )
    if not hasattr(memory, "items"):
        raise wrong
    if len(memory) == 1:
        ((kind, value),) = memory.items()
        try:
            if kind == "window":
                return Window(**value) if isinstance(value, Mapping) else Window(int(value))
            if kind == "summary":
                return Summary(**value) if isinstance(value, Mapping) else Summary(str(value))
        except (TypeError, ValueError) as exc:
            raise ConfigError(f"the {kind} does not take {value!r}.", key="memory") from exc
    raise wrong


def memory_wire(memory: Memory | None) -> dict[str, Any] | None:
    """Return a memory in the form `as_memory` takes."""
    return None if memory is None else {memory.kind: asdict(memory)}


@dataclass(frozen=True, slots=True)
class Minutes:
    """A summary and how many of the first lines of somebody's hearing it stands for."""

    text: str = ""
    upto: int = 0


def memory_key(participant: Participant) -> str:
    """Return whose hearing a participant shares: those who hear all share one summary."""
    return "" if participant.sees == "all" else participant.name


def to_summarise(summary: Summary, heard: Sequence[Line], minutes: Minutes) -> list[Line]:
    """Return the lines that have to be summarised now; none when it is not yet time."""
    if len(heard) - minutes.upto <= summary.after:
        return []
    return list(heard[minutes.upto : len(heard) - summary.keep])


def recalled(
    memory: Memory | None, heard: Sequence[Line], minutes: Minutes
) -> tuple[str, list[Line]]:
    """Return the summary, or nothing, and the lines that are heard word by word."""
    if isinstance(memory, Window):
        return "", list(heard[-memory.lines :])
    if isinstance(memory, Summary):
        return minutes.text, list(heard[minutes.upto :])
    return "", list(heard)
