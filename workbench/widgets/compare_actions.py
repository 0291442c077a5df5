"""What a person does in the view of a comparison, by the name of the message.

All run on the portal's loop.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from workbench.chat.compare import Comparison
from workbench.chat.compare_run import Schedule
from workbench.chat.compare_values import VERDICTS, Asked, Contender
from workbench.client.api import WorkbenchClient
from workbench.client.values import ModelInfo
from workbench.errors import ConfigError, StoreError, WorkbenchError
from workbench.widgets import presets
from workbench.widgets.actions import STATIC
from workbench.widgets.compare_picture import Pair, as_contender, place_of, split_prompts
from workbench.widgets.lanes import LaneViews
from workbench.widgets.snapshot import model_rows

Message = dict[str, Any]
MOST_SIDES = 12


class Panel(Protocol):
    """What an action needs of the panel it acts for; see `ComparePanel`."""

    client: WorkbenchClient
    comparison: Comparison | None
    sides: list[Contender]
    blind: bool
    schedule: Schedule
    voter: str
    shown: int
    pair: Pair | None
    problem: Message | None
    unasked: list[str]
    scope: str
    ranking_open: bool
    data_dir: Path | None
    views: LaneViews

    @property
    def asked(self) -> Asked | None:
        """The prompt that is shown."""
        ...

    def send(self, content: Mapping[str, Any], buffers: Sequence[bytes] = ()) -> None:
        """Send a message to every view."""
        ...

    def begin(self, prompts: Sequence[str]) -> asyncio.Future[Any]:
        """Ask prompts."""
        ...

    def goto(self, prompt: int) -> None:
        """Show another prompt."""
        ...

    def reset(self) -> None:
        """Forget what was said of the prompts."""
        ...

    def set_sides(self, sides: Sequence[Contender]) -> None:
        """Choose who is asked next."""
        ...

    def judged(self, asked: Asked) -> Pair | None:
        """Return the two answers that a vote is on."""
        ...

    async def rank(self) -> None:
        """Compute the ranking."""
        ...


Action = Callable[[Panel, Message, bytes], Awaitable[None]]
_EXPORTS = {
    "markdown": ("md", "text/markdown"),
    "json": ("json", "application/json"),
    "notebook": ("ipynb", "application/x-ipynb+json"),
}


def proposal(models: Sequence[ModelInfo]) -> list[Contender]:
    """Return two models to begin with: embedded ones where there are, toys last."""
    embedded = {model.backend for model in models if model.kind == "llamacpp"}
    rows = sorted(model_rows(models), key=lambda row: row["backend"] not in embedded)
    return [as_contender({"model": row["name"]}) for row in rows[:2]]


def _comparison(panel: Panel) -> Comparison:
    if panel.comparison is None:
        raise ConfigError("nothing was asked yet.", key="prompts")
    return panel.comparison


def _shown(panel: Panel) -> Asked:
    if panel.asked is None:
        raise ConfigError("nothing was asked yet.", key="prompts")
    return panel.asked


# --- asking


async def run(panel: Panel, message: Message, _: bytes) -> None:
    """Ask what is written; without a text, what could not be asked, or all prompts again."""
    prompts = split_prompts(str(message.get("text") or ""), lines=bool(message.get("lines")))
    if not prompts:
        prompts = panel.unasked or (panel.comparison.prompts if panel.comparison else [])
    try:
        future = panel.begin(prompts)
    except WorkbenchError:
        panel.unasked = list(prompts)
        raise
    await _to_the_end(panel, future, prompts)


async def _to_the_end(panel: Panel, future: asyncio.Future[Any], prompts: Sequence[str]) -> None:
    """Wait for the answers; what kept them from being asked at all is shown, to try again."""
    try:
        await future
    except asyncio.CancelledError:
        if not future.cancelled():
            raise
    except WorkbenchError as exc:
        panel.problem = {"text": exc.message, "hint": exc.hint}
        asked = () if panel.comparison is None else panel.comparison.prompts
        panel.unasked = [] if set(prompts) <= set(asked) else list(prompts)
        if panel.unasked:
            panel.goto(len(asked) - 1)
    panel.views.changed()


async def stop(panel: Panel, message: Message, _: bytes) -> None:
    """Stop the answers of one lane, or all; what came stays."""
    comparison = _comparison(panel)
    if message.get("lane") is None:
        comparison.stop()
    else:
        comparison.stop(_side(panel, int(message["lane"])))


def _side(panel: Panel, place: int) -> str:
    names = _comparison(panel).sides(_shown(panel).index)
    if not 0 <= place < len(names):
        raise ConfigError(f"there is no lane {place}.", key="lane")
    return names[place]


async def again(panel: Panel, message: Message, _: bytes) -> None:
    """Ask for an answer once more, or for all that are missing."""
    comparison = _comparison(panel)
    if message.get("mid") is None:
        await _to_the_end(panel, asyncio.wrap_future(comparison.begin_retry()), ())
        return
    asked, name = place_of(comparison, str(message["mid"]))
    await _to_the_end(panel, asyncio.wrap_future(comparison.begin_retry(asked.index, name)), ())


async def swap(panel: Panel, message: Message, data: bytes) -> None:
    """Load the model an answer waits for, with the consent that others leave, and ask again."""
    comparison = _comparison(panel)
    _, name = place_of(comparison, str(message["mid"]))
    side = comparison.contender(name)
    await panel.client.load(side.model, config=side.config, swap=True)
    await again(panel, message, data)


# --- looking


async def prompt(panel: Panel, message: Message, _: bytes) -> None:
    """Show another prompt."""
    panel.goto(int(message["n"]))


async def pair(panel: Panel, message: Message, _: bytes) -> None:
    """Choose the two answers to judge and to tell the differences of."""
    left, right = sorted((int(message["a"]), int(message["b"])))
    panel.pair = (left, right)
    panel.views.changed()


async def reveal(panel: Panel, _: Message, __: bytes) -> None:
    """Show the names of the shown prompt without a vote."""
    _comparison(panel).reveal(_shown(panel).index)


# --- voting


async def vote(panel: Panel, message: Message, _: bytes) -> None:
    """Record a verdict on the two answers that are judged; `a` is the left one."""
    comparison, asked, verdict = _comparison(panel), _shown(panel), str(message["verdict"])
    judged = panel.judged(asked)
    if verdict not in VERDICTS:
        raise ConfigError(f"no verdict {verdict!r}.", key="verdict")
    if judged is None:
        raise ConfigError("there are no two answers to judge yet.", key="verdict")
    names = comparison.sides(asked.index)
    left, right = (names[place] for place in judged)
    panel.pair = judged if len(names) == 2 else None
    try:
        await comparison.avote(asked.index, left, right, verdict, voter=panel.voter)
    except StoreError as exc:
        panel.views.notice("warn", exc.message, hint=exc.hint)
    panel.views.changed()


async def ranking(panel: Panel, message: Message, _: bytes) -> None:
    """Show the ranking, of this panel's votes or of all in the metrics, or show it no more."""
    panel.ranking_open = bool(message.get("open", True))
    panel.scope = str(message.get("scope") or panel.scope)
    if panel.ranking_open:
        await panel.rank()
    panel.views.changed()


