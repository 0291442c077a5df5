"""What a person does in the runs panel, by the name of the message; all on the portal's loop."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from workbench.client.api import WorkbenchClient
from workbench.errors import PlanInvalid, StoreError, WorkbenchError
from workbench.plans.folder import RunFolder
from workbench.plans.spec import Plan
from workbench.widgets import runs_door as door
from workbench.widgets.feed import own
from workbench.widgets.runs_detail import step_detail
from workbench.widgets.runs_feed import RunsFeed
from workbench.widgets.runs_form import form_of, plans_here, values_of

if TYPE_CHECKING:
    from workbench.widgets.runs_notify import OnFinish

COPIES = "workbench-runs"
# How often it is looked whether a run has read an answer.
READ_S = 0.3
_MODELS_S = 5.0

Message = Mapping[str, Any]


@dataclass
class Doings:
    """What a person has open, and what is being done.

    Attributes:
        acts: What goes on, by the id of the run, or of run and step.
        plan: The plan of the open form.
    """

    run: str | None = None
    step: str | None = None
    detail: dict[str, Any] | None = None
    form: dict[str, Any] | None = None
    plan: Plan | None = None
    plans: list[dict[str, str]] | None = None
    models: list[str] | None = None
    acts: dict[str, str] = field(default_factory=dict)
    said: dict[str, Any] | None = None


class Panel(Protocol):
    """What an action needs of the panel it acts for; see `RunsPanel`."""

    doings: Doings
    door: WorkbenchClient
    on_finish: OnFinish | None

    @property
    def feed(self) -> RunsFeed:
        """What is known about the runs."""

    @property
    def folder(self) -> Path:
        """Where the notebook works."""

    def say(self, said: Message | None) -> None:
        """Show a line above everything."""

    def changed(self) -> None:
        """Tell the views soon."""

    def later(self, action: Action, message: Message) -> None:
        """Do something while this goes on."""


Action = Callable[[Panel, Message], Awaitable[None]]


async def open_run(panel: Panel, message: Message) -> None:
    """Show one run, or with `None` the list."""
    run = message.get("run")
    panel.doings.run = None if run is None else str(run)
    panel.doings.step = panel.doings.detail = None
    panel.feed.open(panel, panel.doings.run)
    panel.changed()


async def open_step(panel: Panel, message: Message) -> None:
    """Show one step of the open run, or with `None` none."""
    step = message.get("step")
    panel.doings.step = None if step is None else str(step)
    panel.doings.detail = None
    await read_step(panel, message)


async def read_step(panel: Panel, _: Message) -> None:
    """Read the open step anew; files are read in a worker thread."""
    doings = panel.doings
    run_id, step_id = doings.run, doings.step
    if run_id is None or step_id is None:
        panel.changed()
        return

    def read() -> dict[str, Any] | None:
        run = panel.feed.watched(run_id)
        if run is None or run.story is None:
            return None
        state = run.story.state.step(step_id)
        plan = run.plan.step(step_id)
        return step_detail(run.folder, plan, state, run.story.steps.get(step_id))

    detail = await panel.feed.aside(read)
    if (doings.run, doings.step) == (run_id, step_id):
        doings.detail = detail
        panel.changed()


async def approve(panel: Panel, message: Message) -> None:
    """Answer a question."""
    folder, step, yes = _folder(panel, message), str(message["step"]), bool(message["yes"])
    note = str(message.get("note") or "")

    async def work() -> None:
        await door.answer(folder, step, yes=yes, note=note, asked=message.get("asked"))

    await _act(panel, f"{folder.run_id}/{step}", "yes" if yes else "no", work)
    panel.later(go_on, {"run": folder.run_id, "step": step})


async def go_on(panel: Panel, message: Message) -> None:
    """Resume a run that has stopped to wait; one whose process stays finds the answer itself.

    A process that is about to stop may not read it any more, so its end is awaited.
    """
    folder, step = _folder(panel, message), str(message["step"])
    await panel.feed.look()
    while panel.feed.is_unread(folder.run_id, step):
        if not folder.alive:
            await resume(panel, message)
            return
        await asyncio.sleep(READ_S)
        await panel.feed.look()


async def cancel(panel: Panel, message: Message) -> None:
    """Ask a run to stop; the question was asked in the view."""
    folder = _folder(panel, message)

    async def work() -> None:
        await door.cancel(folder)

    await _act(panel, folder.run_id, "cancel", work)


async def resume(panel: Panel, message: Message) -> None:
    """Go on with a run."""
    folder = _folder(panel, message)

    async def work() -> None:
        await door.resume(folder, client=panel.door)

    await _act(panel, folder.run_id, "resume", work)


async def _act(panel: Panel, key: str, act: str, work: Callable[[], Awaitable[None]]) -> None:
    """Do something with a run while its view says so."""
    acts = panel.doings.acts
    if key in acts:
        return
    acts[key] = act
    panel.changed()
    try:
        await work()
    finally:
        acts.pop(key, None)
        panel.feed.look_soon()
        panel.changed()


async def copy_notebook(panel: Panel, message: Message) -> None:
    """Put a copy of a run's notebook beside this one, where JupyterLab can open it."""
    folder = _folder(panel, message)
    name = f"{message.get('name') or 'run'}-{folder.run_id[:12]}.ipynb"
    target = panel.folder / COPIES / Path(name).name

    def copy() -> None:
        target.parent.mkdir(exist_ok=True)
        shutil.copyfile(folder.notebook, target)

    await asyncio.to_thread(copy)
    said = {"level": "ok", "text": "A copy of the notebook lies in", "path": str(target)}
    panel.say({**said, "open": f"{COPIES}/{target.name}", "view": message.get("view")})


