"""The order in which a comparison asks its models, and what their swaps take; pure values."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from workbench.chat.compare import Comparison
from workbench.chat.compare_values import Contender
from workbench.chat.runners import Runner, by_runner, full_name, waves
from workbench.chat.staging import ModelNeed, Staging, fit_together


def plan_of(
    sides: Sequence[Contender],
    staging: Staging,
    *,
    schedule: str = "memory",
    comparison: Comparison | None = None,
) -> dict[str, Any]:
    """Return the steps of the work, each with its models, in order.

    Args:
        sides: Who is asked.
        staging: What the server said of the models; without needs the steps are in the order
            given, and nothing is foreseen.
        schedule: `memory` or `sequential`.
        comparison: The one that runs, for what is done already.
    """
    needs = {full_name(need.model): need for need in staging.needs}
    ordered = by_runner(
        sides,
        lambda side: side.runner,
        loaded=[name for name, need in needs.items() if need.loaded],
    )
    groups = {group[0].runner: group for group in ordered}

    def fit(runners: Sequence[Runner]) -> bool:
        found = [needs.get(runner.model) for runner in runners]
        known = [need for need in found if need is not None and need.backend]
        if schedule == "sequential" or len(known) < len(found):
            return False
        return fit_together(known, staging.limits)[0] is True

    steps = [_step(wave, groups, needs, comparison) for wave in waves(list(groups), fit)]
    _mark(steps, busy=comparison is not None and comparison.busy)
    waits = [item["swap_s"] for step in steps for item in step["models"] if not item["loaded"]]
    return {
        "steps": steps,
        "known": bool(staging.needs),
        "together": staging.together,
        "reason": staging.reason,
        "notices": list(staging.notices),
        "swap_s": None if None in waits else sum(waits),
        "loads": len(waits),
    }


def _step(
    wave: Sequence[Runner],
    groups: dict[Runner, list[Contender]],
    needs: dict[str, ModelNeed],
    comparison: Comparison | None,
) -> dict[str, Any]:
    names = [side.name for runner in wave for side in groups[runner]]
    models = []
    for runner in wave:
        need = needs.get(runner.model)
        models.append(
            {
                "names": [side.name for side in groups[runner]],
                "loaded": need is not None and need.loaded is True,
                "swap_s": None if need is None else need.load_s,
                "source": "" if need is None else need.load_source,
            }
        )
    answers = [
        asked.answers[name]
        for asked in (comparison.asked if comparison is not None else ())
        for name in names
        if name in asked.answers
    ]
    left = sum(not answer.ended for answer in answers)
    begun = any(answer.status == "writing" for answer in answers)
    done = bool(answers) and left == 0
    return {"models": models, "left": left, "all": len(answers), "begun": begun, "done": done}


def _mark(steps: Sequence[dict[str, Any]], *, busy: bool) -> None:
    """Say of each step whether it is done, under way, next or later."""
    ahead = "now"
    for step in steps:
        begun, done = step.pop("begun"), step.pop("done")
        if not busy:
            step["state"] = "planned"
        elif done:
            step["state"] = "done"
        else:
            step["state"] = "now" if begun else ahead
            ahead = "next" if ahead == "now" else "later"
