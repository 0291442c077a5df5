"""V2: every recorded request is asked again, of the same models.

Each is asked as it was sent, whatever its neighbours answer this time, so that one answer that
differs does not make all that follow differ.  No step runs, and nothing outside is touched.
Equality is measured, never promised: batching, kernels of the GPU and versions of the server may
change tokens, and sampling without a seed does.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from workbench.client.api import WorkbenchClient
from workbench.client.compare import Difference, differences
from workbench.client.tape_file import Entry, event_from_json, read_tape
from workbench.client.values import frame_of
from workbench.errors import CannotVerify, WorkbenchError
from workbench.messages import GenerationBuilder, StreamEvent, TextDelta
from workbench.plans.artifacts import TAPE_FILE
from workbench.plans.diff import difference_json
from workbench.plans.folder import RunFolder
from workbench.plans.identity import Identity, ask_server
from workbench.plans.verify.base import Level, Subject, Verification, changed_tapes

if TYPE_CHECKING:
    import pandas as pd

_SHOWN = 5

Progress = Callable[[int, int], None]
"""Told how many of how many are done."""


@dataclass(frozen=True, slots=True)
class AnswerCheck:
    """One request that was asked again.

    Attributes:
        number: Its place among the requests of the run, from 0.
        same: Whether the answer is the recorded one; `None` when it could not be asked again.
        difference: Where the two answers differ first.
        token: The piece of the recorded stream in which they do, from 0; engines stream a token
            as a piece.
        reason: Why it could not be asked, or what it ended with.
    """

    number: int
    step: str
    item: int | None
    model: str
    same: bool | None
    difference: Difference | None = None
    token: int | None = None
    reason: str = ""

    def __str__(self) -> str:
        place = self.step if self.item is None else f"{self.step}[{self.item}]"
        token = "" if self.token is None else f" (token {self.token})"
        told = f"{self.difference}{token}" if self.difference is not None else self.reason
        return f"step {place}, request {self.number} to {self.model}: {told}"


@dataclass(frozen=True, repr=False)
class ModelsReport(Verification):
    """What asking the models again found.

    Attributes:
        share: Of the requests that were asked again, the share with the same answer, 0 to 1.
        least: The share it needs to hold.
        answers: Every request, in the order of the plan.
        warnings: What could not be compared.
    """

    run_id: str
    ok: bool
    share: float | None
    least: float
    answers: tuple[AnswerCheck, ...]
    warnings: tuple[str, ...] = ()
    level: Level = "models"

    @property
    def first(self) -> AnswerCheck | None:
        """The first answer that differs."""
        return next((answer for answer in self.answers if answer.same is False), None)

    def lines(self) -> list[str]:
        asked = [answer for answer in self.answers if answer.same is not None]
        same = sum(1 for answer in asked if answer.same)
        if self.share is None:
            told = [f"Run {self.run_id}: none of its requests could be asked again."]
        else:
            word = "holds" if self.ok else "does not hold"
            told = [
                f"Run {self.run_id} {word}: {same} of {len(asked)} answers are identical "
                f"({100 * self.share:.1f} %, needed {100 * self.least:g} %)."
            ]
        different = [answer for answer in asked if not answer.same]
        told += [f"  {answer}" for answer in different[:_SHOWN]]
        if len(different) > _SHOWN:
            told.append(f"  and {len(different) - _SHOWN} more")
        return [*told, *(f"  warning: {text}" for text in self.warnings)]

    def to_frame(self) -> pd.DataFrame:
        """Return a DataFrame with one row per request.

        Columns: number, step, item, model, same (null when it could not be asked), difference
        (text), token, reason.
        """
        return frame_of(self.answers)

    def to_json(self) -> dict[str, Any]:
        named = ("run_id", "level", "ok", "share", "least")
        return {
            **{name: getattr(self, name) for name in named},
            "first": None if self.first is None else _answer_json(self.first),
            "answers": [_answer_json(answer) for answer in self.answers],
            "warnings": list(self.warnings),
        }


def _answer_json(answer: AnswerCheck) -> dict[str, Any]:
    named = ("number", "step", "item", "model", "same", "token", "reason")
    found = answer.difference
    return {
        **{name: getattr(answer, name) for name in named},
        "difference": None if found is None else difference_json(found),
    }


async def verify_models(
    folder: RunFolder,
    *,
    client: WorkbenchClient,
    least: float = 1.0,
    at_once: int = 1,
    on_progress: Progress | None = None,
) -> ModelsReport:
    """Ask every recorded request of a run again and compare the answers; on the portal's loop.

    Args:
        least: Share of identical answers the run needs to hold, 0 to 1.
        at_once: Requests on their way at the same time.

    Raises:
        CannotVerify: When a model is not the one that answered, or nothing is on tape.
        ReplayMismatch: When a tape cannot be read.
        ConnectionFailed: When the server cannot be reached.
    """
    subject = await asyncio.to_thread(Subject.read, folder)
    taped = await asyncio.to_thread(lambda: list(_taped(subject)))
    if not taped:
        raise CannotVerify(
            subject.info.run_id,
            "none of its requests to models are on a tape",
            hint="A tape is recorded unless metrics.record_text is none.",
        )
    names = list(dict.fromkeys(str(entry.request["body"]["model"]) for _, _, entry in taped))
    warnings = await asyncio.to_thread(lambda: list(changed_tapes(subject)))
    warnings += await _same_models(subject, names, client)
    slots, done = asyncio.Semaphore(at_once), 0

    async def one(number: int, step: str, item: int | None, entry: Entry) -> AnswerCheck:
        nonlocal done
        async with slots:
            check = await _again(client, number, step, item, entry)
        done += 1
        if on_progress is not None:
            on_progress(done, len(taped))
        return check

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(one(n, *place)) for n, place in enumerate(taped)]
    answers = tuple(task.result() for task in tasks)
    asked = [answer for answer in answers if answer.same is not None]
    share = sum(1 for answer in asked if answer.same) / len(asked) if asked else None
    warnings += [str(answer) for answer in answers if answer.same is None]
    ok = share is not None and share >= least
    return ModelsReport(subject.info.run_id, ok, share, least, answers, tuple(warnings))


def _taped(subject: Subject) -> Iterator[tuple[str, int | None, Entry]]:
    """Yield every recorded request to a model, with its step and item."""
    for step, row in subject.record["steps"].items():
        for tape in row["tapes"]:
            path = subject.folder.committed(step, tape["item"]) / TAPE_FILE
            entries = sorted(read_tape(path).all(), key=lambda entry: entry.began)
            for entry in entries:
                asks = entry.batches is not None or entry.request["path"] == "/api/embed"
                if asks and entry.request["body"].get("model"):
                    yield step, tape["item"], entry


async def _same_models(
    subject: Subject, names: Sequence[str], client: WorkbenchClient
) -> list[str]:
    """Return what could not be compared of the models.

    Raises:
        CannotVerify: When one is missing, or is another model by now.
    """
    now = Identity()
    await ask_server(now, names, client)
    wrong = [f"{error.model} is not there any more" for error in now.missing]
    warnings = []
    for name in names:
        before = (subject.record["models"].get(name) or {}).get("digest")
        after = (now.models.get(name) or {}).get("digest")
        if before is None or (after is None and name in now.models):
            warnings.append(f"{name}: its digest is not known, so it may be another model")
        elif after is not None and before != after:
            wrong.append(f"{name} is another model now ({after[:12]}, then {before[:12]})")
    if wrong:
        raise CannotVerify(
            subject.info.run_id, "; ".join(wrong), hint="Install the models that answered then."
        )
    return warnings


async def _again(
    client: WorkbenchClient, number: int, step: str, item: int | None, entry: Entry
) -> AnswerCheck:
    body = entry.request["body"]
    place = (number, step, item, str(body["model"]))
    if body.get("images") or any(message.get("images") for message in body.get("messages") or ()):
        return AnswerCheck(*place, None, reason="it has images, which are not on the tape")
    if entry.closed:
        return AnswerCheck(*place, None, reason="its answer was not read to the end")
    try:
        before, after = _recorded(entry), await _asked(client, entry)
    except WorkbenchError as exc:
        return AnswerCheck(*place, False, reason=f"it failed this time: {exc.message}")
    found = next(differences(before, after), None)
    if found is None:
        return AnswerCheck(*place, True)
    return AnswerCheck(*place, False, found, _token(entry, found))


def _recorded(entry: Entry) -> Mapping[str, Any]:
    if entry.raised is not None:
        return {"error": entry.raised["type"]}
    if entry.batches is None:
        return {"embeddings": entry.answer.get("embeddings")}
    return _said(event_from_json(event) for batch in entry.batches for event in batch)


async def _asked(client: WorkbenchClient, entry: Entry) -> Mapping[str, Any]:
    """Send a request as it was recorded and return what counts of its answer."""
    path, body = entry.request["path"], entry.request["body"]
    context = {"priority": "batch"}
    try:
        if entry.batches is None:
            answer = await client.request_json("POST", path, body, context=context)
            return {"embeddings": answer.get("embeddings")}
        events: list[StreamEvent] = []
        async with contextlib.aclosing(
            client.stream_batches(path, body, context=context)
        ) as batches:
            async for batch in batches:
                events += batch
    except WorkbenchError as exc:
        if entry.raised is None:
            raise
        return {"error": type(exc).__name__}
    return _said(iter(events))


def _said(events: Iterator[StreamEvent]) -> dict[str, Any]:
    builder = GenerationBuilder("")
    for event in events:
        builder.add(event, at_s=0.0)
    answer = builder.build()
    calls = [{"name": call.name, "arguments": call.arguments} for call in answer.tool_calls]
    error = None if answer.error is None else type(answer.error).__name__
    return {
        "thinking": answer.thinking,
        "text": answer.text,
        "tool_calls": calls,
        "stop_reason": answer.stop_reason,
        "error": error,
    }


def _token(entry: Entry, found: Difference) -> int | None:
    """Return the piece of the recorded text that holds the first difference, from 0."""
    if found.path != "text" or found.index is None:
        return None
    events = [event_from_json(event) for batch in entry.batches or () for event in batch]
    ends = accumulate(len(event.text) for event in events if isinstance(event, TextDelta))
    pieces = list(ends)
    return next((n for n, end in enumerate(pieces) if found.index < end), len(pieces))
