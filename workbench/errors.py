"""Every error this package raises on purpose.

Each class stores what it knows in typed fields; handlers read the fields and never parse the text.
`hint` says what to do next.  A cancelled answer is not an error: it is a `stop_reason`.

The tree::

    WorkbenchError
      ConfigError
      ModelError
        ConnectionFailed
        RequestTimeout
        ResponseError
          ModelNotFound
          AmbiguousModel
        StreamBroken
        ProtocolError
        UnsupportedOperation
      ResidencyError
        InsufficientMemory
        SwapRequired
        LoadFailed
        UnloadFailed
        QueueTimeout
      EngineError
        EngineExited
        BadModelFile
      StoreError
        ConversationLocked
        SchemaTooNew
        QueryFailed
        UnknownColumn
      PlanError
        PlanInvalid
        StepFailed
          StepTimedOut
        ReplayMismatch
        CannotVerify
      ServerNotRunning
      RunFailed
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypedDict


class Leaving(TypedDict):
    """One model that would leave memory; `None` is unknown.

    `reload_s` is seconds to bring it back; `reason` says why it and no other.
    """

    model: str
    backend: str
    bytes: int | None
    reload_s: float | None
    reason: str


class SwapPlan(TypedDict):
    """What a load would do to memory; `estimated_s` is seconds until the model could answer."""

    model: str
    backend: str
    evict: list[Leaving]
    needed_bytes: int | None
    free_bytes: int | None
    estimated_s: float | None


@dataclass(frozen=True, slots=True)
class PlanProblem:
    """One thing that is wrong with a plan; `line` is that of its file, from 1."""

    message: str
    line: int | None = None
    hint: str | None = None
    file: str | None = None

    def __str__(self) -> str:
        where = ":".join(str(part) for part in (self.file, self.line) if part is not None)
        text = f"{where}: {self.message}" if where else self.message
        return f"{text} {self.hint}" if self.hint else text


class WorkbenchError(Exception):
    """Raised when the workbench cannot do what was asked; the base of all others.

    Attributes:
        hint: What the user can do next, or `None` when there is nothing better than the message.
    """

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message} {self.hint}" if self.hint else self.message

    @property
    def fields(self) -> Mapping[str, Any]:
        """What the error knows, as JSON values, for `{error, type, hint, ...fields}` bodies."""
        return {}


class ConfigError(WorkbenchError):
    """Raised when the configuration cannot be used: file, line and key say where."""

    def __init__(
        self,
        message: str,
        *,
        file: str | None = None,
        line: int | None = None,
        key: str | None = None,
        hint: str | None = None,
    ) -> None:
        where = ":".join(str(part) for part in (file, line) if part is not None)
        text = f"{where}: {message}" if where else message
        super().__init__(text, hint=hint)
        self.file = file
        self.line = line
        self.key = key

    @property
    def fields(self) -> Mapping[str, Any]:
        return {"file": self.file, "line": self.line, "key": self.key}


class ModelError(WorkbenchError):
    """Raised when a request to a model did not succeed."""


class ConnectionFailed(ModelError):
    """Raised when no connection to the server or the backend could be made."""

    def __init__(self, url: str, reason: str, *, hint: str | None = None) -> None:
        super().__init__(f"Cannot reach {url}: {reason}.", hint=hint)
        self.url = url
        self.reason = reason

    @property
    def fields(self) -> Mapping[str, Any]:
        return {"url": self.url, "reason": self.reason}


class RequestTimeout(ModelError):
    """Raised when a deadline of ours passed.

    Attributes:
        phase: `connect`, `first_token`, `stall` or `total`.
        seconds: The deadline that passed.
        partial: The text that had arrived.
    """

    def __init__(
        self, phase: str, seconds: float, *, partial: str = "", hint: str | None = None
    ) -> None:
        what = {
            "connect": "connecting",
            "first_token": "waiting for the first token",
            "stall": "waiting for the next token",
            "total": "waiting for the end of the answer",
        }.get(phase, phase)
        super().__init__(f"Gave up after {seconds:g} s {what}.", hint=hint)
        self.phase = phase
        self.seconds = seconds
        self.partial = partial

    @property
    def fields(self) -> Mapping[str, Any]:
        return {"phase": self.phase, "seconds": self.seconds}


class ResponseError(ModelError):
    """Raised when the server or backend answered with an error status.

    Attributes:
        status: HTTP status, or `None` when the error came in the middle of a stream.
        partial: The text that had arrived before the error.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        partial: str = "",
        hint: str | None = None,
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.partial = partial

    @property
    def fields(self) -> Mapping[str, Any]:
        return {"status": self.status}


