"""The kernel's side of the models panel against a scripted server on a real socket."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from typing import Any

import comm
import pytest

from tests.widgets.models_server import GIB, ModelsServer, model
from tests.widgets.wire import Wire
from workbench.client.door import client_config, open_client
from workbench.portal import get_portal
from workbench.widgets import audience
from workbench.widgets import feed as feeds
from workbench.widgets import models as panels
from workbench.widgets.models import ModelsPanel

PATIENCE_S = 60.0


class View:
    """Stands where a view stands: on the other end of the comm; holds what it was told."""

    def __init__(self, panel: ModelsPanel, name: str = "v") -> None:
        self.panel, self.name = panel, name
        self.wire: Wire = panel.widget.comm
        self.send("hello")

    def send(self, kind: str, **more: Any) -> None:
        """Send a message as the browser does."""
        content = {"t": kind, "view": self.name, **more}
        message = {"content": {"data": {"method": "custom", "content": content}}, "buffers": []}
        self.panel.widget._handle_msg(message)

    @property
    def picture(self) -> dict[str, Any]:
        """What a view holds after everything that was sent."""
        held: dict[str, Any] = {"rows": {}, "events": []}
        for content in list(self.wire.content):
            if content["t"] == "state":
                held = json.loads(json.dumps(content["s"]))
                continue
            for key, row in content.get("rows", {}).items():
                held["rows"][key] = row
                if row is None:
                    del held["rows"][key]
            held.update(content.get("set", {}))
            held["events"] += content.get("ev", [])
        return held

    def until(self, found: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """Wait until the picture is such, and return it."""
        with self.wire.news:
            came = self.wire.news.wait_for(lambda: self._holds(found), PATIENCE_S)
        assert came, f"the picture never came: {self.picture}"
        return self.picture

    def _holds(self, found: Callable[[dict[str, Any]], Any]) -> bool:
        try:
            return bool(found(self.picture))
        except (KeyError, IndexError, TypeError):
            return False

    def row(self, found: Callable[[dict[str, Any]], Any], key: str = "owl:7b@ollama") -> Any:
        """Wait until a row is such, and return it."""
        return self.until(lambda picture: found(picture["rows"][key]))["rows"][key]

    def ready(self) -> View:
        """Wait until the server has answered."""
        self.until(lambda picture: picture["link"]["state"] == "ok")
        return self


@pytest.fixture(autouse=True)
def wires(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let widgets speak into a `Wire`."""
    monkeypatch.setattr(comm, "create_comm", Wire)


@pytest.fixture
def server() -> Iterator[ModelsServer]:
    """Start a server with two models; only one fits at a time."""
    rows = [model("owl:7b"), model("bat:1b", state="idle")]
    with ModelsServer(rows) as made:
        yield made


@pytest.fixture
def make_panel(server: ModelsServer) -> Iterator[Callable[[], ModelsPanel]]:
    """Return a function that makes a panel of the server; closes them in the end."""
    made: list[ModelsPanel] = []

    def make() -> ModelsPanel:
        config = client_config(url=server.url)
        made.append(ModelsPanel(open_client(config), config))
        return made[-1]

    yield make
    portal = get_portal()

    async def end() -> None:
        for panel in made:
            panel._audience.forget()
            await panel.door.aclose()
            await panel.feed._door.aclose()  # type: ignore[attr-defined]

    portal.run(end())


@pytest.fixture
def view(make_panel: Callable[[], ModelsPanel]) -> View:
    """Return the only view of a panel, with its first picture."""
    return View(make_panel()).ready()


def eventually(found: Callable[[], Any]) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not found():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_first_picture(view: View) -> None:
    """A view that says hello is told every model, device, backend and setting."""
    picture = view.picture
    assert {"owl:7b@ollama", "bat:1b@ollama"} == set(picture["rows"])
    assert "Test card" == picture["devices"][0]["name"]
    assert ("ollama", "auto") == (
        picture["backends"][0]["name"],
        picture["backends"][0]["swap"]["value"],
    )
    assert "flag" == picture["settings"][1]["source"]


