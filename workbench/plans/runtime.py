"""A run as the notebook of a plan sees it: `run = open_run(PLAN)`, then `await run.step("id")`.

In the process of a run every step begins as soon as what it needs is done, and its cell shows what
came of it.  By hand, or under a stock papermill, a step begins at its cell.  All of it happens on
the portal's event loop; the kernel's own is never blocked.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Mapping
from typing import Any

from workbench.errors import PlanError, StepFailed, StoreError
from workbench.messages import nearest_names
from workbench.plans.approvals import find_answer
from workbench.plans.kinds import load_kinds
from workbench.plans.kinds.common import text_bundle
from workbench.plans.references import names_in
from workbench.plans.result import StepResult, table_text
from workbench.plans.scheduler import Board, Move, Node
from workbench.plans.spec import Plan
from workbench.plans.stage import Nulls, Outputs, Stage
from workbench.plans.state import FINISHED
from workbench.plans.steps import run_step
from workbench.plans.unit import Outcome
from workbench.portal import get_portal

_TICK_S = 0.25
_ENDED = FINISHED | {"failed", "blocked", "cancelled"}


def nodes_of(plan: Plan) -> dict[str, Node]:
    """Return the steps of a plan as the order of its run sees them."""
    kinds = load_kinds()
    found = {}
    for step in plan.steps:
        kind = kinds[step.kind]
        fields = [
            value
            for name, value in step.config.items()
            if not (
                name in kind.fields and (kind.fields[name].expression or kind.fields[name].literal)
            )
        ]
        takes = names_in([fields, dict(step.inputs), dict(step.foreach)])
        found[step.id] = Node(
            step.id, step.needs, frozenset(takes & set(step.needs)), tuple(kind.branches(step))
        )
    return found


class Run:
    """A run that is carried out in this process; made by `open_run`.

    Args:
        eager: Whether steps begin by themselves, or when they are asked for.
        stays: Whether it waits for a person for as long as it takes.
    """

    def __init__(self, stage: Stage, *, eager: bool, stays: bool = False) -> None:
        self._stage = stage
        self._eager, self._stays = eager, stays
        self._board = Board(nodes_of(stage.plan))
        self._wanted: set[str] = set(self._board.nodes) if eager else set()
        self._outcomes: dict[str, Outcome] = {}
        self._tasks: dict[str, asyncio.Task[Outcome]] = {}
        self._pulse: asyncio.Event | None = None
        self._driver: asyncio.Task[None] | None = None
        self.cancelled = False
        if eager:
            get_portal().start(self._begin())

    def __repr__(self) -> str:
        return f"<Run {self.run_id} of {self._stage.plan.name}>"

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        # The id is new each time, and the cell shall not be.
        return {"text/plain": f"<Run of {self._stage.plan.name}>"}

    @property
    def run_id(self) -> str:
        """Id of the run."""
        return self._stage.info.run_id

    @property
    def folder(self) -> Any:
        """Folder of its files."""
        return self._stage.folder.path

    @property
    def params(self) -> Mapping[str, Any]:
        """Its parameters, with the defaults; a secret is the name of its variable."""
        return dict(self._stage.params)

    async def step(self, step: str) -> StepResult:
        """Await a step and return how it ended; a step that failed raises nothing.

        Raises:
            PlanError: When the plan has no such step.
        """
        if step not in self._board.nodes:
            near = nearest_names(step, self._board.nodes, count=1)
            hint = f"Did you mean {near[0]!r}?" if near else None
            raise PlanError(f"The plan has no step {step!r}.", hint=hint)
        return await get_portal().arun(self._result(step))

    def statuses(self) -> dict[str, str]:
        """Return the status of each step, in the order of the plan."""
        return {name: self._board.of(name) for name in self._board.nodes}

    def settle(self) -> None:
        """Wait until nothing of what was asked for can go on."""
        get_portal().run(self._settled())

    def failure(self) -> StepFailed | None:
        """Return the error of the first step that failed, if one did."""
        for name in self._board.nodes:
            outcome = self._outcomes.get(name)
            if outcome is not None and outcome.status == "failed":
                error = outcome.error or {}
                return StepFailed(name, str(error.get("message")), hint=error.get("hint"))
        return None

    def cancel(self) -> None:
        """Cancel what runs; nothing begins any more."""
        get_portal().start(self.acancel())

    async def acancel(self) -> None:
        """Cancel what runs and wait for its end; on the portal's loop."""
        self.cancelled = True
        for task in self._tasks.values():
            task.cancel()
        self._notify()
        if self._driver is not None:
            await asyncio.wait([self._driver])

    # --- on the portal's loop

    async def _begin(self) -> None:
        if self._driver is None or self._driver.done():
            self._driver = asyncio.get_running_loop().create_task(self._drive())

    async def _settled(self) -> None:
        if self._driver is not None:
            await asyncio.wait([self._driver])
            if not self._driver.cancelled() and (error := self._driver.exception()):
                raise error

    async def _result(self, step: str) -> StepResult:
        if not self._eager:
            self._ask_for(step)
        await self._begin()
        assert self._driver is not None
        try:
            while self._board.of(step) not in _ENDED and not self._driver.done():
                await self._news()
        except asyncio.CancelledError:
            if not self._eager:
                # By hand: the Stop button means the step, not the waiting for it.
                for task in self._tasks.values():
                    task.cancel()
            raise
        await self._settled_error()
        return await asyncio.to_thread(self._shown, step)

    async def _settled_error(self) -> None:
        if self._driver is not None and self._driver.done():
            await self._settled()

    def _ask_for(self, step: str) -> None:
        """Let a step begin with all it needs; by hand one that failed begins anew."""
        wanted = self._board.behind([step])
        for name in wanted:
            if self._board.of(name) in ("failed", "blocked", "cancelled", "waiting"):
                self._board.status[name] = "pending"
        self._wanted |= wanted

    async def _drive(self) -> None:
        """Begin steps and take their outcomes until nothing can go on."""
        try:
            while True:
                self._advance()
                waiting = [name for name in self._wanted if self._board.of(name) == "waiting"]
                if not self._tasks and not (waiting and self._stays and not self.cancelled):
                    if self.cancelled or not await self._answered(waiting):
                        return
                    continue
                await self._next_news()
                if not self.cancelled:
                    await self._answered(waiting)
        finally:
            for task in self._tasks.values():
                task.cancel()
            if self._stage.room is not None:
                await self._stage.room.close()
            self._notify()

    async def _next_news(self) -> None:
        """Wait for the end of a step, or a while for an answer."""
        news = asyncio.get_running_loop().create_task(self._news())
        try:
            await asyncio.wait(
                [news, *self._tasks.values()],
                timeout=_TICK_S,
                return_when=asyncio.FIRST_COMPLETED,
            )
        finally:
            news.cancel()
        for name, task in list(self._tasks.items()):
            if task.done():
                del self._tasks[name]
                self._take(name, task)
                self._notify()

    async def _answered(self, waiting: list[str]) -> bool:
        """Let the steps begin again whose question has been answered; returns whether one was."""
        found = False
        for name in waiting:
            question = self._outcomes[name].question or {}
            with contextlib.suppress(StoreError):
                answer = await asyncio.to_thread(
                    find_answer, self._stage.folder, name, str(question.get("sha256"))
                )
                if answer is not None:
                    self._board.status[name] = "pending"
                    found = True
        return found

    def _advance(self) -> None:
        while not self.cancelled:
            moves = self._board.moves(self._wanted)
            for move in moves:
                self._apply(move)
            if all(move.kind == "start" for move in moves):
                return

    def _apply(self, move: Move) -> None:
        journal = self._stage.journal
        if move.kind == "start":
            self._board.status[move.step] = "running"
            step = self._stage.plan.step(move.step)
            work = run_step(self._stage, step, self._scope())
            self._tasks[move.step] = asyncio.get_running_loop().create_task(work)
        elif move.kind == "skip":
            self._board.status[move.step] = "skipped"
            if move.cause is not None:
                self._board.causes[move.step] = move.cause
            self._outcomes[move.step] = Outcome("skipped", reason=move.reason)
            journal.write("step_skipped", step=move.step, reason=move.reason)
        else:
            self._board.status[move.step] = "blocked"
            self._outcomes[move.step] = Outcome("blocked", reason=", ".join(move.by))
            journal.write("step_blocked", step=move.step, by=list(move.by))
        self._notify()

    def _scope(self) -> dict[str, Any]:
        """Return what references and expressions may name now."""
        scope: dict[str, Any] = {"params": self._stage.params}
        for name, outcome in self._outcomes.items():
            if outcome.good:
                scope[name] = outcome.outputs
            elif outcome.status == "skipped":
                scope[name] = Nulls()
        return scope

    def _take(self, name: str, task: asyncio.Task[Outcome]) -> None:
        if task.cancelled():
            outcome = Outcome("cancelled")
        elif (error := task.exception()) is not None:
            # A fault of ours: the run must not hang on it.
            raise error
        else:
            outcome = task.result()
        self._outcomes[name] = outcome
        self._board.status[name] = outcome.status
        if outcome.question is not None:
            self._stage.journal.write("step_waiting", step=name, **outcome.question)
        if outcome.file is not None:
            for other, reason in outcome.file.skipped.items():
                self._board.refused[other] = (name, reason)
            if outcome.file.stop is not None:
                self._board.stop = outcome.file.stop

    def _shown(self, step: str) -> StepResult:
        """Return the result of a step with what its cell shows; reads files."""
        outcome = self._outcomes.get(step, Outcome("pending"))
        status = self._board.of(step)
        bundle: Mapping[str, Any] = {}
        if outcome.good:
            about = self._stage.plan.step(step)
            outcome.outputs.load()
            if about.foreach:
                bundle = text_bundle(table_text(outcome.outputs["table"]))
            else:
                bundle = load_kinds()[about.kind].mimebundle(outcome.outputs, outcome.config)
        return StepResult(
            step,
            status,
            outputs=outcome.outputs if outcome.good else Outputs(None, {}),
            error=outcome.error,
            question=outcome.question,
            reason=outcome.reason,
            summary=outcome.file.summary if outcome.file else "",
            bundle=bundle,
        )

    def _notify(self) -> None:
        pulse, self._pulse = self._pulse, None
        if pulse is not None:
            pulse.set()

    async def _news(self) -> None:
        if self._pulse is None:
            self._pulse = asyncio.Event()
        await self._pulse.wait()
