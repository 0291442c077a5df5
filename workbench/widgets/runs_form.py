"""The form that starts a run: which plans there are, a field for each parameter, and its errors."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from workbench import resources
from workbench.errors import WorkbenchError
from workbench.plans.params import must_be_given, resolve_params
from workbench.plans.spec import Param, Plan
from workbench.widgets.runs_plan import plan_view

PLANS_LISTED = 60
_LARGEST_BYTES = 1_000_000
_GOAL_CHARS = 160


def plans_here(folder: Path) -> list[dict[str, str]]:
    """Return the plan files of a folder, of `plans` in it, and the bundled ones.

    Each is `{path, name, goal, where}`; `where` is `here` or `bundled`.
    """
    found: list[dict[str, str]] = []
    places = (("here", folder), ("here", folder / "plans"), ("bundled", resources.plans_dir()))
    for where, place in places:
        for path in _yaml_files(place):
            entry = _entry(path, where)
            if entry is not None and len(found) < PLANS_LISTED:
                found.append(entry)
    return found


def _yaml_files(folder: Path) -> Iterator[Path]:
    try:
        names = sorted(folder.iterdir())
    except OSError:
        return
    yield from (path for path in names if path.suffix in (".yaml", ".yml") and path.is_file())


def _entry(path: Path, where: str) -> dict[str, str] | None:
    """Return what a list says of a plan; `None` for a file that is none."""
    try:
        if path.stat().st_size > _LARGEST_BYTES:
            return None
        text = path.read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    if "plan:" not in text or "steps:" not in text:
        return None
    view = plan_view(text)
    goal = " ".join(view.goal.split())[:_GOAL_CHARS]
    return {"path": str(path), "name": view.name or path.stem, "goal": goal, "where": where}


def form_of(path: Path, plan: Plan) -> dict[str, Any]:
    """Return the form of a plan."""
    return {
        "path": str(path),
        "name": plan.name,
        "goal": plan.goal,
        "steps": len(plan.steps),
        "fields": [_field(param, path.parent) for param in plan.params],
        "errors": {},
        "text": "",
        "hint": None,
        "state": "open",
    }


def _field(param: Param, folder: Path) -> dict[str, Any]:
    default = param.default
    if param.type == "file" and isinstance(default, str):
        # What a person writes starts from the notebook's folder, and this from the plan's.
        default = os.path.normpath(folder.absolute() / default)
    env = param.env if param.type == "secret" else None
    return {
        "name": param.name,
        "type": param.type,
        "help": param.help,
        "required": must_be_given(param),
        "default": default,
        "choices": list(param.choices),
        "env": env,
        "env_set": bool(env and os.environ.get(env)),
    }


def values_of(
    plan: Plan, given: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """Return the values of a filled form, and what is wrong by the name of its field.

    Args:
        given: Texts, booleans, and lists of texts, as the fields hold them.
    """
    values: dict[str, Any] = {}
    errors: dict[str, dict[str, Any]] = {}
    for param in plan.params:
        try:
            own = _given(param, given.get(param.name))
            values |= resolve_params(replace(plan, params=(param,)), own, texts=True)
        except WorkbenchError as exc:
            errors[param.name] = {"text": exc.message, "hint": exc.hint}
    return values, errors


def _given(param: Param, value: Any) -> dict[str, Any]:
    """Return a parameter as it was filled in; an empty field takes the default."""
    if isinstance(value, list):
        return {param.name: [text for text in value if str(text).strip()]}
    if value is None or (value == "" and (param.type != "str" or param.default is None)):
        return {}
    return {param.name: value.strip() if isinstance(value, str) and param.type != "str" else value}
