"""What `await run.step(...)` gives to a notebook: the outputs, and a plain picture of them."""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import Any

from workbench.client.values import aligned
from workbench.plans.kinds.common import one_line
from workbench.plans.references import as_text
from workbench.plans.stage import Outputs

_HOW_TO_ANSWER = "Answer it in the panel of runs, or with `workbench approve`."
_MOST_ROWS = 50
_WIDEST = 60

_SAID = {
    "cached": "taken from the cache",
    "skipped": "skipped",
    "blocked": "blocked",
    "cancelled": "cancelled",
    "waiting": "waiting for an answer",
    "pending": "not begun",
}


def table_text(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the rows of a `foreach` in columns, the first ones of many, each value shortened."""
    shown = rows[:_MOST_ROWS]
    if not shown:
        return "(no items)"
    titles = list(dict.fromkeys(name for row in shown for name in row))
    printed = [
        {title: one_line(as_text(row.get(title, "")), _WIDEST) for title in titles} for row in shown
    ]
    left = len(rows) - len(shown)
    return "\n".join([*aligned(printed), *([f"… {left:,} more"] if left else [])])


class StepResult:
    """How a step ended, with its outputs as attributes and by key.

    A step that failed, waits or was skipped has no outputs; asking for one raises.

    Attributes:
        step: Its id.
        status: As in `RunState`: done, cached, kept, failed, blocked, skipped, waiting ...
        error: `{type, message, hint}` when it failed.
        question: `{ask, show, reason, sha256}` when it waits.
        reason: Why it was skipped, or which steps it is blocked by.
    """

    def __init__(
        self,
        step: str,
        status: str,
        *,
        outputs: Outputs | None = None,
        error: Mapping[str, Any] | None = None,
        question: Mapping[str, Any] | None = None,
        reason: str = "",
        summary: str = "",
        bundle: Mapping[str, Any] | None = None,
    ) -> None:
        self.step, self.status = step, status
        self.error, self.question, self.reason = error, question, reason
        self.summary = summary
        self._outputs = outputs or Outputs(None, {})
        self._bundle = dict(bundle or {})

    @property
    def outputs(self) -> Mapping[str, Any]:
        """The outputs by name; tables are DataFrames."""
        return self._outputs

    def __getitem__(self, name: str) -> Any:
        try:
            return self._outputs[name]
        except KeyError:
            raise KeyError(self._missing(name)) from None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        try:
            return self._outputs[name]
        except KeyError:
            raise AttributeError(self._missing(name)) from None

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._outputs]

    def __repr__(self) -> str:
        return f"<StepResult {self._line()}>"

    def _missing(self, name: str) -> str:
        if not len(self._outputs):
            return f"step {self.step!r} has no outputs: {self._line()}"
        known = ", ".join(self._outputs)
        return f"step {self.step!r} has no output {name!r}; it has {known}"

    def _line(self) -> str:
        told = self.summary or self.reason
        if self.error is not None:
            told = f"{self.error.get('type')}: {self.error.get('message')}"
        elif self.question is not None:
            told = str(self.question.get("ask"))
        said = _SAID.get(self.status, "failed" if self.status == "failed" else "done")
        return f"{self.step}: {said}" + (f" - {told}" if told else "")

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        """Return static, escaped data without times: the same outputs give the same cell."""
        line = self._line()
        if self.status == "failed" and self.error and self.error.get("hint"):
            line += f"\n{self.error['hint']}"
        if self.status == "waiting":
            line += f"\n{_HOW_TO_ANSWER}"
        if not self._bundle:
            return {"text/plain": line}
        bundle = {"text/plain": line, **self._bundle}
        if self.status == "cached" and "text/html" in bundle:
            note = html.escape(line)
            bundle["text/html"] = f"<p><small>{note}</small></p>{bundle['text/html']}"
        return bundle