def test_an_event_brings_the_change_at_once(server: ModelsServer, view: View) -> None:
    """What the server tells is asked for, and only the rows that changed are sent."""
    eventually(lambda: server.subscribers)
    view.until(lambda picture: picture["rows"])
    before = len(view.wire.content)
    server.models["owl:7b"]["state"] = "busy"
    server.emit("loaded", model="owl:7b", backend="ollama", seconds=3.9)
    row = view.row(lambda row: row["state"] == "busy")
    assert 5 * GIB == row["size_loaded"]
    sent = [content for content in view.wire.content[before:] if "rows" in content]
    assert [["owl:7b@ollama"]] == [list(content["rows"]) for content in sent]
    view.until(lambda picture: picture["events"][-1]["event"] == "loaded")


def test_one_subscription_for_all_panels(
    server: ModelsServer, make_panel: Callable[[], ModelsPanel]
) -> None:
    """Two panels with three views share one subscription and one poll; the last view ends both."""
    first, second = make_panel(), make_panel()
    views = [View(first, "a").ready(), View(first, "b").ready(), View(second, "c").ready()]
    assert first.feed is second.feed
    server.wait_for("GET events")
    eventually(lambda: server.subscribers == 1)
    assert 1 == len(server.heard("GET events"))
    for view in views:
        view.send("bye")
    eventually(lambda: server.subscribers == 0)
    assert not first.feed.running


def test_nothing_without_a_view(
    server: ModelsServer, make_panel: Callable[[], ModelsPanel]
) -> None:
    """A panel that nobody looks at asks nothing and sends nothing."""
    panel = make_panel()
    assert panel.widget.comm is not None
    get_portal().run(_one_turn())
    assert [] == server.requests
    assert [] == panel.widget.comm.content


async def _one_turn() -> None:
    """Let the portal do what waits."""


def test_a_silent_view_is_forgotten(
    monkeypatch: pytest.MonkeyPatch, server: ModelsServer, make_panel: Callable[[], ModelsPanel]
) -> None:
    """A page that went without a word ends the subscription too."""
    panel = make_panel()
    View(panel).ready()
    server.wait_for("GET events")
    monkeypatch.setattr(audience, "VIEW_GONE_S", 0.0)
    get_portal().loop.call_soon_threadsafe(panel._audience._look)
    eventually(lambda: not panel.feed.running and not server.subscribers)


def test_a_lost_message_is_healed(view: View, server: ModelsServer) -> None:
    """A beat with another number than the kernel's brings the whole picture again."""
    number = view.wire.content[-1]["n"]
    eventually(lambda: time.monotonic() - view.panel._audience._sent_at > audience.BEAT_GRACE_S)
    before = len(view.wire.content)
    view.send("beat", n=number)
    view.send("beat", n=number - 1)
    with view.wire.news:
        assert view.wire.news.wait_for(
            lambda: any(item["t"] == "state" for item in view.wire.content[before:]), PATIENCE_S
        )
    assert 1 == len([item for item in view.wire.content[before:] if item["t"] == "state"])


def test_unload_tells_its_verdict(server: ModelsServer, view: View) -> None:
    """While it unloads the row says so; then the verdict stands below it, with bytes and time."""
    server.held.add("POST unload")
    view.send("unload", key="bat:1b@ollama")
    view.row(lambda row: row.get("act") == "unload", "bat:1b@ollama")
    server.wait_for("POST unload").release()
    row = view.row(lambda row: "note" in row and "act" not in row, "bat:1b@ollama")
    assert {"model": "bat:1b@ollama"} == server.heard("POST unload")[0].json
    assert {
        "kind": "unloaded",
        "level": "ok",
        "verdict": "verified",
        "seconds": 0.6,
        "freed": 4 * GIB,
    } == row["note"]
    view.row(lambda row: row["state"] == "absent" and row["unload_s"] == 0.6, "bat:1b@ollama")


def test_a_good_note_leaves_by_itself(monkeypatch: pytest.MonkeyPatch, view: View) -> None:
    """What is no trouble does not stay for ever."""
    monkeypatch.setattr(panels, "NOTE_S", 0.3)
    view.send("unload", key="bat:1b@ollama")
    view.row(lambda row: "note" in row, "bat:1b@ollama")
    view.row(lambda row: "note" not in row, "bat:1b@ollama")