class ModelNotFound(ResponseError):
    """Raised when no backend holds a model of that name; `nearest` lists similar names."""

    def __init__(self, model: str, *, nearest: Sequence[str] = ()) -> None:
        hint = "See which there are: workbench models."
        if model.endswith(".gguf"):
            hint = "Name a GGUF file that is there, or see the models: workbench models."
        if nearest:
            hint = "Did you mean " + " or ".join(repr(name) for name in nearest) + "?"
        super().__init__(f"model '{model}' not found", status=404, hint=hint)
        self.model = model
        self.nearest = tuple(nearest)

    @property
    def fields(self) -> Mapping[str, Any]:
        return {"model": self.model, "nearest": list(self.nearest)}


class AmbiguousModel(ResponseError):
    """Raised when a bare model name means different models on several backends."""

    def __init__(self, model: str, backends: Sequence[str]) -> None:
        names = ", ".join(f"{model}@{backend}" for backend in backends)
        super().__init__(
            f"model '{model}' is a different model on {len(backends)} backends",
            status=409,
            hint=f"Name one of: {names}.",
        )
        self.model = model
        self.backends = tuple(backends)

    @property
    def fields(self) -> Mapping[str, Any]:
        return {"model": self.model, "backends": list(self.backends)}


class StreamBroken(ModelError):
    """Raised when a stream ended without its final event; `partial` holds what had arrived."""

    def __init__(self, reason: str, *, partial: str = "", hint: str | None = None) -> None:
        super().__init__(f"The answer broke off: {reason}.", hint=hint)
        self.reason = reason
        self.partial = partial

    @property
    def fields(self) -> Mapping[str, Any]:
        return {"reason": self.reason}


class ProtocolError(ModelError):
    """Raised when bytes arrived that the protocol does not allow."""

    def __init__(self, message: str, *, partial: str = "", hint: str | None = None) -> None:
        super().__init__(message, hint=hint)
        self.partial = partial


class UnsupportedOperation(ModelError):
    """Raised when the backend or the model cannot do what was asked."""


class ResidencyError(WorkbenchError):
    """Raised when a model could not be brought into or out of memory."""


class InsufficientMemory(ResidencyError):
    """Raised when a model does not fit into the memory that may be used; sizes are in bytes.

    Attributes:
        would_fit: What would fit in its place: models, or this one with other options.
    """

    def __init__(
        self,
        model: str,
        *,
        needed_bytes: int,
        available_bytes: int,
        would_fit: Sequence[str] = (),
    ) -> None:
        hint = "Unload a model, lower num_ctx, or raise engine.memory_bytes in workbench.toml."
        if would_fit:
            hint = f"This would fit: {', '.join(would_fit)}."
        super().__init__(
            f"model '{model}' needs {needed_bytes} bytes and {available_bytes} may be used",
            hint=hint,
        )
        self.model = model
        self.needed_bytes = needed_bytes
        self.available_bytes = available_bytes
        self.would_fit = tuple(would_fit)

    @property
    def fields(self) -> Mapping[str, Any]:
        return {
            "model": self.model,
            "needed_bytes": self.needed_bytes,
            "available_bytes": self.available_bytes,
            "would_fit": list(self.would_fit),
        }


class SwapRequired(ResidencyError):
    """Raised when a model fits only if others leave, and nobody has consented to that."""

    def __init__(self, plan: SwapPlan) -> None:
        names = ", ".join(item["model"] for item in plan["evict"]) or "another model"
        super().__init__(
            f"model '{plan['model']}' fits only when {names} leaves memory", hint=_consent(plan)
        )
        self.plan = plan

    @property
    def fields(self) -> Mapping[str, Any]:
        return {"plan": self.plan}


def _consent(plan: SwapPlan) -> str:
    """Return what has to be said for the plan to be done."""
    why = {item["reason"]: item["model"] for item in plan["evict"]}
    for reason in ("pinned", "leased"):
        if reason in why:
            return (
                f"{why[reason]} is {reason}: free it, or load with force=True "
                "(workbench load --force)."
            )
    ask = "Load it with swap=True (workbench load --swap)"
    if "foreign" in why:
        return f"Another program loaded {why['foreign']}. {ask} to unload it all the same."
    return f"{ask}, or let the server decide: set swap.{plan['backend']} to auto."


