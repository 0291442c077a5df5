"""Read a comparison back from the JSON document that `to_json` made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import msgspec

from workbench.chat.compare_export import KIND, SCHEMA
from workbench.chat.compare_values import Answer, Asked, Contender
from workbench.errors import SchemaTooNew, StoreError, WorkbenchError
from workbench.messages import GenerateConfig, Generation, Message, StopReason, Timings, Usage

Document = Mapping[str, Any] | str | Path


class _Error(msgspec.Struct):
    type: str
    message: str
    hint: str | None = None


class _Side(msgspec.Struct):
    name: str
    model: str
    system: str
    config: dict[str, Any]


class _Answer(msgspec.Struct):
    id: str
    name: str
    model: str
    digest: str | None
    attempt: int
    text: str
    thinking: str
    request_id: str
    stop_reason: StopReason | None = None
    usage: Usage = msgspec.field(default_factory=Usage)
    timings: Timings = msgspec.field(default_factory=Timings)
    ttft_s: float | None = None
    ttft_answer_s: float | None = None
    elapsed_s: float | None = None
    error: _Error | None = None


class _Prompt(msgspec.Struct):
    index: int
    messages: list[dict[str, Any]]
    answers: list[_Answer]
    former: list[_Answer]


class _Document(msgspec.Struct):
    id: str
    created_at: datetime
    blind: bool
    order_seed: int
    models: list[_Side]
    prompts: list[_Prompt]
    votes: list[dict[str, Any]]
    revealed: list[int] = msgspec.field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Read:
    """What stood in a document.

    Attributes:
        revealed: Prompts whose names were shown without a vote.
    """

    id: str
    created_at: datetime
    blind: bool
    order_seed: int
    sides: tuple[Contender, ...]
    asked: list[Asked]
    votes: list[dict[str, Any]] = field(default_factory=list)
    revealed: frozenset[int] = frozenset()


def read(source: Document) -> Read:
    """Return what stands in a document, given as decoded JSON, as JSON text, or as a file.

    Raises:
        SchemaTooNew: When a newer version of the workbench wrote it.
        StoreError: When it cannot be read, or is no comparison.
    """
    where, wire = _wire(source)
    if not isinstance(wire, Mapping) or wire.get("kind") != KIND:
        raise StoreError(
            f"{where} is no comparison.", hint="Write one with Path(...).write_text(to_json())."
        )
    found = wire.get("schema")
    if isinstance(found, int) and found > SCHEMA:
        raise SchemaTooNew(where, found=found, supported=SCHEMA)
    try:
        document = msgspec.convert(wire, _Document)
        return _values(document)
    except (msgspec.ValidationError, LookupError, TypeError, ValueError, AttributeError) as exc:
        raise StoreError(f"{where} is a damaged comparison: {exc}.") from exc


def _wire(source: Document) -> tuple[str, Any]:
    if isinstance(source, Mapping):
        return "the document", source
    if isinstance(source, str) and source.lstrip().startswith("{"):
        return "the text", _decoded("the text", source.encode("utf-8", "surrogatepass"))
    try:
        path = Path(source)
    except TypeError:
        raise StoreError(
            f"{source!r} is no comparison.", hint="Give its JSON, or the path of a file of it."
        ) from None
    try:
        return str(path), _decoded(str(path), path.read_bytes())
    except (OSError, ValueError) as exc:
        raise StoreError(f"{path} cannot be read: {exc}.") from exc


def _decoded(where: str, data: bytes) -> Any:
    try:
        return msgspec.json.decode(data)
    except msgspec.MsgspecError as exc:
        raise StoreError(f"{where} is no JSON: {exc}.") from exc


def _values(document: _Document) -> Read:
    sides = {
        one.name: Contender(one.model, one.name, one.system, GenerateConfig.from_wire(one.config))
        for one in document.models
    }
    asked = []
    for number, prompt in enumerate(document.prompts):
        if prompt.index != number:
            raise ValueError(f"prompt {prompt.index} stands in the place of {number}")
        messages = tuple(map(Message.from_wire, prompt.messages))
        answers = {one.name: _answer(number, sides[one.name], one) for one in prompt.answers}
        former = [_answer(number, sides[one.name], one) for one in prompt.former]
        asked.append(Asked(number, messages, answers, former))
    votes = [{**vote, "ts": datetime.fromisoformat(vote["ts"])} for vote in document.votes]
    return Read(
        id=document.id,
        created_at=document.created_at,
        blind=document.blind,
        order_seed=document.order_seed,
        sides=tuple(sides.values()),
        asked=asked,
        votes=votes,
        revealed=frozenset(document.revealed),
    )


def _answer(prompt: int, side: Contender, stored: _Answer) -> Answer:
    answer = Answer(prompt, side, attempt=stored.attempt)
    answer.id, answer.digest = stored.id, stored.digest
    answer.builder.model, answer.builder.request_id = stored.model, stored.request_id
    answer.end(
        Generation(
            text=stored.text,
            model=stored.model,
            # What was still arriving when it was written will not arrive any more.
            stop_reason=stored.stop_reason or "interrupted",
            thinking=stored.thinking,
            usage=stored.usage,
            timings=stored.timings,
            ttft_s=stored.ttft_s,
            ttft_answer_s=stored.ttft_answer_s,
            elapsed_s=stored.elapsed_s,
            request_id=stored.request_id,
            error=None if stored.error is None else _error(stored.error),
        )
    )
    return answer


def _error(stored: _Error) -> WorkbenchError:
    """Return an error that is called as the stored one; what else it knew is gone."""
    kind: type[WorkbenchError] = type(stored.type, (WorkbenchError,), {})
    return kind(stored.message, hint=stored.hint)
