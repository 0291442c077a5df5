"""The part of `Workbench` that is about runs of plans."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.client.api import WorkbenchClient
from workbench.client.values import Table
from workbench.config import Config
from workbench.plans.verify.calls import VerifyCalls
from workbench.portal import get_portal

if TYPE_CHECKING:
    from workbench.plans.handle import RunHandle, RunSummary
    from workbench.plans.spec import Plan


class PlanCalls(VerifyCalls):
    """Starts runs, goes on with them, lists and checks them.

    Attributes:
        client: The door to the server.
        config: The client's configuration.
    """

    client: WorkbenchClient
    config: Config

    def run(
        self,
        plan: Plan | str | Path,
        params: Mapping[str, Any] | None = None,
        *,
        wait: bool = False,
        out: str | Path | None = None,
        name: str = "",
        cache: bool = True,
        answers: Mapping[str, Any] | None = None,
        on_finish: Sequence[str] = (),
    ) -> RunHandle:
        """Start a run in a process of its own and return its handle.

        Closing the notebook, or the end of its kernel, stops nothing.

        Args:
            plan: A plan, its file, its text (of several lines), or a notebook (`.ipynb`) with a
                cell tagged `parameters`.
            params: Values by name; the defaults for the others.
            wait: Return only when the run has ended, or waits for an answer.
            out: Folder of the run; one of its own below the data folder unless given.
            name: For lists.
            cache: Whether results of earlier runs may be taken where nothing has changed.
            answers: Step to `True` or `False`, or to `{"answer": ..., "note": ...}`: answers to
                approvals, given in advance.
            on_finish: A command as a list of texts, which the run's own process runs without a
                shell when the run ends or waits for an answer; `{plan}`, `{status}`, `{run_id}`,
                `{folder}` and `{text}` are filled in.

        Raises:
            PlanInvalid: When the plan cannot be run as it is written, or models are not installed.
            ConfigError: When a parameter or `on_finish` is wrong, or the folder cannot be
                written.
        """
        work = self._start(
            plan, params, out=out, name=name, cache=cache, answers=answers, on_finish=on_finish
        )
        handle = get_portal().run(work)
        if wait:
            handle.wait()
        return handle

    async def arun(
        self,
        plan: Plan | str | Path,
        params: Mapping[str, Any] | None = None,
        *,
        wait: bool = False,
        out: str | Path | None = None,
        name: str = "",
        cache: bool = True,
        answers: Mapping[str, Any] | None = None,
        on_finish: Sequence[str] = (),
    ) -> RunHandle:
        """Await what `run` returns, on any event loop."""
        work = self._start(
            plan, params, out=out, name=name, cache=cache, answers=answers, on_finish=on_finish
        )
        handle = await get_portal().arun(work)
        if wait:
            await handle.await_()
        return handle

    def resume(self, run: str | Path, *, force: bool = False, wait: bool = False) -> RunHandle:
        """Go on with a run: what is committed and unchanged stays, the rest runs.

        Args:
            run: Its id, the beginning of it, or its folder.
            force: Go on although its notebook was edited; the edits are lost.
            wait: Return only when the run has ended, or waits for an answer.

        Raises:
            StoreError: When there is no such run.
            PlanError: When its notebook or plan was edited.
            PlanInvalid: When models are no longer installed.
        """
        handle = get_portal().run(self._resume(run, force))
        if wait:
            handle.wait()
        return handle

    async def aresume(
        self, run: str | Path, *, force: bool = False, wait: bool = False
    ) -> RunHandle:
        """Await what `resume` returns, on any event loop."""
        handle = await get_portal().arun(self._resume(run, force))
        if wait:
            await handle.await_()
        return handle

    def runs(self, *, limit: int | None = 20) -> Table[RunSummary]:
        """Return the runs of the data folder, the newest first; `limit=None` returns all."""
        from workbench.plans.handle import list_runs

        return Table(list_runs(self.config.data_dir, limit=limit), empty="no runs")

    def open_run(self, run: str | Path) -> RunHandle:
        """Return the handle of a run by its id, the beginning of it, or its folder.

        Raises:
            StoreError: When there is no such run.
        """
        from workbench.plans.folder import find_run
        from workbench.plans.handle import RunHandle

        return RunHandle(find_run(self.config.data_dir, run))

    async def _start(
        self,
        plan: Plan | str | Path,
        params: Mapping[str, Any] | None,
        *,
        answers: Mapping[str, Any] | None,
        out: str | Path | None,
        name: str,
        cache: bool,
        on_finish: Sequence[str],
    ) -> RunHandle:
        from workbench.plans.approvals import answers_of
        from workbench.plans.news import checked_command
        from workbench.plans.start import (
            RunOptions,
            astart_run,
            read_plan_of,
            start_notebook,
        )

        data_dir = self.config.data_dir
        options = RunOptions(
            out=None if out is None else Path(out),
            name=name,
            cache=cache,
            on_finish=tuple(checked_command(on_finish)) if on_finish else (),
        )
        if isinstance(plan, str | Path) and str(plan).endswith(".ipynb"):
            return await asyncio.to_thread(
                start_notebook,
                Path(plan),
                params,
                data_dir=data_dir,
                options=options,
                env=self._address(),
            )
        found = await asyncio.to_thread(read_plan_of, plan)
        given = answers_of(answers or {}, [step.id for step in found.steps])
        return await astart_run(
            found,
            params,
            data_dir=data_dir,
            client=self.client,
            options=options.answered(given),
            env=self._address(),
        )

    async def _resume(self, run: str | Path, force: bool) -> RunHandle:
        from workbench.plans.folder import find_run
        from workbench.plans.start import aresume_run

        folder = await asyncio.to_thread(find_run, self.config.data_dir, run)
        return await aresume_run(folder, force=force, client=self.client, env=self._address())

    def _address(self) -> dict[str, str]:
        """Return the variables that tell a run's process of a server that was named."""
        if self.config.url is None:
            return {}
        token = {"WORKBENCH_TOKEN": self.config.token} if self.config.token else {}
        return {"WORKBENCH_URL": self.config.url, **token}