def test_a_swap_asks_and_then_does(server: ModelsServer, view: View) -> None:
    """In manual mode nothing leaves before the plan was seen and agreed to."""
    server.settings["swap.ollama"]["value"] = "manual"
    server.models["owl:7b"]["evicts"] = ["bat:1b"]
    view.send("load", key="owl:7b@ollama")
    row = view.row(lambda row: "ask" in row)
    assert ["bat:1b"] == [item["model"] for item in row["ask"]["evict"]]
    assert "idle" == server.models["bat:1b"]["state"]
    view.send("load", key="owl:7b@ollama", swap=True)
    row = view.row(lambda row: row["state"] == "idle" and "note" in row)
    assert "loaded" == row["note"]["kind"]
    assert "ask" not in row
    assert server.heard("POST load")[-1].json["swap"] is True
    view.row(lambda row: row["state"] == "absent", "bat:1b@ollama")


def test_a_question_can_be_left(server: ModelsServer, view: View) -> None:
    """Leaving the question leaves everything as it was."""
    server.settings["swap.ollama"]["value"] = "manual"
    server.models["owl:7b"]["evicts"] = ["bat:1b"]
    view.send("load", key="owl:7b@ollama")
    view.row(lambda row: "ask" in row)
    view.send("dismiss", key="owl:7b@ollama")
    view.row(lambda row: "ask" not in row)
    assert 1 == len(server.heard("POST load"))


def test_a_refusal_is_shown(server: ModelsServer, view: View) -> None:
    """What the server refuses stands below the row, with its hint, and stays."""
    body = {"error": "too large", "type": "LoadFailed", "hint": "Take another."}
    server.refused["POST load"] = (507, {**body, "model": "owl:7b", "reason": "too large"})
    view.send("load", key="owl:7b@ollama")
    note = view.row(lambda row: "note" in row)["note"]
    assert "error" == note["level"]
    assert "too large" in note["text"]


@pytest.mark.parametrize(
    ("kind", "more", "asked", "body"),
    [
        ("prefer", {"priority": 0}, "PATCH models", {"priority": 0}),
        ("prefer", {"hot": True}, "PATCH models", {"hot": True}),
        ("pin", {"on": True}, "POST pin", {}),
        ("pin", {"on": False}, "POST unpin", {}),
        ("unload", {"force": True}, "POST unload", {"force": True}),
        ("delete", {}, "DELETE models", {}),
    ],
)
def test_actions_ask_the_server(
    server: ModelsServer,
    view: View,
    kind: str,
    more: dict[str, Any],
    asked: str,
    body: dict[str, Any],
) -> None:
    """Each action of a row is one request that names the model with its backend."""
    view.send(kind, key="owl:7b@ollama", **more)
    assert {"model": "owl:7b@ollama", **body} == server.wait_for(asked).json


def test_priority_zero_is_shown(view: View) -> None:
    """A changed priority comes back from the server, the lowest too."""
    view.send("prefer", key="owl:7b@ollama", priority=0)
    view.row(lambda row: row["priority"] == 0)


def test_deleting_says_what_is_free(view: View) -> None:
    """A deleted model leaves the list, and its size is told."""
    view.send("delete", key="owl:7b@ollama")
    picture = view.until(lambda picture: "owl:7b@ollama" not in picture["rows"])
    assert ("deleted", 4 * GIB) == (picture["said"]["kind"], picture["said"]["freed"])


def test_a_setting_is_changed_and_refused(server: ModelsServer, view: View) -> None:
    """A setting's answer is shown with its new source; a refusal is told."""
    view.send("set", name="swap.ollama", value="manual")
    picture = view.until(lambda picture: picture["said"])
    assert ("manual", "state") == (
        picture["settings"][0]["value"],
        picture["settings"][0]["source"],
    )
    assert "swap.ollama is manual now." == picture["said"]["text"]
    view.send("set", name="swap.ollama", value="never")
    view.until(lambda picture: picture["said"]["level"] == "error")
    assert "manual" == server.settings["swap.ollama"]["value"]


def test_pull_and_cancel(server: ModelsServer, view: View) -> None:
    """A download shows how far it is; cancelling it closes the connection."""
    server.pull_lines = [
        {"status": "pulling", "total_bytes": 100, "completed_bytes": 40, "speed_bytes_per_s": 7.0},
        {"stall": True},
    ]
    view.send("pull", model="new:1b")
    picture = view.until(lambda picture: picture["pulls"][0]["completed_bytes"] == 40)
    assert 7.0 == picture["pulls"][0]["speed_bytes_per_s"]
    view.send("pull_cancel", model="new:1b")
    assert server.heard("POST pull")[0].disconnected.wait(PATIENCE_S)
    view.until(lambda picture: picture["pulls"] == [])


