"""The kernel's side of the dashboard: real stores, a view on the other end of the comm."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import comm
import nbformat
import pytest

import workbench.metrics
from tests.widgets import metrics_store
from tests.widgets.models_server import ModelsServer
from tests.widgets.wire import Wire
from workbench.client.door import client_config
from workbench.metrics.charts.requests import PHASES
from workbench.metrics.journal import JournalWriter
from workbench.portal import get_portal
from workbench.units import rfc3339, utc_now
from workbench.widgets import audience, dashboard, dashboard_live
from workbench.widgets.dashboard import Dashboard

PATIENCE_S = 90.0
WARNINGS = ("ignore::DeprecationWarning", "ignore::FutureWarning")
pytestmark = [pytest.mark.filterwarnings(*WARNINGS)]


class View:
    """Stands where a view stands: on the other end of the comm; holds what it was told."""

    def __init__(self, panel: Dashboard, name: str = "v") -> None:
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
        held: dict[str, Any] = {"rows": {}}
        for content in list(self.wire.content):
            if content["t"] == "state":
                held = json.loads(json.dumps(content["s"]))
            for key, row in content.get("rows", {}).items():
                held["rows"][key] = row
            held.update(content.get("set", {}))
        held["rows"] = {key: row for key, row in held["rows"].items() if row is not None}
        return held

    def until(self, found: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """Wait until the picture is such, and return it."""
        with self.wire.news:
            came = self.wire.news.wait_for(lambda: self._holds(found), PATIENCE_S)
        assert came, f"the picture never came: {str(self.picture)[:3000]}"
        return self.picture

    def _holds(self, found: Callable[[dict[str, Any]], Any]) -> bool:
        try:
            return bool(found(self.picture))
        except (KeyError, IndexError, TypeError):
            return False

    def ready(self) -> View:
        """Wait until everything was asked for once."""
        self.until(lambda p: p["store"]["state"] != "reading" and not p["busy"] and p["choices"])
        return self


Show = Callable[..., View]


@pytest.fixture
def show(monkeypatch: pytest.MonkeyPatch) -> Iterator[Show]:
    """Return a function that shows a dashboard to a view; each is closed at the end."""
    monkeypatch.setattr(comm, "create_comm", Wire)
    monkeypatch.setattr(audience, "SEND_S", 0.02)
    monkeypatch.setattr(dashboard_live, "LOOK_S", 0.05)
    monkeypatch.setattr(dashboard_live, "LEAST_PAUSE_S", 0.05)
    monkeypatch.setattr(dashboard_live, "PAUSE_FACTOR", 0.0)
    monkeypatch.setattr(dashboard_live, "RETRY_S", 0.2)
    shown: list[Dashboard] = []
    opened: list[Any] = []

    def show_one(folder: Path, **more: Any) -> View:
        if "config" not in more:
            metrics = workbench.metrics.open(folder)
            opened.append(metrics)
            more["metrics"] = metrics
        made = Dashboard(export_dir=folder.parent / "out", **more)
        shown.append(made)
        return View(made)

    yield show_one
    for made in shown:
        task = made._live._task
        made.close()
        get_portal().run(_ended(made, task))
    for metrics in opened:
        metrics.close()


async def _ended(made: Dashboard, task: Any) -> None:
    for waited in {task, made._live._former} - {None}:
        while not waited.done():
            await dashboard_live.asyncio.sleep(0.01)


@pytest.fixture(scope="module")
def week(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a store with a week of work; tests that write make their own."""
    return metrics_store.fill(tmp_path_factory.mktemp("week") / "metrics")


def a_request(**more: Any) -> dict[str, Any]:
    """Return the row of a request that ended just now."""
    row = {
        "ts": rfc3339(utc_now()),
        "status": "ok",
        "gen_ai_request_model": "owl:7b",
        "duration": 1.5,
        "client_name": "test",
        "backend": "local",
    }
    return row | more


