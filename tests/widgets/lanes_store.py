"""What the kernel's side tells views of dialogues and comparisons, for the scenes of the page.

Each picture is the whole of what a view that opens just then is sent; real requests made it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import comm
import pytest

from tests.client.conftest import PATIENT
from tests.widgets.dialogue_view import ViewOfDialogue
from tests.widgets.test_compare_panel import View, end
from workbench.chat.compare_values import contenders
from workbench.chat.dialogue import Dialogue
from workbench.client.api import WorkbenchClient
from workbench.portal import get_portal
from workbench.testing import FakeModel, Reply, ScriptedOllama
from workbench.widgets.compare import ComparePanel

Picture = dict[str, Any]
GB = 10**9
MODELS = {"gemma3:4b": 3.3, "qwen3:8b": 5.2, "llama3.2:3b": 2.0}
CAST: list[dict[str, Any]] = [
    {"name": "Ann", "model": "gemma3:4b", "system": "You love tea."},
    {"name": "Bob", "model": "qwen3:8b", "options": {"temperature": 0.4, "num_ctx": 8192}},
]
TEA = (
    "Tea, because it can be **weak or strong** without turning bitter:\n\n"
    "- green tea has about `30 mg` of caffeine\n- black tea about `50 mg`\n\n"
    "> A cup of tea makes everything better.\n"
)
COFFEE = "Coffee.\n\n| Drink | Caffeine |\n|---|---|\n| Tea | 50 mg |\n| Coffee | 95 mg |\n"
OPENING = "Tea or coffee: which one should an office serve, and why?"


@contextmanager
def _server() -> Iterator[tuple[ScriptedOllama, WorkbenchClient]]:
    models = [FakeModel(name, size_bytes=int(size * GB)) for name, size in MODELS.items()]
    with ScriptedOllama(models=models, memory_bytes=8 * GB) as ollama:
        client = WorkbenchClient(ollama.url, deadlines=PATIENT)
        yield ollama, client
        get_portal().run(client.aclose())


def dialogue_pictures(folder: Path) -> Picture:
    """Return the pictures of a dialogue in each state, and `stored`, what the drawer is told."""
    found: Picture = {}
    with _server() as (ollama, client):
        makers = (_set_up, _speaking, _paused, _approved, _failed, _ended)
        for number, make in enumerate(makers):
            made = make(ollama, client, folder / str(number))
            for name, view in made:
                found[name] = _picture(view)
                if name == "ended":
                    view.say(t="stored", query="")
                    found["stored"] = view.told("stored")
            if view.dialogue is not None:
                view.dialogue.stop()
                ollama.release()
                view.dialogue.close()
            view.end()
    return found


def _picture(view: ViewOfDialogue) -> Picture:
    def whole(seen: ViewOfDialogue) -> Picture | None:
        last = seen.messages[-1]
        return last if last["t"] == "state" and last["base"] is None else None

    del view.messages[:-1]
    view.say(t="sync")
    return dict(view.until(whole))


def _talk(client: WorkbenchClient, folder: Path, **how: Any) -> ViewOfDialogue:
    dialogue = Dialogue(client, CAST, opening=OPENING, data_dir=folder, seed=7, **how)
    return ViewOfDialogue(client, dialogue, data_dir=folder)


Made = Iterator[tuple[str, ViewOfDialogue]]


def _set_up(ollama: ScriptedOllama, client: WorkbenchClient, folder: Path) -> Made:
    view = ViewOfDialogue(client, data_dir=folder)
    view.say(t="draft", set={"participants": CAST})
    view.until(lambda v: v.shown["draft"] and v.shown["plan"])
    yield "setup", view
    view.say(t="draft", set={"participants": [CAST[0], {"name": "Bob", "model": "gone"}]})
    view.say(t="draft", set={"opening": OPENING, "order": "moderated", "moderator": "llama3.2:3b"})
    view.until(lambda v: v.shown["problem"] and "gone" in v.shown["problem"]["text"])
    yield "missing", view


def _speaking(ollama: ScriptedOllama, client: WorkbenchClient, folder: Path) -> Made:
    ollama.enqueue(Reply(TEA), Reply(COFFEE + "One more word", stall_after=12))
    view = _talk(client, folder, turns=4, human="interject")
    yield "ready", view
    view.say(t="start")
    ollama.wait_for_request(2, to="chat").stalled.wait()
    view.until(lambda v: len(v.turns) == 2 and v.texts[v.turns[1]["mid"]])
    yield "speaking", view
    view.say(t="layout", layout="lanes")
    view.until(lambda v: v.shown["layout"] == "lanes")
    yield "lanes", view


def _paused(ollama: ScriptedOllama, client: WorkbenchClient, folder: Path) -> Made:
    ollama.enqueue(Reply(TEA, stall_after=2))
    before = len([request for request in ollama.requests if request.operation == "chat"])
    view = _talk(client, folder, turns=4, human="interject")
    view.say(t="start")
    stalled = ollama.wait_for_request(before + 1, to="chat")
    stalled.stalled.wait()
    view.say(t="pause")
    view.until(lambda v: v.shown["run"]["pausing"])
    stalled.release()
    view.reaches("paused")
    view.say(t="mute", name="Bob", on=True)
    view.until(lambda v: v.shown["lanes"][1]["muted"])
    yield "paused", view


def _approved(ollama: ScriptedOllama, client: WorkbenchClient, folder: Path) -> Made:
    ollama.enqueue(Reply(TEA, thinking="Is it the taste, or is it the caffeine?"))
    view = _talk(client, folder, turns=2, human="approve")
    view.say(t="start")
    view.reaches("waiting")
    view.until(lambda v: v.turns and v.turns[0]["waiting"])
    yield "approve", view


def _failed(ollama: ScriptedOllama, client: WorkbenchClient, folder: Path) -> Made:
    broken = Reply(COFFEE, error_after=(1, "CUDA error: out of memory"))
    ollama.enqueue(Reply(TEA), broken)
    view = _talk(client, folder, turns=4)
    view.say(t="start")
    view.reaches("failed")
    yield "failed", view


def _ended(ollama: ScriptedOllama, client: WorkbenchClient, folder: Path) -> Made:
    ollama.enqueue(Reply(TEA, thinking="Taste or caffeine?"), Reply(COFFEE), Reply(TEA))
    ollama.enqueue(Reply("Agreed."))
    view = _talk(client, folder, turns=4, judge="llama3.2:3b")
    view.say(t="start")
    view.reaches("done")
    assert view.dialogue is not None
    ollama.enqueue(*[Reply('{"choice": "tie"}')] * 2)
    view.dialogue.decide()
    view.until(lambda v: v.shown["run"]["verdicts"])
    yield "ended", view


def compare_pictures() -> Picture:
    """Return the pictures of a comparison in each state."""
    found: Picture = {}
    with _server() as (ollama, client), pytest.MonkeyPatch.context() as patch:
        patch.setattr(comm, "create_comm", _wire())
        for make in (_asked, _streaming, _blind, _broken):
            panels: list[ComparePanel] = []

            def new(*models: str, made: list[ComparePanel] = panels, **how: Any) -> View:
                who = contenders(models or tuple(MODELS)[:2])
                made.append(ComparePanel(client, who, **{"order_seed": 1, "voter": "me", **how}))
                return View(made[-1])

            for name, view in make(ollama, new):
                found[name] = _whole(view)
            ollama.release()
            for panel in panels:
                end(panel)
    return found


def _wire() -> Any:
    from tests.widgets.wire import Wire

    return Wire


def _whole(view: View) -> Picture:
    before = len(view.wire.content)

    def last() -> Picture | None:
        new = view.wire.content[before:]
        return next((c for c in new if c["t"] == "state" and c["base"] is None), None)

    view.send("sync")
    with view.wire.news:
        assert view.wire.news.wait_for(last, 60)
    found = last()
    assert found is not None
    return found


New = Callable[..., View]
Seen = Iterator[tuple[str, View]]


def _asked(ollama: ScriptedOllama, new: New) -> Seen:
    view = new()
    yield "welcome", view
    ollama.enqueue(Reply(TEA, thinking="Taste or caffeine?"), Reply(COFFEE), to="chat")
    view.ask(OPENING)
    yield "answered", view
    ollama.enqueue(Reply(TEA), Reply(COFFEE, error_after=(1, "CUDA error: out of memory")))
    view.ask("And for a night train?")
    yield "failed", view
    for verdict in ("a", "tie"):
        view.send("vote", verdict=verdict)
    view.until(lambda s: any(pair[2] for pair in s["prompt"]["pairs"]))
    view.send("ranking", open=True, scope="here")
    view.until(lambda s: (s["ranking"] or {}).get("rows"))
    yield "ranking", view
    sides = [{"model": "gemma3:4b"}, {"model": "llama3.2:3b"}]
    view.send("sides", sides=sides)
    view.until(lambda s: s["setup"]["changed"])
    yield "changed", view


def _streaming(ollama: ScriptedOllama, new: New) -> Seen:
    ollama.enqueue(Reply(TEA, stall_after=9), to="chat")
    view = new(*MODELS)
    view.send("run", text=OPENING)
    view.until(lambda s: s["turns"] and s["turns"][0]["text"])
    yield "streaming", view
    view.send("stop")
    view.until(lambda s: not s["busy"] and s["prompt"])
    yield "stopped", view


def _blind(ollama: ScriptedOllama, new: New) -> Seen:
    ollama.enqueue(Reply(TEA), Reply(COFFEE), to="chat")
    view = new(blind=True)
    view.ask(OPENING)
    yield "blind", view


def _broken(ollama: ScriptedOllama, new: New) -> Seen:
    view = new("gemma3:4b", "gone")
    view.send("run", text=OPENING)
    view.until(lambda s: s["problem"] and not s["busy"])
    yield "missing", view