@pytest.mark.parametrize(
    ("lines", "field", "value"),
    [
        ([{"status": "success"}], "done", True),
        ([{"error": "no such model", "type": "ModelNotFound"}], "error", "no such model"),
        ([{"status": "pulling"}], "error", "The download broke off; pull it again to go on."),
    ],
)
def test_how_a_pull_ends(
    server: ModelsServer, view: View, lines: list[dict[str, Any]], field: str, value: Any
) -> None:
    """A download that is through, was refused or broke off says so."""
    server.pull_lines = lines
    view.send("pull", model="new:1b")
    view.until(lambda picture: picture["pulls"][0][field] == value)


def test_a_file_is_added(server: ModelsServer, view: View) -> None:
    """A GGUF by its path becomes a row."""
    view.send("add", path="/models/new.gguf", name=None)
    picture = view.until(lambda picture: "new@ollama" in picture["rows"])
    assert "Added new." == picture["said"]["text"]
    assert {"path": "/models/new.gguf"} == server.heard("POST models/add")[0].json


def test_a_server_that_goes_and_comes(server: ModelsServer, view: View) -> None:
    """When the server is gone the last picture stays; when it is back it is found again."""
    server.stop()
    picture = view.until(lambda picture: picture["link"]["state"] == "gone")
    assert "owl:7b@ollama" in picture["rows"]
    assert picture["link"]["text"]
    assert not picture["link"]["can_start"]
    server.models["owl:7b"]["state"] = "busy"
    server.start()
    view.until(lambda picture: picture["link"]["state"] == "ok")
    view.row(lambda row: row["state"] == "busy")
    eventually(lambda: server.subscribers == 1)


def test_a_server_without_some_endpoints(
    server: ModelsServer, make_panel: Callable[[], ModelsPanel]
) -> None:
    """An older server shows its models, and the reason why there is no more."""
    for name in ("gpu", "queue", "settings"):
        server.refused[f"GET {name}"] = (404, {"error": f"no {name} here"})
    view = View(make_panel())
    picture = view.until(lambda picture: picture["rows"])
    assert (None, None) == (picture["settings"], picture["queue"])
    assert "no gpu here" == picture["env"]["gpu_reason"]


def test_events_are_told_once(server: ModelsServer, view: View) -> None:
    """After a lost connection the recent events come again, and are shown once."""
    eventually(lambda: server.subscribers)
    server.emit("pinned", model="owl:7b")
    view.until(lambda picture: picture["events"])
    server.stop()
    view.until(lambda picture: picture["link"]["state"] == "gone")
    server.start()
    view.until(lambda picture: picture["link"]["state"] == "ok")
    eventually(lambda: server.subscribers == 1)
    server.emit("unpinned", model="owl:7b")
    view.until(lambda picture: picture["events"][-1]["event"] == "unpinned")
    assert ["pinned", "unpinned"] == [item["event"] for item in view.picture["events"]]


@pytest.mark.parametrize("message", [{"t": "load"}, {"t": "set"}, {"t": "pull"}])
def test_a_message_that_is_not_whole(view: View, message: dict[str, Any]) -> None:
    """A message without what it needs is told as an error, and the panel goes on."""
    view.send(**{"kind": message["t"]})
    view.until(lambda picture: picture["said"]["level"] == "error")


def test_quiet_events_are_not_listed(server: ModelsServer, view: View) -> None:
    """Every request has its events; the list is for decisions."""
    eventually(lambda: server.subscribers)
    server.emit("request_ended", model="owl:7b")
    server.emit("pinned", model="owl:7b")
    view.until(lambda picture: picture["events"])
    assert ["pinned"] == [item["event"] for item in view.picture["events"]]


def test_feeds_are_shared_by_address(server: ModelsServer) -> None:
    """One server has one feed however often it is connected to; another server has its own."""
    loop = get_portal().loop
    one = feeds.feed_of(client_config(url=server.url), loop=loop)
    assert one is feeds.feed_of(client_config(url=server.url), loop=loop)
    assert one is not feeds.feed_of(client_config(url="http://127.0.0.1:9"), loop=loop)