def test_an_empty_store_fills_while_it_is_watched(show: Show, tmp_path: Path) -> None:
    """A store that does not exist yet is calmly empty, and its first request appears by itself."""
    folder = tmp_path / "metrics"
    view = show(folder)
    held = view.until(lambda p: p["store"]["state"] == "empty" and not p["busy"])
    assert {} == held["rows"]
    assert not held["headline"]["any"]
    with JournalWriter(folder) as writer:
        writer.write("requests", a_request())
        held = view.until(lambda p: p["table"]["rows"][0]["model"] == "owl:7b")
        assert "ok" == held["store"]["state"]
        writer.write("requests", a_request(gen_ai_request_model="bat:1b"))
        view.until(lambda p: len(p["table"]["rows"]) == 2 and p["headline"]["now"]["requests"] == 2)


def test_a_week_of_work(show: Show, week: Path) -> None:
    """Figures, trends, charts, choices and the first hundred requests are told."""
    view = show(week).ready()
    view.send("filter", set={"range": "all"})
    held = view.until(lambda p: p["headline"]["now"]["requests"] == 600 and not p["busy"])
    assert held["headline"]["before"] is None
    assert 100 == len(held["table"]["rows"])
    assert {"qwen3:4b", "llama3.2:3b", "gemma3:12b"} == {n for n, _ in held["choices"]["model"]}
    drawn = {"latency", "phases", "speed", "memory", "gaps", "loads", "runs", "steps"}
    assert drawn == set(held["rows"])
    assert all(chart["figure"]["data"] for chart in held["rows"].values())
    view.send("filter", set={"range": "day"})
    held = view.until(lambda p: p["filters"]["range"] == "day" and p["headline"]["before"])
    assert 0 < held["headline"]["before"]["requests"] < held["headline"]["now"]["requests"]


def test_filters_narrow_everything(show: Show, week: Path) -> None:
    """A model, a client and a status narrow figures, charts and list together."""
    view = show(week).ready()
    view.send("filter", set={"range": "all", "model": "gemma3:12b", "status": "error"})
    held = view.until(lambda p: p["headline"]["now"]["error_share"] == 1.0 and not p["busy"])
    rows = held["table"]["rows"]
    assert {("gemma3:12b", "error")} == {(row["model"], row["status"]) for row in rows}
    assert len(rows) == held["headline"]["now"]["requests"]
    # The choices stay, so that another can be chosen.
    assert 3 == len(held["choices"]["model"])
    view.send("filter", set={"model": None, "status": None})
    view.until(lambda p: p["headline"]["now"]["requests"] == 600)


def test_a_custom_time(show: Show, week: Path) -> None:
    """A time from and until is UTC; one that ends before it begins is refused with a reason."""
    view = show(week).ready()
    today = datetime.now(UTC).date().isoformat()
    view.send("filter", set={"range": "custom", "since": "2020-01-01T00:00", "until": today})
    held = view.until(lambda p: p["filters"]["range"] == "custom" and not p["busy"])
    assert held["headline"]["now"]["requests"] < 600
    view.send("filter", set={"since": "2030-01-01T00:00"})
    held = view.until(lambda p: p["said"]["level"] == "error")
    assert "The end of the time is not after its beginning." == held["said"]["text"]
    assert "2020-01-01T00:00" == held["filters"]["since"]
    view.send("filter", set={"colour": "red"})
    view.until(lambda p: "no filter 'colour'" in p["said"]["text"])


def test_order_and_pages(show: Show, week: Path) -> None:
    """The list is ordered by any column, in both ways, and turned a hundred at a time."""
    view = show(week).ready()
    view.send("filter", set={"range": "all"})
    view.send("page", by="duration_s", desc=True)
    held = view.until(lambda p: p["table"]["by"] == "duration_s" and not p["busy"])
    slow = [row["duration_s"] for row in held["table"]["rows"]]
    assert sorted(slow, reverse=True) == slow
    view.send("page", offset=500)
    held = view.until(lambda p: p["table"]["offset"] == 500)
    assert held["table"]["rows"][0]["duration_s"] < slow[-1]
    view.send("page", by="duration_s", desc=False)
    held = view.until(lambda p: not p["table"]["desc"])
    assert 0 == held["table"]["offset"]
    view.send("page", by="prompt_sha; DROP TABLE requests")
    view.until(lambda p: "cannot be ordered" in p["said"]["text"])


