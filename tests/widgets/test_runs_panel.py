"""The kernel's side of the runs panel: run folders on disk, a view on the other end of the comm."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import comm
import pytest

from tests.widgets import run_store
from tests.widgets.run_store import NASTY, RunWriter
from tests.widgets.test_dashboard_live import View
from tests.widgets.wire import Wire
from workbench.client.door import client_config, open_client
from workbench.errors import ConfigError
from workbench.plans.folder import runs_dir
from workbench.plans.news import News
from workbench.portal import get_portal
from workbench.widgets import audience, runs_feed
from workbench.widgets.runs import RunsPanel

WARNINGS = ("ignore::DeprecationWarning", "ignore::FutureWarning")
pytestmark = [pytest.mark.filterwarnings(*WARNINGS)]

PLAN = """\
plan_version: 1
plan: small
goal: Something to start.
params:
  n: {type: int, default: 3}
  share: {type: float}
  tags: {type: "list[str]", default: [a]}
  key: {type: secret, env: SMALL_KEY}
steps:
  - id: enough
    kind: check
    assert: "params.n > 1"
  - id: ok
    kind: approval
    needs: [enough]
    ask: Go on?
    show: $params.n
"""


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    """Return a data folder."""
    return tmp_path / "data"


@pytest.fixture
def panels(monkeypatch: pytest.MonkeyPatch, data_dir: Path) -> Iterator[Callable[..., RunsPanel]]:
    """Return a function that makes a panel of the data folder; each is closed at the end."""
    monkeypatch.setattr(comm, "create_comm", Wire)
    monkeypatch.setattr(audience, "SEND_S", 0.02)
    monkeypatch.setattr(runs_feed, "LOOK_S", 0.05)
    monkeypatch.setattr(runs_feed, "IDLE_LOOK_S", 0.05)
    monkeypatch.setenv("WORKBENCH_HEADLESS", "0")
    made: list[RunsPanel] = []
    config = client_config(data_dir=data_dir)
    client = open_client(config, spawn=False)

    def make(**more: Any) -> RunsPanel:
        panel = RunsPanel(client, config, **more)
        made.append(panel)
        return panel

    yield make
    for panel in made:
        panel.close()
        get_portal().run(_idle(panel))
    get_portal().run(client.aclose())


async def _idle(panel: RunsPanel) -> None:
    await panel.feed.aside(lambda: None)


@pytest.fixture
def look(panels: Callable[..., RunsPanel]) -> Callable[..., View]:
    """Return a function that shows a panel to a view."""
    return lambda **more: View(panels(**more))


def row(picture: dict[str, Any], run: RunWriter) -> dict[str, Any]:
    """Return a run's row of the list."""
    found: dict[str, Any] = picture["rows"][f"r/{run.run_id}"]
    return found


def step(picture: dict[str, Any], name: str) -> dict[str, Any]:
    """Return a step of the open run."""
    found: dict[str, Any] = picture["rows"][f"s/{name}"]
    return found


def appears(path: Path) -> None:
    """Wait for a file that another thread writes."""
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, path
        time.sleep(0.01)


def test_every_state_is_told(look: Callable[..., View], data_dir: Path) -> None:
    """Runs are listed as their journals say; a broken file is named."""
    runs = run_store.fill(data_dir, time.time())
    with runs["running"].alive():
        held = look().until(lambda p: len(p["rows"]) == len(runs))
        for name, run in runs.items():
            assert name == row(held, run)["status"]
        assert ["look"] == row(held, runs["waiting"])["asks"]
        assert ["rate"] == row(held, runs["failed"])["failed"]
        assert (2, 13) == (row(held, runs["running"])["done"], row(held, runs["running"])["total"])
        told = row(held, runs["broken"])["error"]["message"]
        assert told.startswith(f"{runs['broken'].folder.info} cannot be read: ")
    assert "ok" == held["store"]["state"]


