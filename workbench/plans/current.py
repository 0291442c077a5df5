"""The step that this process carries out, for its own code: `from workbench.plans import step`.

It is told by the environment, so that notebooks and processes that a step starts know it too.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.errors import PlanError

VARIABLE = "WORKBENCH_STEP"


class CurrentStep:
    """What the code of a step may ask about it; an attribute is read when it is asked for."""

    @property
    def id(self) -> str:
        """Id of the step in the plan."""
        return str(_told()["id"])

    @property
    def run_id(self) -> str:
        """Id of the run."""
        return str(_told()["run_id"])

    @property
    def key(self) -> str:
        """Hash of everything the result depends on.

        A second attempt has the same one: give it to the outside world as idempotency key.
        """
        return str(_told()["key"])

    @property
    def attempt(self) -> int:
        """Which attempt this is, from 1."""
        return int(_told()["attempt"])

    @property
    def item(self) -> int | None:
        """Index of the item of a `foreach`, from 0; `None` outside of one."""
        item = _told()["item"]
        return None if item is None else int(item)

    @property
    def plan_dir(self) -> Path:
        """Folder of the plan file."""
        return Path(_told()["plan_dir"])

    def __repr__(self) -> str:
        told = os.environ.get(VARIABLE)
        return f"<step {told}>" if told else "<step: none in this process>"


step = CurrentStep()
"""The step of this process."""


def told(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the environment that tells a process of its step."""
    return {VARIABLE: json.dumps(dict(values))}


def _told() -> dict[str, Any]:
    text = os.environ.get(VARIABLE)
    if not text:
        raise PlanError(
            "This process carries out no step of a plan.",
            hint="`step` is known to the code of python, check and notebook steps.",
        )
    found: dict[str, Any] = json.loads(text)
    return found