class LoadFailed(ResidencyError):
    """Raised when a model could not be loaded; `reason` is the engine's own."""

    def __init__(self, model: str, reason: str, *, hint: str | None = None) -> None:
        super().__init__(f"model '{model}' could not be loaded: {reason}", hint=hint)
        self.model = model
        self.reason = reason

    @property
    def fields(self) -> Mapping[str, Any]:
        return {"model": self.model, "reason": self.reason}


class UnloadFailed(ResidencyError):
    """Raised when a model is still in memory after it was asked to leave.

    Attributes:
        verdict: `still_loaded`, or `resurrected` when it left and came back.
    """

    def __init__(self, model: str, reason: str, *, verdict: str = "still_loaded") -> None:
        super().__init__(
            f"model '{model}' could not be unloaded: {reason}",
            hint="See who holds it: workbench ps; to end its answers: workbench unload --force.",
        )
        self.model = model
        self.reason = reason
        self.verdict = verdict

    @property
    def fields(self) -> Mapping[str, Any]:
        return {"model": self.model, "verdict": self.verdict, "reason": self.reason}


class QueueTimeout(ResidencyError):
    """Raised when a request's deadline passed while it waited for its turn.

    Attributes:
        waited_s: Seconds it waited.
        retry_after_s: Seconds after which its turn is expected; `None` when that is not known.
    """

    def __init__(self, model: str, *, waited_s: float, retry_after_s: float | None = None) -> None:
        again = f" Try again in {retry_after_s:.0f} s." if retry_after_s is not None else ""
        super().__init__(
            f"model '{model}' had no turn within {waited_s:.1f} s",
            hint=f"`workbench queue` shows who waits for what.{again}",
        )
        self.model = model
        self.waited_s = waited_s
        self.retry_after_s = retry_after_s

    @property
    def fields(self) -> Mapping[str, Any]:
        return {
            "model": self.model,
            "waited_s": round(self.waited_s, 3),
            "retry_after_s": self.retry_after_s,
        }


class EngineError(WorkbenchError):
    """Raised when the embedded engine could not do its work."""


class EngineExited(EngineError):
    """Raised when the engine process of a model ended while it was needed."""

    def __init__(self, model: str, *, returncode: int | None, reason: str | None = None) -> None:
        text = f"model runner has unexpectedly stopped (exit {returncode})"
        super().__init__(
            f"{text}: {reason}" if reason else text,
            hint="Ask again: the model is loaded anew; what its engine wrote: workbench logs.",
        )
        self.model = model
        self.returncode = returncode
        self.reason = reason

    @property
    def fields(self) -> Mapping[str, Any]:
        return {"model": self.model, "returncode": self.returncode, "reason": self.reason}


class BadModelFile(EngineError):
    """Raised when a file is not a GGUF model that can be read; `offset` is in bytes."""

    def __init__(self, path: str, reason: str, *, offset: int | None = None) -> None:
        super().__init__(
            f"{path} is not a usable GGUF file: {reason}",
            hint="Download the file again, or name another.",
        )
        self.path = path
        self.reason = reason
        self.offset = offset

    @property
    def fields(self) -> Mapping[str, Any]:
        return {"path": self.path, "reason": self.reason, "offset": self.offset}


class StoreError(WorkbenchError):
    """Raised when a file of the workbench could not be read or written."""


class ConversationLocked(StoreError):
    """Raised when another kernel writes this conversation, or dialogue; read it, or branch it."""

    def __init__(self, conversation: str, *, noun: str = "conversation") -> None:
        super().__init__(
            f"{noun.capitalize()} {conversation} is being written by another process.",
            hint=f"Open it read-only, or branch from it into a new {noun}.",
        )
        self.conversation = conversation

    @property
    def fields(self) -> Mapping[str, Any]:
        return {"conversation": self.conversation}