def test_journals_are_followed(look: Callable[..., View], data_dir: Path) -> None:
    """New lines, a new run and the end of a process are seen by themselves."""
    view = look()
    view.until(lambda p: p["store"]["state"] == "empty")
    run = RunWriter(data_dir, time.time() - 5)
    view.until(lambda p: row(p, run)["status"] == "starting")
    with run.alive():
        run.begin().start("load")
        view.until(lambda p: row(p, run)["active"][0]["id"] == "load")
        run.done("load", result=[1, 2])
        view.until(lambda p: row(p, run)["done"] == 1)
        # A torn line is no line, and the next one begins anew.
        with run.folder.journal.open("ab") as file:
            file.write(b'{"v": 1, "event": "run_fin')
        run.folder.path.joinpath("x").touch()
        run.journal = type(run.journal)(run.folder.journal)
        run.start("ask", total=4).write("step_progress", "ask", done=3, total=4, errors=1)
        view.until(lambda p: row(p, run)["active"][0]["done"] == 3)
    view.until(lambda p: row(p, run)["status"] == "lost")


def test_a_run_in_the_open(look: Callable[..., View], data_dir: Path) -> None:
    """An open run tells its steps, what they need, and when they were at work."""
    run = run_store.done(data_dir, time.time() - 9000)
    view = look()
    view.send("run", run=run.run_id)
    held = view.until(lambda p: p["run"]["id"] == run.run_id and "s/send" in p["rows"])
    needs = {node["id"]: node["needs"] for node in held["run"]["steps"]}
    assert {"clean", "warm"} == set(needs["rate"])
    assert "enough" in needs["excuse"]
    assert 2 == len(held["run"]["executions"])
    statuses = [step(held, name)["status"] for name in ("load", "excuse", "look", "send")]
    assert ["kept", "skipped", "done", "done"] == statuses
    assert ["done", "waiting", "done"] == [s["kind"] for s in step(held, "look")["spans"]]
    assert {"env": "REPORT_TOKEN"} == held["run"]["params"]["token"]
    view.send("run", run=None)
    held = view.until(lambda p: p["run"] is None)
    assert not [key for key in held["rows"] if key.startswith("s/")]


def test_a_step_in_the_open(look: Callable[..., View], data_dir: Path) -> None:
    """Outputs are read from their files: text, table, figure; a changed file is told."""
    run = run_store.done(data_dir, time.time() - 9000)
    view = look()
    view.send("run", run=run.run_id)
    view.send("step", step="report")
    held = view.until(lambda p: p["step"]["id"] == "report")["step"]
    assert NASTY in held["outputs"][0]["text"]
    assert (310, 1) == (held["totals"]["output_tokens"], held["totals"]["count"])
    assert ["prompt", "model"] == sorted(dict(held["config"]), reverse=True)
    view.send("step", step="scores")
    output = view.until(lambda p: p["step"]["id"] == "scores")["step"]["outputs"][0]
    assert ("table", ["model", "question", "score"], 28) == (
        output["form"],
        output["columns"],
        output["of"],
    )
    assert 20 == len(output["cells"])
    view.send("step", step="plot")
    output = view.until(lambda p: p["step"]["id"] == "plot")["step"]["outputs"][0]
    assert run_store.FIGURE == output["figure"]
    path = Path(output["path"])
    path.write_text('"another"')
    view.send("step", step="plot")
    assert view.until(lambda p: p["step"]["outputs"][0].get("changed"))
    path.unlink()
    view.send("step", step="plot")
    view.until(lambda p: p["step"]["outputs"][0]["form"] == "gone")


def test_a_live_step(look: Callable[..., View], data_dir: Path) -> None:
    """An open step follows its items, its requests and its attempts."""
    run = run_store.running(data_dir, time.time() - 20)
    with run.alive():
        view = look()
        view.send("run", run=run.run_id)
        view.send("step", step="ask")
        held = view.until(lambda p: len(p["step"]["items"]) == 12)
        assert (40, 12) == (held["step"]["total"], held["step"]["totals"]["count"])
        error = {"type": "RequestTimeout", "message": "no answer", "hint": "wait"}
        run.write("step_started", "ask", attempt=1, item=12)
        run.write("step_failed", "ask", item=12, error=error)
        run.write("step_failed", "ask", error=error, final=False, retry_in_s=1)
        held = view.until(lambda p: p["step"]["error"] is not None)
        assert "no answer" == held["step"]["items"][12]["error"]
        run.start("ask", attempt=2, total=40)
        held = view.until(lambda p: len(p["step"]["attempts"]) == 2)
        assert ["failed", "running"] == [a["status"] for a in held["step"]["attempts"]]
        assert "no answer" == held["step"]["attempts"][0]["error"]["message"]