# --- setup


async def sides(panel: Panel, message: Message, _: bytes) -> None:
    """Choose the models and how they are asked; what is shown stays until the next run."""
    found: list[Contender] = []
    for given in message["sides"][:MOST_SIDES]:
        found.append(as_contender(given, taken=[one.name for one in found]))
    if not found:
        raise ConfigError("a comparison needs a model.", key="models")
    panel.set_sides(found)


async def setup(panel: Panel, message: Message, _: bytes) -> None:
    """Set whether votes are blind, who votes, and whether models may answer at the same time."""
    if "blind" in message:
        panel.blind = bool(message["blind"])
        if panel.comparison is not None:
            panel.comparison.blind = panel.blind
    if message.get("schedule") in ("memory", "sequential"):
        panel.schedule = message["schedule"]
    if str(message.get("voter") or "").strip():
        panel.voter = str(message["voter"]).strip()
    panel.reset()


async def preset(panel: Panel, message: Message, _: bytes) -> None:
    """Save parameters under a name, or delete them."""
    if panel.data_dir is None:
        raise ConfigError("presets are kept in the data folder, and there is none.", key="data_dir")
    name = str(message["name"])
    if message["op"] == "save":
        params = {k: v for k, v in (message.get("params") or {}).items() if v is not None}
        made = presets.Preset(name, str(message.get("system") or ""), params, message.get("think"))
        await asyncio.to_thread(presets.save_preset, panel.data_dir, made)
    elif message["op"] == "delete":
        await asyncio.to_thread(presets.delete_preset, panel.data_dir, name)
    panel.views.changed()


# --- giving away


async def export(panel: Panel, message: Message, _: bytes) -> None:
    """Send the comparison as a file; it has the names, also of what is still blind."""
    comparison, form = _comparison(panel), str(message["fmt"])
    if form not in _EXPORTS:
        raise ConfigError(f"unknown format {form!r}.", key="fmt", hint=f"Known: {[*_EXPORTS]}.")
    made = getattr(comparison, f"to_{form}")()
    text = made if isinstance(made, str) else json.dumps(made, ensure_ascii=False, indent=1)
    ending, mime = _EXPORTS[form]
    title = "-".join(comparison.names)
    name = re.sub(r"[^\w.-]+", "-", title)[:40].strip("-") or "comparison"
    head = {"t": "file", "name": f"{name}.{ending}", "mime": mime, "view": message.get("view")}
    panel.send(head, buffers=[text.encode("utf-8", "replace")])


async def insert(panel: Panel, message: Message, _: bytes) -> None:
    """Give an answer, or code of it, to the view that asked: as a cell, or to copy."""
    asked, name = place_of(_comparison(panel), str(message["mid"]))
    source = message.get("source")
    # The view says which code it drew.
    text, kind = (source, "code") if isinstance(source, str) else ("", "markdown")
    if kind == "markdown" and name in asked.answers:
        text = asked.answers[name].text
    panel.send(
        {"t": "clip", "text": text.removesuffix("\n"), "kind": kind, "view": message.get("view")}
    )


async def need(panel: Panel, message: Message, _: bytes) -> None:
    """Send a part of the front end that is loaded late."""
    if message["mod"] != "math":
        raise ConfigError(f"unknown module {message['mod']!r}.", key="mod")
    source = await asyncio.to_thread((STATIC / "math.js").read_bytes)
    panel.send({"t": "mod", "mod": "math"}, buffers=[source])


ACTIONS: dict[str, Action] = {
    "run": run,
    "stop": stop,
    "again": again,
    "swap": swap,
    "prompt": prompt,
    "pair": pair,
    "reveal": reveal,
    "vote": vote,
    "ranking": ranking,
    "sides": sides,
    "setup": setup,
    "preset": preset,
    "export": export,
    "insert": insert,
    "need": need,
}
