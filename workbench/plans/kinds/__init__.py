"""The kinds of steps, one file each.

A module in this package that registers a kind is found by itself.  Other packages name a module
that does so as an entry point of the group `workbench.kinds`.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Mapping
from functools import cache
from importlib.metadata import entry_points

from workbench.plans.kinds.base import StepKind, registered

GROUP = "workbench.kinds"
"""Entry points of this group name modules that register kinds of their own."""


def load_kinds() -> Mapping[str, StepKind]:
    """Return every kind there is, by name: ours, installed ones, and those of this process."""
    _import_all()
    return registered()


@cache
def _import_all() -> None:
    for module in pkgutil.iter_modules(__path__, f"{__name__}."):
        importlib.import_module(module.name)
    for entry in entry_points(group=GROUP):
        entry.load()