def test_an_answer_and_a_stop(look: Callable[..., View], data_dir: Path) -> None:
    """A yes with a note is stored with who and when; the question goes; a stop is asked for."""
    run = run_store.running(data_dir, time.time() - 20)
    with run.alive():
        run.start("look")
        asked = {"ask": "Good?", "show": None, "reason": "approval", "sha256": "7" * 64}
        run.write("step_waiting", "look", **asked)
        view = look()
        view.send("run", run=run.run_id)
        view.until(lambda p: step(p, "look")["ask"] == "Good?")
        message = {"run": run.run_id, "step": "look", "yes": True}
        view.send("approve", **message, note="fine", asked="8" * 64)
        view.until(lambda p: "something else" in p["said"]["text"])
        view.send("approve", **message, note="fine", asked="7" * 64)
        view.until(lambda p: not row(p, run)["asks"])
        stored = json.loads(run.folder.answer("look").read_text())
        assert (True, "fine", "7" * 64) == (stored["yes"], stored["note"], stored["sha256"])
        assert stored["who"] and stored["when"]
        view.send("cancel", run=run.run_id)
        appears(run.folder.cancel)
    view.send("cancel", run=run.run_id)
    view.until(lambda p: "is not being carried out" in p["said"]["text"])


def test_the_form(look: Callable[..., View], tmp_path: Path, monkeypatch: Any) -> None:
    """A plan of the folder is offered, with typed fields; every error stands at its field."""
    (tmp_path / "plans").mkdir()
    path = tmp_path / "plans" / "small.yaml"
    path.write_text(PLAN)
    (tmp_path / "notes.yaml").write_text("a: 1")
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SMALL_KEY", raising=False)
    view = look()
    view.send("plans")
    plans = view.until(lambda p: p["plans"] is not None)["plans"]
    assert [(str(path), "small")] == [(p["path"], p["name"]) for p in plans if p["where"] == "here"]
    view.send("form", path="plans/small.yaml")
    form = view.until(lambda p: p["form"])["form"]
    types = [(field["name"], field["type"], field["required"]) for field in form["fields"]]
    assert ("share", "float", True) == types[1]
    assert ("SMALL_KEY", False) == (form["fields"][3]["env"], form["fields"][3]["env_set"])
    view.send("start", values={"n": "many", "share": "", "tags": ["a"], "key": "not a name"})
    errors = view.until(lambda p: p["form"]["errors"])["form"]["errors"]
    assert ["key", "n", "share"] == sorted(errors)
    assert "a whole number" in errors["n"]["text"]
    path.write_text(PLAN.replace("kind: check", "kind: chek"))
    view.send("form", path=str(path))
    form = view.until(lambda p: p["form"]["state"] == "broken")["form"]
    assert [(11, True)] == [(f["line"], "check" in f["hint"]) for f in form["problems"][:1]]
    view.send("form", path="none.yaml")
    form = view.until(lambda p: p["form"]["path"].endswith("none.yaml"))["form"]
    assert "cannot be read" in form["problems"][0]["text"]


class Ears:
    """Hears news."""

    def __init__(self) -> None:
        self.heard: list[News] = []
        self.change = threading.Condition()

    def __call__(self, news: News) -> None:
        with self.change:
            self.heard.append(news)
            self.change.notify_all()

    def until(self, count: int) -> list[str]:
        """Wait for so many, and return their texts."""
        with self.change:
            assert self.change.wait_for(lambda: len(self.heard) >= count, 60)
            return [news.text for news in self.heard]


