"""V3: the plan is run with other seeds, and a figure of the run compared with what they give.

The recorded figure is taken for one more draw from the same distribution: the run holds when it
lies in Student's prediction interval of the others.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.client.api import WorkbenchClient
from workbench.client.values import frame_of
from workbench.errors import CannotVerify, ConfigError, PlanError, PlanProblem
from workbench.plans.artifacts import read_step
from workbench.plans.create import RunOptions
from workbench.plans.expressions import check_expression, evaluate
from workbench.plans.folder import RunFolder
from workbench.plans.interval import Interval, prediction_interval
from workbench.plans.spec import Plan
from workbench.plans.stage import Nulls, Outputs
from workbench.plans.start import astart_run
from workbench.plans.verify.base import Level, Subject, Verification
from workbench.plans.verify.models import Progress

if TYPE_CHECKING:
    import pandas as pd

SEED = "seed"
"""The parameter that is changed."""

LEAST_SEEDS = 2


@dataclass(frozen=True, slots=True)
class SeedRun:
    """One run with another seed; `value` is what the metric gave there."""

    seed: int
    run_id: str
    value: float


@dataclass(frozen=True, repr=False)
class SeedsReport(Verification):
    """What runs with other seeds found.

    Attributes:
        metric: The expression that was computed of each run.
        recorded: What it gives for the run that is checked.
        interval: Where one more run of the plan lies, by the other seeds.
        runs: The runs with the other seeds, in the order of the seeds.
    """

    run_id: str
    ok: bool
    metric: str
    recorded: float
    interval: Interval
    runs: tuple[SeedRun, ...]
    level: Level = "seeds"

    def lines(self) -> list[str]:
        found = self.interval
        word, inside = ("holds", "in") if self.ok else ("does not hold", "outside of")
        return [
            f"Run {self.run_id} {word}: {self.metric} = {self.recorded:.6g} lies {inside} "
            f"[{found.low:.6g}, {found.high:.6g}].",
            f"  {found.method}, {100 * found.level:g} %; mean {found.mean:.6g}, standard deviation "
            f"{found.deviation:.6g} of {found.n} seeds.",
            *(f"  seed {run.seed}: {run.value:.6g} (run {run.run_id})" for run in self.runs),
        ]

    def to_frame(self) -> pd.DataFrame:
        """Return a DataFrame with one row per seed: seed, run_id, value (of the metric)."""
        return frame_of(self.runs)

    def to_json(self) -> dict[str, Any]:
        named = ("low", "high", "mean", "deviation", "n", "level", "method")
        own = ("run_id", "level", "ok", "metric", "recorded")
        return {
            **{name: getattr(self, name) for name in own},
            "interval": {name: getattr(self.interval, name) for name in named},
            "runs": [
                {"seed": run.seed, "run_id": run.run_id, "value": run.value} for run in self.runs
            ],
        }


async def verify_seeds(
    folder: RunFolder,
    *,
    client: WorkbenchClient,
    metric: str,
    seeds: int = 5,
    on_progress: Progress | None = None,
) -> SeedsReport:
    """Run a plan with other seeds and say where the run lies among them; on the portal's loop.

    Args:
        metric: Expression over the outputs of steps that gives a number, as `score.accuracy`.
        seeds: How many; those that follow the run's own are taken.

    Raises:
        CannotVerify: When the plan has no whole number `seed`, asks a person, acts on the world
            outside, did not end well, or one of the runs does not.
        ConfigError: When the metric is no expression or gives no number.
    """
    subject = await asyncio.to_thread(Subject.read, folder)
    plan = await asyncio.to_thread(subject.plan)
    _check(subject, plan, metric, seeds)
    recorded = await asyncio.to_thread(value_of, metric, subject.folder, subject.record)
    runs: list[SeedRun] = []
    first = int(subject.info.params[SEED]) + 1
    for seed in range(first, first + seeds):
        runs.append(await _run(subject, plan, seed, metric, client))
        if on_progress is not None:
            on_progress(len(runs), seeds)
    interval = prediction_interval([run.value for run in runs])
    ok = interval.holds(recorded)
    return SeedsReport(subject.info.run_id, ok, metric, recorded, interval, tuple(runs))


def _check(subject: Subject, plan: Plan, metric: str, seeds: int) -> None:
    run_id = subject.info.run_id
    if seeds < LEAST_SEEDS:
        raise ConfigError(f"an interval needs at least {LEAST_SEEDS} seeds.", key="seeds")
    problem = check_expression(metric)
    if isinstance(problem, PlanProblem):
        raise ConfigError(f"the metric {metric!r} is no expression: {problem}", key="metric")
    if subject.record["status"] != "done":
        raise CannotVerify(run_id, f"it ended as {subject.record['status']}")
    kinds = {param.name: param.type for param in plan.params}
    if kinds.get(SEED) != "int":
        raise CannotVerify(
            run_id,
            "its plan has no parameter `seed` of the type int",
            hint="Add one, and give it to the models: options: {seed: $params.seed}.",
        )
    asking = [step.id for step in plan.steps if step.kind == "approval"]
    if asking:
        raise CannotVerify(
            run_id,
            f"its steps {', '.join(asking)} ask a person, who would have to answer for each seed",
            hint="Replay it (--level replay), or put what varies into a plan of its own.",
        )
    acting = [step.id for step in plan.steps if step.effects == "external"]
    if acting:
        raise CannotVerify(
            run_id,
            f"its steps {', '.join(acting)} act on the world outside, and would do so again",
            hint="Replay it (--level replay), or ask its models again (--level models).",
        )


async def _run(
    subject: Subject, plan: Plan, seed: int, metric: str, client: WorkbenchClient
) -> SeedRun:
    info = subject.info
    options = RunOptions(name=f"{info.name or info.plan}, seed {seed}", parent=info.run_id)
    handle = await astart_run(
        plan,
        {**info.params, SEED: seed},
        data_dir=Path(info.data_dir),
        client=client,
        options=options,
    )
    try:
        state = await handle.await_()
    except asyncio.CancelledError:
        handle.cancel()
        raise
    if state.status != "done":
        reason = "" if state.error is None else f": {state.error.get('message')}"
        raise CannotVerify(
            info.run_id,
            f"with seed {seed} the plan ended as {state.status}{reason}",
            hint=f"See `workbench runs`; the run is {handle.run_id}.",
        )
    record = await asyncio.to_thread(handle.record)
    value = await asyncio.to_thread(value_of, metric, handle.folder, record)
    return SeedRun(seed, handle.run_id, value)


def value_of(metric: str, folder: RunFolder, record: Mapping[str, Any]) -> float:
    """Return what an expression gives for a run.

    Raises:
        ConfigError: When it gives no finite number.
        StoreError: When an artefact was changed on disk.
    """
    scope: dict[str, Any] = {"params": dict(record["params"])}
    for step in record["steps"]:
        place = folder.committed(step)
        found = read_step(place)
        scope[step] = Nulls() if found is None else Outputs(place, found.outputs)
    try:
        value = evaluate(metric, scope)
    except PlanError as exc:
        raise ConfigError(f"the metric {metric!r} cannot be computed: {exc.message}") from exc
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not math.isfinite(value):
        raise ConfigError(f"the metric {metric!r} gives {value!r}, not a number.", key="metric")
    return float(value)
