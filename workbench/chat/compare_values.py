"""The values of a comparison: who is compared, the answers, and what is told of them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

from workbench.chat.dialogue_values import LaneState
from workbench.chat.runners import Runner, runner_of
from workbench.errors import ConfigError, WorkbenchError
from workbench.messages import (
    OPTION_TYPES,
    GenerateConfig,
    Generation,
    GenerationBuilder,
    Message,
    StreamEvent,
    nearest_names,
)
from workbench.metrics.content import message_sha
from workbench.units import sortable_id

Verdict = Literal["a", "b", "tie", "both_bad"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)

AnswerStatus = Literal["waiting", "writing", "done", "failed", "cancelled"]
CompareState = Literal["ready", "running", "done", "failed"]
Prompt = str | Message | Sequence[Message]

_PLAIN = GenerateConfig()
_FIELDS = ("model", "name", "system", "options", "think", "keep_alive")


@dataclass(frozen=True, slots=True)
class Contender:
    """One side of a comparison: a model with the way it is asked.

    Attributes:
        model: Its name, `name:tag@backend`.
        name: What it is called; two of one model need two names.
        system: The system prompt.
        config: Options, thinking and keep_alive.
    """

    model: str
    name: str
    system: str = ""
    config: GenerateConfig = field(default_factory=GenerateConfig)

    @property
    def runner(self) -> Runner:
        """What it needs in memory."""
        return runner_of(self.model, self.config.options)

    def parameters(self) -> dict[str, Any]:
        """Return how it is asked, for the record: the request's fields and the system's hash."""
        found = self.config.to_wire()
        if self.system:
            found["system_sha"] = message_sha({"role": "system", "content": self.system})
        return found


def contenders(
    models: Iterable[str | Mapping[str, Any] | Contender],
    *,
    system: str | None = None,
    config: GenerateConfig = _PLAIN,
    taken: Iterable[str] = (),
) -> tuple[Contender, ...]:
    """Return the sides of a comparison; what one does not say itself is as of all.

    Args:
        models: Names; or mappings with `model`, `name`, `system`, `options`, `think`, `keep_alive`
            and options of Ollama's API.
        system: The system prompt of all.
        config: The options of all.
        taken: Names that are taken already.

    Raises:
        ConfigError: When a field is unknown, or two have the same name.
    """
    found: list[Contender] = []
    names = set(taken)
    for given in models:
        one = given if isinstance(given, Contender) else _contender(given, system, config)
        if one.name in names:
            raise ConfigError(
                f"two models of a comparison are called {one.name!r}.",
                key="models",
                hint="Give one another name: {'model': ..., 'name': ...}.",
            )
        names.add(one.name)
        found.append(one)
    return tuple(found)


def _contender(
    given: str | Mapping[str, Any], system: str | None, config: GenerateConfig
) -> Contender:
    fields: dict[str, Any] = {"model": given} if isinstance(given, str) else dict(given)
    named = {key: fields.pop(key) for key in _FIELDS if key in fields}
    model = named.get("model")
    if not isinstance(model, str) or not model.strip():
        raise ConfigError("a model of a comparison has no name.", key="models")
    for key in fields:
        if key not in OPTION_TYPES:
            near = nearest_names(key, (*_FIELDS, *OPTION_TYPES), count=1)
            hint = f"Did you mean {near[0]!r}?" if near else f"Known: {', '.join(_FIELDS)}."
            raise ConfigError(f"unknown field {key!r} of model {model!r}.", key=key, hint=hint)
    options = {**(named.get("options") or {}), **fields}
    merged = config.merged(
        options=options, think=named.get("think"), keep_alive=named.get("keep_alive")
    )
    own = named.get("system")
    name = str(named.get("name") or model).strip()
    return Contender(model.strip(), name, (system if own is None else own) or "", merged)


class Answer:
    """One model's answer to one prompt; it grows while it arrives and is not changed after.

    Attributes:
        id: Its own, also as an address in a view.
        prompt: Index of the prompt, from 0.
        contender: Who answers, and how it is asked.
        attempt: 0, and one more with each retry.
        digest: Of the model, when the server said it.
        status: `waiting`, `writing`, `done`, `failed` or `cancelled`.
        generation: The whole answer with its figures, once it has ended.
    """

    def __init__(self, prompt: int, contender: Contender, *, attempt: int = 0) -> None:
        self.id = sortable_id()
        self.prompt = prompt
        self.contender = contender
        self.attempt = attempt
        self.digest: str | None = None
        self.status: AnswerStatus = "waiting"
        self.generation: Generation | None = None
        self.builder = GenerationBuilder(contender.model)

    def __repr__(self) -> str:
        return f"<Answer of {self.lane} to prompt {self.prompt}: {self.status}>"

    @property
    def lane(self) -> str:
        """The name of who answers."""
        return self.contender.name

    @property
    def model(self) -> str:
        """The name of the model, as the server resolved it once it has begun."""
        return self.builder.model

    @property
    def text(self) -> str:
        """The answer as far as it came."""
        return self.builder.text if self.generation is None else self.generation.text

    @property
    def thinking(self) -> str:
        """The thinking as far as it came."""
        return self.builder.thinking if self.generation is None else self.generation.thinking

    @property
    def request_id(self) -> str:
        """The id of its request in the metrics; empty before it has begun."""
        return self.builder.request_id

    @property
    def stop_reason(self) -> str | None:
        """Why it ended; `None` before."""
        return None if self.generation is None else self.generation.stop_reason

    @property
    def error(self) -> WorkbenchError | None:
        """What it failed with."""
        return None if self.generation is None else self.generation.error

    @property
    def ended(self) -> bool:
        """Whether nothing more comes."""
        return self.status in ("done", "failed", "cancelled")

    @property
    def can_be_judged(self) -> bool:
        """Whether it has ended with something to read."""
        return self.ended and bool(self.text.strip())

    def end(self, generation: Generation) -> None:
        """Take the whole answer, or the part that came."""
        self.generation = generation
        reason = generation.stop_reason
        if reason in ("error", "timeout"):
            self.status = "failed"
        else:
            self.status = "cancelled" if reason in ("cancelled", "interrupted") else "done"


@dataclass(slots=True)
class Asked:
    """One prompt with the answers to it.

    Attributes:
        messages: What is sent after the system prompt.
        answers: Name of a side to its newest answer.
        former: Answers that were asked for again.
    """

    index: int
    messages: tuple[Message, ...]
    answers: dict[str, Answer] = field(default_factory=dict)
    former: list[Answer] = field(default_factory=list)

    @property
    def text(self) -> str:
        """The text of the last message of the user."""
        return next((m.content for m in reversed(self.messages) if m.role == "user"), "")

    @property
    def sha(self) -> str:
        """The hash of that message; `prompt_sha` of the requests and votes."""
        last = next((m for m in reversed(self.messages) if m.role == "user"), Message("user"))
        return message_sha(last.to_wire())


def as_prompt(prompt: Prompt) -> tuple[Message, ...]:
    """Return a prompt as messages.

    Raises:
        ConfigError: When there is nothing to answer.
    """
    if isinstance(prompt, str):
        prompt = Message("user", prompt)
    messages = (prompt,) if isinstance(prompt, Message) else tuple(prompt)
    if not any(message.role == "user" for message in messages):
        raise ConfigError("a prompt has no message of the user.", key="prompts")
    if not any(message.content.strip() or message.images for message in messages):
        raise ConfigError("a prompt is empty.", key="prompts")
    return messages


@dataclass(frozen=True, slots=True)
class ComparisonEvent:
    """Something that happened in a comparison.

    Attributes:
        kind: `prompt` when one was added, `answer` when an answer began or ended, `events` when
            something of it arrived, `lane` when what a lane shows has changed, `vote` when one was
            cast, `state` when the comparison began or ended, `models` when one was added.
        prompt: Index of the prompt, or `None`.
        lane: Name of the side, or `None`.
        answer: The answer, with `answer` and `events`.
        events: What arrived, with `events`.
        figures: What the lane shows, with `lane`.
        vote: The row, with `vote`.
    """

    kind: Literal["prompt", "answer", "events", "lane", "vote", "state", "models"]
    prompt: int | None = None
    lane: str | None = None
    answer: Answer | None = None
    events: Sequence[StreamEvent] = ()
    figures: LaneState | None = None
    vote: Mapping[str, Any] | None = None


def vote_row(
    asked: Asked,
    a: Answer,
    b: Answer,
    verdict: Verdict,
    *,
    first: str,
    seed: int,
    blind: bool,
    voter: str,
) -> dict[str, Any]:
    """Return the row of a vote between two answers, without its id.

    Args:
        first: Name of the side that was shown before the other.
        seed: Of the order in which they were shown.
    """
    row: dict[str, Any] = {
        "turn": asked.index,
        "prompt_sha": asked.sha,
        "order": "ab" if first == a.lane else "ba",
        "order_seed": seed,
        "blind": blind,
        "verdict": verdict,
        "voter": voter,
    }
    for side, answer in (("a", a), ("b", b)):
        row[f"model_{side}"] = answer.model
        row[f"label_{side}"] = answer.lane
        row[f"digest_{side}"] = answer.digest
        row[f"request_id_{side}"] = answer.request_id or None
        row[f"config_{side}"] = answer.contender.parameters()
    return {name: value for name, value in row.items() if value is not None}