def test_news(panels: Callable[..., RunsPanel], data_dir: Path) -> None:
    """`on_finish` is told once of each run that ends or waits, though nobody looks."""
    run_store.failed(data_dir, time.time() - 900)
    ears = Ears()
    panel = panels(on_finish=ears)
    run = RunWriter(data_dir, time.time() - 5)
    with run.alive():
        run.begin()
        get_portal().run(panel.feed.look())
        run.start("look").write("step_waiting", "look", ask="Good?", sha256="7" * 64)
        assert ["compare-models waits for your answer at look."] == ears.until(1)
        run.write("step_answered", "look", yes=True).done("look").end("done")
        assert "compare-models is done." == ears.until(2)[1]
    short = RunWriter(data_dir, time.time(), name="short", number=1).begin().end("failed")
    assert "short failed." == ears.until(3)[2]
    assert (short.folder.path, "failed") == (ears.heard[2].folder, ears.heard[2].status)
    assert 3 == len(ears.heard)


def test_a_command_is_told(look: Callable[..., View], data_dir: Path, tmp_path: Path) -> None:
    """A command gets what happened in its arguments and its environment; its failure is said."""
    script = (
        "import os, sys; told = sys.argv[2] + os.environ['WORKBENCH_RUN_ID'];"
        "open(sys.argv[1], 'w').write(told); sys.exit('no bell')"
    )
    out = tmp_path / "told"
    view = look(on_finish=[sys.executable, "-c", script, str(out), "{plan} {status} {other} "])
    view.until(lambda p: p["store"]["state"] == "empty")
    run = RunWriter(data_dir, time.time(), name="$(touch x)").begin()
    run.end("done")
    said = view.until(lambda p: p["said"])["said"]
    assert f"$(touch x) done {{other}} {run.run_id}" == out.read_text()
    assert "on_finish ended with code 1: no bell" == said["text"]
    assert view.picture["news"]["status"] == "done"


def test_a_run_with_the_same_command_tells_it_by_itself(
    look: Callable[..., View], data_dir: Path, tmp_path: Path
) -> None:
    """The panel leaves it to the run's process, but for a run whose process is lost."""
    script = "import sys; open(sys.argv[1], 'a').write(sys.argv[2] + '\\n')"
    out = tmp_path / "told"
    command = [sys.executable, "-c", script, str(out), "{plan} {status}"]
    view = look(on_finish=command)
    view.until(lambda p: p["store"]["state"] == "empty")
    same = RunWriter(data_dir, time.time(), name="same", on_finish=tuple(command)).begin()
    same.end("done")
    view.until(lambda p: p["news"] and p["news"]["plan"] == "same")
    RunWriter(data_dir, time.time(), name="lost", number=1, on_finish=tuple(command)).begin()
    view.until(lambda p: p["news"]["plan"] == "lost")
    RunWriter(data_dir, time.time(), name="other", number=2).begin().end("failed")
    _until(lambda: out.is_file() and len(out.read_text().splitlines()) == 2)
    assert ["lost lost", "other failed"] == sorted(out.read_text().splitlines())


def _until(what: Callable[[], bool]) -> None:
    due = time.monotonic() + 60
    while not what():
        assert time.monotonic() < due
        time.sleep(0.01)


@pytest.mark.parametrize("wrong", ["notify-send", [], ["a", 1], 3])
def test_what_cannot_be_called(panels: Callable[..., RunsPanel], wrong: Any) -> None:
    """What is neither a function nor a list of texts is refused at once."""
    with pytest.raises((ConfigError, TypeError)):
        panels(on_finish=wrong)


def test_nobody_looks(look: Callable[..., View], data_dir: Path) -> None:
    """Without a view no folder is looked at."""
    run_store.cancelled(data_dir, time.time())
    view = look()
    view.until(lambda p: len(p["rows"]) == 1)
    assert view.panel.feed.running
    view.send("bye")
    get_portal().run(_idle(view.panel))
    assert not view.panel.feed.running