async def list_plans(panel: Panel, _: Message) -> None:
    """Look which plans there are."""
    panel.doings.plans = await asyncio.to_thread(plans_here, panel.folder)
    panel.changed()


async def open_form(panel: Panel, message: Message) -> None:
    """Show the form of a plan, or with `None` none."""
    doings = panel.doings
    if message.get("path") is None:
        doings.form = doings.plan = None
        panel.changed()
        return
    path = await asyncio.to_thread(_path, panel.folder, str(message["path"]))
    try:
        doings.plan = await door.read_plan(path)
    except WorkbenchError as exc:
        doings.plan, doings.form = None, {"path": str(path), "state": "broken", **_told(exc)}
    else:
        doings.form = form_of(path, doings.plan)
    panel.changed()
    if doings.plan is not None and any("model" in param.type for param in doings.plan.params):
        await _list_models(panel)


def _path(folder: Path, text: str) -> Path:
    return folder / Path(text).expanduser()


async def _list_models(panel: Panel) -> None:
    """Ask which models there are; without an answer a name can still be written."""
    try:
        body = await panel.door.request_json("GET", own("models"), timeout_s=_MODELS_S)
        rows = body.get("models") or ()
        panel.doings.models = [str(row["name"]).removesuffix(":latest") for row in rows]
    except (WorkbenchError, KeyError, TypeError, AttributeError):
        panel.doings.models = []
    panel.changed()


async def start(panel: Panel, message: Message) -> None:
    """Start a run of the plan in the form, and open it."""
    doings = panel.doings
    form, plan = doings.form, doings.plan
    if form is None or plan is None or form["state"] == "starting":
        return
    values, errors = values_of(plan, message["values"])
    if errors:
        doings.form = {**form, "errors": errors, "tries": form.get("tries", 0) + 1}
        panel.changed()
        return
    doings.form = {**form, "errors": {}, "text": "", "hint": None, "state": "starting"}
    panel.changed()
    try:
        run_id = await door.start(
            plan,
            values,
            data_dir=panel.feed.data_dir,
            client=panel.door,
            # A function ends with this kernel; a command need not.
            on_finish=() if callable(panel.on_finish) else panel.on_finish or (),
        )
    except WorkbenchError as exc:
        key = getattr(exc, "key", None)
        beside = {key: _told(exc)} if key in values else {}
        above = {} if beside else _told(exc)
        doings.form = {**form, "errors": beside, "state": "open", **above}
        panel.changed()
        return
    doings.form = doings.plan = None
    await open_run(panel, {"run": run_id})


def _told(error: WorkbenchError) -> dict[str, Any]:
    """Return an error as the form shows it; a plan's problems one by one."""
    if not isinstance(error, PlanInvalid):
        return {"text": error.message, "hint": error.hint}
    problems = [
        {"line": found.line, "text": found.message, "hint": found.hint} for found in error.problems
    ]
    count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
    return {"text": f"This plan has {count}.", "hint": None, "problems": problems}


async def more(panel: Panel, _: Message) -> None:
    """List older runs too."""
    panel.feed.more()


async def refresh(panel: Panel, _: Message) -> None:
    """Look now."""
    panel.feed.look_soon()


async def dismiss(panel: Panel, _: Message) -> None:
    """Take the line above everything away."""
    panel.say(None)


def _folder(panel: Panel, message: Message) -> RunFolder:
    """Return the run of a message.

    Raises:
        StoreError: When it is not there any more.
    """
    folder = panel.feed.folder_of(str(message["run"]))
    if folder is None:
        raise StoreError(f"The run {message['run']} is not there any more.")
    return folder


ACTIONS: dict[str, Action] = {
    "run": open_run,
    "step": open_step,
    "approve": approve,
    "cancel": cancel,
    "resume": resume,
    "copy": copy_notebook,
    "plans": list_plans,
    "form": open_form,
    "start": start,
    "more": more,
    "refresh": refresh,
    "dismiss": dismiss,
}
