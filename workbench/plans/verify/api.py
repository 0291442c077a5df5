"""One door to the three levels."""

from __future__ import annotations

from typing import TYPE_CHECKING

from workbench.client.api import WorkbenchClient
from workbench.errors import ConfigError
from workbench.plans.folder import RunFolder
from workbench.plans.verify.base import Level, Verification

if TYPE_CHECKING:
    from workbench.plans.verify.models import Progress

LEVELS: tuple[Level, ...] = ("replay", "models", "seeds")
SEEDS = 5
"""Runs with other seeds, unless told otherwise."""


async def verify_run(
    folder: RunFolder,
    level: Level = "replay",
    *,
    client: WorkbenchClient,
    seeds: int = SEEDS,
    metric: str | None = None,
    least: float = 1.0,
    at_once: int = 1,
    on_progress: Progress | None = None,
) -> Verification:
    """Check a run at one level; on the portal's loop.

    Args:
        level: `replay` needs no model and no server, `models` asks its models again, `seeds` runs
            its plan with other seeds.
        client: The door to the server; not used by `replay`.
        seeds: For `seeds`: how many.
        metric: For `seeds`: expression over the outputs of steps that gives a number.
        least: For `models`: share of identical answers it needs to hold, 0 to 1.
        at_once: For `models`: requests on their way at the same time.

    Raises:
        CannotVerify: When it cannot be checked at that level.
        ReplayMismatch: When a tape is missing or cannot be read.
        ConfigError: When the level or the metric is none.
    """
    if level == "replay":
        from workbench.plans.verify.replay import verify_replay

        return await verify_replay(folder)
    if level == "models":
        from workbench.plans.verify.models import verify_models

        return await verify_models(
            folder, client=client, least=least, at_once=at_once, on_progress=on_progress
        )
    if level == "seeds":
        from workbench.plans.verify.seeds import verify_seeds

        if metric is None:
            raise ConfigError(
                "this level compares a figure, and none is named.",
                key="metric",
                hint="Name one as step.output, such as score.accuracy: metric=, --metric.",
            )
        return await verify_seeds(
            folder, client=client, metric=metric, seeds=seeds, on_progress=on_progress
        )
    raise ConfigError(f"there is no level {level!r}.", key="level", hint=f"One of {LEVELS}.")