def test_a_folder_that_cannot_be_read(look: Callable[..., View], data_dir: Path) -> None:
    """What is wrong with the folder is said with its name, and what was known stays."""
    run_store.cancelled(data_dir, time.time())
    view = look()
    view.until(lambda p: len(p["rows"]) == 1)
    link = runs_dir(data_dir) / "x.link"
    link.write_bytes(b"\xff\xfe")
    held = view.until(lambda p: p["store"]["state"] == "error")
    assert (str(runs_dir(data_dir)), 1) == (held["store"]["folder"], len(held["rows"]))
    link.unlink()
    view.until(lambda p: p["store"]["state"] == "ok")


def test_long_lists_are_cut(
    look: Callable[..., View], data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the newest runs are listed, until older ones are asked for."""
    monkeypatch.setattr(runs_feed, "RUNS_LISTED", 2)
    runs = [RunWriter(data_dir, 1000.0 + number).begin().end("done") for number in range(5)]
    view = look()
    held = view.until(lambda p: len(p["rows"]) == 2)
    assert {f"r/{run.run_id}" for run in runs[3:]} == set(held["rows"])
    assert 3 == held["store"]["more"]
    view.send("more")
    view.until(lambda p: len(p["rows"]) == 4 and p["store"]["more"] == 1)


def test_static(panels: Callable[..., RunsPanel], data_dir: Path) -> None:
    """Where nobody looks the runs are a table that is safe to keep, and a text."""
    made = panels()
    assert "There is no run yet." in made.static_bundle()["text/plain"]
    run_store.fill(data_dir, time.time())
    RunWriter(data_dir, time.time(), name=NASTY).begin()
    bundle = made.static_bundle()
    assert {"text/html", "text/plain"} == set(bundle)
    assert "<script>" not in bundle["text/html"]
    assert "\u202e" not in bundle["text/html"]
    assert "compare-models waits for your answer at look." in bundle["text/plain"]
    assert "run.json cannot be read" in bundle["text/plain"]


def test_a_copy_of_the_notebook(
    look: Callable[..., View], data_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where Lab cannot reach a run's folder its notebook is copied beside this one."""
    monkeypatch.chdir(tmp_path)
    run = run_store.cancelled(data_dir, time.time())
    view = look()
    view.until(lambda p: len(p["rows"]) == 1)
    view.send("copy", run=run.run_id, name="../../etc")
    said = view.until(lambda p: p["said"])["said"]
    assert run.folder.notebook.read_bytes() == Path(said["path"]).read_bytes()
    assert tmp_path / "workbench-runs" == Path(said["path"]).parent
    assert ("v", f"workbench-runs/{Path(said['path']).name}") == (said["view"], said["open"])


def test_from_the_form_to_the_end(
    look: Callable[..., View], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run is started from the form, stops to ask, is answered, goes on by itself, and ends."""
    ears = Ears()
    path = tmp_path / "small.yaml"
    path.write_text(PLAN)
    monkeypatch.chdir(tmp_path)
    view = look(on_finish=ears)
    view.until(lambda p: p["store"]["state"] == "empty")
    view.send("form", path=str(path))
    view.until(lambda p: p["form"])
    view.send("start", values={"n": "5", "share": "0.5", "tags": ["a", "b"], "key": "SMALL_KEY"})
    held = view.until(lambda p: step(p, "ok")["ask"] == "Go on?")
    run_id = held["open"]["run"]
    assert {"n": 5, "share": 0.5, "tags": ["a", "b"], "key": {"env": "SMALL_KEY"}} == held["run"][
        "params"
    ]
    view.until(lambda p: p["rows"][f"r/{run_id}"]["status"] == "waiting")
    asked = step(view.picture, "ok")["asked_sha"]
    answer = {"run": run_id, "step": "ok", "yes": True, "asked": asked}
    view.send("approve", **answer, note="go")
    held = view.until(lambda p: p["rows"][f"r/{run_id}"]["status"] == "done")
    assert ["kept", "done"] == [step(held, name)["status"] for name in ("enough", "ok")]
    view.send("step", step="ok")
    shown = view.until(lambda p: p["step"]["answer"])["step"]
    assert (True, "go") == (shown["answer"]["yes"], shown["answer"]["note"])
    assert ["waiting", "done"] == [news.status for news in ears.heard]