def test_details(show: Show, week: Path) -> None:
    """A request tells its text where it was recorded, its parameters, its error and its stage."""
    view = show(week).ready()
    view.send("filter", set={"range": "all"})
    held = view.until(lambda p: p["headline"]["now"]["requests"] == 600 and not p["busy"])
    rows = held["table"]["rows"]
    view.send("detail", id=rows[0]["id"])
    detail = view.until(lambda p: p["detail"]["id"] == rows[0]["id"])["detail"]
    assert rows[0]["model"] == detail["model"]
    assert ["user", "assistant"] == [message["role"] for message in detail["messages"]]
    assert metrics_store.ANSWER == detail["messages"][1]["parts"][0]["text"]
    assert {"temperature": 0.7, "top_p": 0.9, "seed": 4} == detail["options"]
    view.send("detail", id=rows[1]["id"])
    detail = view.until(lambda p: p["detail"]["id"] == rows[1]["id"])["detail"]
    assert ([], 0) == (detail["messages"], detail["n_messages"])
    view.send("filter", set={"status": "error"})
    held = view.until(lambda p: all(row["status"] == "error" for row in p["table"]["rows"]))
    failed = held["table"]["rows"][0]
    view.send("detail", id=failed["id"])
    detail = view.until(lambda p: p["detail"]["id"] == failed["id"])["detail"]
    assert "stream" == detail["facts"]["error_stage"]
    assert metrics_store.NASTY == detail["messages"][1]["parts"][0]["text"]
    view.send("detail", id="none")
    assert view.until(lambda p: p["detail"]["id"] == "none")["detail"]["gone"]
    view.send("detail", id=None)
    view.until(lambda p: p["detail"] is None)


