"""The part of `Workbench` that checks runs."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.client.api import WorkbenchClient
from workbench.config import Config
from workbench.portal import get_portal

if TYPE_CHECKING:
    from workbench.plans.diff import RunDiff
    from workbench.plans.folder import RunFolder
    from workbench.plans.handle import RunHandle
    from workbench.plans.verify.base import Level, Verification


class VerifyCalls:
    """Checks runs and compares them.

    Attributes:
        client: The door to the server.
        config: The client's configuration.
    """

    client: WorkbenchClient
    config: Config

    def verify(
        self,
        run: RunHandle | str | Path,
        level: Level = "replay",
        *,
        seeds: int = 5,
        metric: str | None = None,
        least: float = 1.0,
        at_once: int = 1,
    ) -> Verification:
        """Check a run, and return what was found: it prints, and has `ok` and `to_frame()`.

        Args:
            run: Its handle, its id, the beginning of it, or its folder.
            level: `replay` carries it out again with the recorded answers, with no model and no
                server; `models` asks every recorded request again of the same models; `seeds` runs
                its plan with other seeds.
            seeds: For `seeds`: how many.
            metric: For `seeds`: expression over the outputs of steps that gives a number, such as
                `score.accuracy`.
            least: For `models`: share of identical answers it needs to hold, 0 to 1.
            at_once: For `models`: requests on their way at the same time.

        Raises:
            CannotVerify: When it cannot be checked at that level.
            ReplayMismatch: When a tape is missing or cannot be read.
            ConfigError: When there is no such level, or the metric gives no number.
            StoreError: When there is no such run.
        """
        return get_portal().run(
            self._verify(run, level, seeds=seeds, metric=metric, least=least, at_once=at_once)
        )

    async def averify(
        self,
        run: RunHandle | str | Path,
        level: Level = "replay",
        *,
        seeds: int = 5,
        metric: str | None = None,
        least: float = 1.0,
        at_once: int = 1,
    ) -> Verification:
        """Await what `verify` returns, on any event loop."""
        return await get_portal().arun(
            self._verify(run, level, seeds=seeds, metric=metric, least=least, at_once=at_once)
        )

    def diff(self, a: RunHandle | str | Path, b: RunHandle | str | Path) -> RunDiff:
        """Compare two runs: what they were made of, and what each step gave and took.

        Args:
            a: Handle, id, beginning of the id, or folder of the first.
            b: The same of the second.

        Raises:
            StoreError: When there is no such run, or it cannot be read.
        """
        from workbench.plans.diff import diff_runs

        return diff_runs(self._folder_of(a), self._folder_of(b))

    async def _verify(
        self,
        run: RunHandle | str | Path,
        level: Level,
        *,
        seeds: int,
        metric: str | None,
        least: float,
        at_once: int,
    ) -> Verification:
        from workbench.plans.verify.api import verify_run

        folder = await asyncio.to_thread(self._folder_of, run)
        return await verify_run(
            folder,
            level,
            client=self.client,
            seeds=seeds,
            metric=metric,
            least=least,
            at_once=at_once,
        )

    def _folder_of(self, run: RunHandle | str | Path) -> RunFolder:
        from workbench.plans.folder import find_run

        if isinstance(run, str | Path):
            return find_run(self.config.data_dir, run)
        return run.folder