class SchemaTooNew(StoreError):
    """Raised when a file was written by a newer version of the workbench."""

    def __init__(self, path: str, *, found: int, supported: int) -> None:
        super().__init__(
            f"{path} has schema version {found}; this version reads up to {supported}.",
            hint="Upgrade local-model-workbench.",
        )
        self.path = path
        self.found = found
        self.supported = supported

    @property
    def fields(self) -> Mapping[str, Any]:
        return {"path": self.path, "found": self.found, "supported": self.supported}


class QueryFailed(StoreError):
    """Raised when a query of the metrics is refused, wrong, too long or too large.

    Attributes:
        line: Line of the query, from 1, where the reason lies; `None` when it is not known.
        column: Column in that line, from 1.
    """

    def __init__(
        self,
        query: str,
        reason: str,
        *,
        line: int | None = None,
        column: int | None = None,
        hint: str | None = None,
    ) -> None:
        where = "" if line is None else f"line {line}, column {column}: "
        super().__init__(f"{where}{reason}", hint=hint)
        self.query = query
        self.reason = reason
        self.line = line
        self.column = column

    @property
    def fields(self) -> Mapping[str, Any]:
        return {"reason": self.reason, "line": self.line, "column": self.column}


class UnknownColumn(StoreError):
    """Raised when a named question is asked for a column that there is not."""

    def __init__(self, column: str, *, known: Sequence[str], nearest: str | None = None) -> None:
        hint = f"Did you mean {nearest!r}?" if nearest else f"Known: {', '.join(known)}."
        super().__init__(f"There is no column {column!r}.", hint=hint)
        self.column = column
        self.known = tuple(known)
        self.nearest = nearest

    @property
    def fields(self) -> Mapping[str, Any]:
        return {"column": self.column, "nearest": self.nearest}


class PlanError(WorkbenchError):
    """Raised when a plan, or a run of one, could not do its work."""


class PlanInvalid(PlanError):
    """Raised when a plan cannot be run as it is written; `problems` lists all that is wrong."""

    def __init__(self, name: str, problems: Sequence[PlanProblem]) -> None:
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        listed = "".join(f"\n  {problem}" for problem in problems)
        super().__init__(f"The plan {name} has {count}:{listed}")
        self.name = name
        self.problems = tuple(problems)

    @property
    def fields(self) -> Mapping[str, Any]:
        return {"name": self.name, "problems": [asdict(problem) for problem in self.problems]}


class StepFailed(PlanError):
    """Raised when a step of a plan did not succeed; `step` is its id."""

    def __init__(self, step: str, reason: str, *, hint: str | None = None) -> None:
        super().__init__(f"Step {step} failed: {reason}", hint=hint)
        self.step = step
        self.reason = reason

    @property
    def fields(self) -> Mapping[str, Any]:
        return {"step": self.step, "reason": self.reason}


class StepTimedOut(StepFailed):
    """Raised when a step of a plan took longer than its `timeout` allows."""


class ReplayMismatch(PlanError):
    """Raised when a replay asks what was not recorded, or the tape cannot be read."""

    def __init__(self, reason: str, *, tape: str | None = None, hint: str | None = None) -> None:
        super().__init__(f"The replay does not match: {reason}", hint=hint)
        self.reason = reason
        self.tape = tape

    @property
    def fields(self) -> Mapping[str, Any]:
        return {"reason": self.reason, "tape": self.tape}


class CannotVerify(PlanError):
    """Raised when a run cannot be checked at a level at all, whatever it gave; `run` is its id."""

    def __init__(self, run: str, reason: str, *, hint: str | None = None) -> None:
        super().__init__(f"Run {run} cannot be verified: {reason}.", hint=hint)
        self.run = run
        self.reason = reason

    @property
    def fields(self) -> Mapping[str, Any]:
        return {"run": self.run, "reason": self.reason}


class ServerNotRunning(WorkbenchError):
    """Raised when no server runs and none may or can be started."""

    def __init__(self, reason: str, *, hint: str | None = None) -> None:
        super().__init__(f"No workbench server: {reason}.", hint=hint)
        self.reason = reason


class RunFailed(WorkbenchError):
    """Raised when a notebook run ended with an error; the output notebook is kept at `path`."""

    def __init__(self, path: str, reason: str) -> None:
        super().__init__(f"The notebook run failed: {reason}", hint=f"See {path}.")
        self.path = path
        self.reason = reason

    @property
    def fields(self) -> Mapping[str, Any]:
        return {"path": self.path, "reason": self.reason}
