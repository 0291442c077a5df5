"""Plans: written as data, run as notebooks, resumed, approved, verified.

Importing this package loads nothing heavy: its names are read when they are asked for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.plans.compile import compile_plan, plan_hash
    from workbench.plans.current import step
    from workbench.plans.opening import open_run
    from workbench.plans.parse import load_plan, parse_plan, to_yaml
    from workbench.plans.spec import Param, Plan, Retries, Step
    from workbench.plans.validate import check_plan, completed

__all__ = [
    "Param",
    "Plan",
    "Retries",
    "Step",
    "check_plan",
    "compile_plan",
    "completed",
    "load_plan",
    "open_run",
    "parse_plan",
    "plan_hash",
    "step",
    "to_yaml",
]

_PLACES = {
    "Param": "spec",
    "Plan": "spec",
    "Retries": "spec",
    "Step": "spec",
    "check_plan": "validate",
    "compile_plan": "compile",
    "completed": "validate",
    "load_plan": "parse",
    "open_run": "opening",
    "parse_plan": "parse",
    "plan_hash": "compile",
    "step": "current",
    "to_yaml": "parse",
}


def __getattr__(name: str) -> Any:
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_PLACES[name]}"), name)