def test_nothing_is_sent_when_nothing_changes(
    show: Show, week: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The files are looked at again and again, and the views are told nothing."""
    looked = threading.Semaphore(0)
    real = dashboard_live.data.signature

    def counted(folder: Path) -> dict[str, Any]:
        looked.release()
        return real(folder)

    monkeypatch.setattr(dashboard_live.data, "signature", counted)
    view = show(week).ready()
    count = len(view.wire.content)
    while looked.acquire(blocking=False):
        pass
    for _ in range(12):
        assert looked.acquire(timeout=PATIENCE_S)
    assert count == len(view.wire.content)


def test_a_refresh_asks_only_for_what_changed(show: Show, tmp_path: Path) -> None:
    """A look at a GPU changes the chart of the memory, and nothing else is sent."""
    folder = metrics_store.fill(tmp_path / "metrics", requests=20)
    view = show(folder).ready()
    count = len(view.wire.content)
    models = [{"name": "owl:7b", "backend": "local", "bytes": 5_000_000_000}]
    with JournalWriter(folder) as writer:
        writer.write("gpu_samples", {"host": "desk", "hw_id": "GPU-0", "models": models})
        view.until(lambda p: "owl:7b" in json.dumps(p["rows"]["memory"]))
    told = [content for content in view.wire.content[count:] if content["t"] == "d"]
    assert {"memory"} == {name for content in told for name in content.get("rows", {})}
    assert set() == {name for content in told for name in content.get("set", {})} - {"busy"}


def test_it_ends_when_the_view_goes(show: Show, week: Path) -> None:
    """Without a view no file is looked at and no cursor is held; one that comes back sees all."""
    view = show(week).ready()
    live = view.panel._live
    task = live._task
    assert task is not None
    view.send("bye")
    get_portal().run(_ended(view.panel, task))
    assert live._task is None
    assert live.reader._cursor is None
    count = len(view.wire.content)
    view.send("hello")
    view.until(lambda _: len(view.wire.content) > count)
    assert "state" == view.wire.content[count]["t"]
    assert live._task is not None


def test_a_broken_store_is_told_and_mends(show: Show, tmp_path: Path) -> None:
    """A manifest that cannot be read is said with a hint, and forgotten when it can be again."""
    folder = metrics_store.fill(tmp_path / "metrics", requests=20)
    (folder / "MANIFEST.json").write_text("{")
    view = show(folder)
    held = view.until(lambda p: p["store"]["state"] == "error")
    assert "MANIFEST.json is broken" in held["store"]["text"]
    assert "workbench clean" in held["store"]["hint"]
    (folder / "MANIFEST.json").unlink()
    view.until(lambda p: p["store"]["state"] == "ok" and p["headline"]["any"])


@pytest.mark.parametrize("form", ["csv", "parquet", "jsonl"])
def test_the_filtered_requests_are_exported(show: Show, week: Path, form: str) -> None:
    """A button writes the requests of the filters beside the notebook and says where."""
    view = show(week).ready()
    view.send("filter", set={"range": "all", "model": "gemma3:12b"})
    held = view.until(lambda p: p["filters"]["model"] and not p["busy"])
    wanted = held["headline"]["now"]["requests"]
    view.send("take", what=form)
    said = view.until(lambda p: p["said"]["level"] == "ok")["said"]
    assert f"{wanted} requests written to" == said["text"]
    note = json.loads((Path(said["path"]) / "export.json").read_text())
    assert {"requests": wanted} == note["tables"]
    assert (Path(said["path"]) / f"requests.{form}").is_file()


def test_the_report_is_written(show: Show, week: Path) -> None:
    """Another button writes the report of the filters."""
    view = show(week).ready()
    view.send("take", what="report")
    said = view.until(lambda p: p["said"]["level"] == "ok")["said"]
    assert "<h1>Model metrics</h1>" in Path(said["path"]).read_text(encoding="utf-8")
    view.send("dismiss")
    view.until(lambda p: p["said"] is None)
    view.send("take", what="everything")
    view.until(lambda p: p["said"]["level"] == "error")


def test_plotly_is_sent_when_it_is_needed(show: Show, week: Path) -> None:
    """A page that has no plotly.js asks, and is sent that of the wheel as one buffer."""
    view = show(week).ready()
    assert [] == view.wire.buffers
    view.send("need", mod="plotly")
    with view.wire.news:
        assert view.wire.news.wait_for(lambda: view.wire.buffers, PATIENCE_S)
    (source,) = view.wire.buffers
    assert source[:200].strip().startswith(b"/**\n* plotly.js v")
    assert {"t": "mod", "mod": "plotly"} in view.wire.content


def test_alerts_of_the_server(
    show: Show, private_folders: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The alerts that hold are told, and an event brings a new one at once."""
    with ModelsServer() as server:
        server.alerts["rules"] = [{"name": "slow", "kind": "p95"}]
        view = show(private_folders / "metrics", config=client_config(url=server.url))
        view.until(lambda p: p["alerts"]["state"] == "ok" and p["alerts"]["rules"] == 1)
        server.wait_for("GET events")
        alert = {"alert": "slow", "kind": "p95", "subject": "owl:7b", "value": 9.0, "text": "slow!"}
        server.alerts["active"] = [alert]
        server.emit("alert", alert="slow")
        assert [alert] == view.until(lambda p: p["alerts"]["active"])["alerts"]["active"]
        monkeypatch.setattr("workbench.widgets.alerts.POLL_S", 0.1)
        server.stop()
        held = view.until(lambda p: p["alerts"]["state"] == "gone")
        assert [] == held["alerts"]["active"]
        # What was recorded is still shown.
        assert "empty" == held["store"]["state"]


def test_the_bundle_of_a_live_cell(week: Path, monkeypatch: pytest.MonkeyPatch, show: Show) -> None:
    """A saved notebook holds the figures as a table beside the widget, in a few kilobytes."""
    monkeypatch.setenv("WORKBENCH_HEADLESS", "0")
    bundle, _ = show(week).panel._repr_mimebundle_()
    assert {dashboard.MIME, "text/html", "text/plain"} < set(bundle)
    assert "p95 latency" in bundle["text/html"]
    kept = nbformat.v4.new_output("display_data", data=bundle)
    assert len(json.dumps(kept)) < 10_000


def test_parts_of_the_time_have_the_colours_of_the_charts() -> None:
    """The bar of a request and the chart of the last hundred use the same colours."""
    charted = [color for _, _, color in PHASES]
    assert charted == list(dashboard_live.data.PHASE_COLORS.values())
