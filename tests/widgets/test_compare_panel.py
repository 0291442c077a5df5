"""The kernel's side of a comparison's panel: real requests, a view on the other end of the comm."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import comm
import httpx
import nbformat
import pytest

import workbench
from tests.client.conftest import PATIENT
from tests.widgets.wire import Wire
from workbench.chat.compare import Comparison
from workbench.chat.compare_values import Contender, contenders
from workbench.client.api import WorkbenchClient
from workbench.client.values import ModelFit, ModelInfo
from workbench.errors import ConfigError
from workbench.portal import get_portal
from workbench.testing import FakeModel, RecordedRequest, Reply, ScriptedOllama
from workbench.widgets.compare import ComparePanel
from workbench.widgets.compare_picture import as_contender, picker_rows, split_prompts

PATIENCE_S = 60.0
GB = 10**9
pytestmark = [pytest.mark.filterwarnings("ignore::DeprecationWarning")]


class View:
    """Stands where a view stands; holds what the protocol makes of what it was told."""

    def __init__(self, panel: ComparePanel) -> None:
        self.panel = panel
        self.wire: Wire = panel.widget.comm
        self.send("hello")

    def send(self, kind: str, **more: Any) -> None:
        """Send a message as the browser does."""
        content = {"t": kind, "view": "v", **more}
        message = {"content": {"data": {"method": "custom", "content": content}}, "buffers": []}
        self.panel.widget._handle_msg(message)

    @property
    def state(self) -> dict[str, Any]:
        """What a view holds: pictures on top of each other, texts with what frames added."""
        held: dict[str, Any] = {"turns": [], "prompts": [], "prompt": None, "setup": {}}
        turns: dict[str, dict[str, Any]] = {}
        for content in list(self.wire.content):
            if content["t"] == "state":
                new = content["s"]
                if "turns" in new:
                    listed = [turns[t] if isinstance(t, str) else dict(t) for t in new["turns"]]
                    for turn in listed:
                        known = turns.get(turn["mid"], {})
                        turn.setdefault("text", known.get("text", ""))
                        turn.setdefault("think", known.get("think", ""))
                    new = {**new, "turns": listed}
                held = {**held, **new}
                turns = {turn["mid"]: turn for turn in held["turns"]}
            elif content["t"] == "f":
                for mid, channel, offset, text in content["p"]:
                    if mid in turns and channel in ("text", "think"):
                        turns[mid][channel] = turns[mid][channel][:offset] + text
                for status in content.get("s", []):
                    turns[status["mid"]]["phase"] = status["phase"]
        return held

    def until(self, found: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """Wait until the picture is such, and return it."""

        def holds() -> bool:
            try:
                return bool(found(self.state))
            except (KeyError, IndexError, TypeError):
                return False

        with self.wire.news:
            came = self.wire.news.wait_for(holds, PATIENCE_S)
        assert came, json.dumps(self.state, indent=1)[:4000]
        return self.state

    def told(self, kind: str) -> dict[str, Any]:
        """Wait for a message of a kind, and return the last."""

        def last() -> dict[str, Any] | None:
            return next((c for c in reversed(self.wire.content) if c["t"] == kind), None)

        with self.wire.news:
            assert self.wire.news.wait_for(last, PATIENCE_S), kind
        found = last()
        assert found is not None
        return found

    def ask(self, text: str, **how: Any) -> dict[str, Any]:
        """Ask, and wait until everything is answered."""
        before = len(self.state["prompts"])
        self.send("run", text=text, **how)
        return self.until(lambda s: len(s["prompts"]) > before and not s["busy"] and s["prompt"])


def answer_of(request: RecordedRequest) -> Reply:
    """Answer with the model's name and the question."""
    body: Mapping[str, Any] = request.json
    return Reply(f"{body['model']} says: {body['messages'][-1]['content']}")


@pytest.fixture
def ollama() -> Iterator[ScriptedOllama]:
    models = [FakeModel(name, size_bytes=6 * GB) for name in "abc"]
    with ScriptedOllama(models=models, reply=answer_of, memory_bytes=8 * GB) as server:
        yield server


@pytest.fixture
def client(ollama: ScriptedOllama) -> Iterator[WorkbenchClient]:
    client = WorkbenchClient(ollama.url, deadlines=PATIENT)
    yield client
    get_portal().run(client.aclose())


@pytest.fixture
def new(client: WorkbenchClient, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., View]]:
    """Make panels with a view, of models a and b unless given."""
    monkeypatch.setattr(comm, "create_comm", Wire)
    panels: list[ComparePanel] = []

    def make(*models: Any, **how: Any) -> View:
        how = {"order_seed": 1, "voter": "me", **how}
        panels.append(ComparePanel(client, contenders(models or "ab"), **how))
        return View(panels[-1])

    yield make
    for panel in panels:
        end(panel)


def end(panel: ComparePanel) -> None:
    """Stop what a panel asks, and wait until it asks the server nothing any more."""
    for one in panel.comparisons:
        one.stop()
    get_portal().run(panel.views.settled())
    panel.close()


def texts(state: Mapping[str, Any]) -> list[str]:
    return [turn["text"] for turn in state["turns"]]


def test_a_prompt_is_answered_side_by_side(new: Callable[..., View]) -> None:
    """The view has every answer whole, in its lane, with its figures, and nothing moves."""
    view = new()
    state = view.ask("Why?")
    assert ["a says: Why?", "b says: Why?"] == texts(state)
    assert ["a", "b"] == [lane["name"] for lane in state["lanes"]]
    assert [0, 1] == [turn["lane"] for turn in state["turns"]]
    assert ["stop", "stop"] == [turn["reason"] for turn in state["turns"]]
    assert all(turn["fig"]["tokens"] for turn in state["turns"])
    assert "d" == state["progress"]
    assert {} == view.panel.views.live


def test_words_arrive_in_frames_of_all_lanes(
    ollama: ScriptedOllama, new: Callable[..., View]
) -> None:
    """What arrives of an answer travels in frames with its lane's figures."""
    ollama.set_reply(Reply("one two three four", stall_after=2), to="chat")
    view = new()
    view.send("run", text="Count")
    state = view.until(lambda s: texts(s)[:1] == ["one two"])
    assert ["writing", "queued"] == [turn["phase"] for turn in state["turns"]]
    frames = [content for content in view.wire.content if content["t"] == "f"]
    assert {state["turns"][0]["mid"]} == {piece[0] for frame in frames for piece in frame["p"]}
    statuses = [status for frame in frames for status in frame.get("s", [])]
    assert any(status["phase"] == "writing" and status["tok"] for status in statuses)
    ollama.release()


def test_stop_of_one_lane_goes_on_with_the_others(
    ollama: ScriptedOllama, new: Callable[..., View]
) -> None:
    """Stop closes the request at the backend, keeps what came, and asks the next model."""
    ollama.enqueue(Reply("one two three four", stall_after=2), to="chat")
    view = new()
    view.send("run", text="Count")
    view.until(lambda s: texts(s)[:1] == ["one two"])
    view.send("stop", lane=0)
    state = view.until(lambda s: not s["busy"] and s["prompt"])
    assert ["one two", "b says: Count"] == texts(state)
    assert ["cancelled", "stop"] == [turn["reason"] for turn in state["turns"]]
    first = next(request for request in ollama.requests if request.operation == "chat")
    assert first.disconnected.wait(PATIENCE_S)
    assert "f" == state["progress"]


def test_stop_of_all_asks_nobody_else(ollama: ScriptedOllama, new: Callable[..., View]) -> None:
    """Stop without a lane ends what arrives and what waits; the missing can be asked for."""
    ollama.enqueue(Reply("one two three four", stall_after=2), to="chat")
    view = new()
    view.send("run", text="Count")
    view.until(lambda s: texts(s)[:1] == ["one two"])
    view.send("stop")
    state = view.until(lambda s: not s["busy"] and s["prompt"])
    assert ["cancelled", "cancelled"] == [turn["reason"] for turn in state["turns"]]
    assert 1 == len([request for request in ollama.requests if request.operation == "chat"])
    view.send("again")
    state = view.until(lambda s: s["progress"] == "d")
    assert ["a says: Count", "b says: Count"] == texts(state)


def test_blind_tells_nothing_before_the_vote(
    ollama: ScriptedOllama, new: Callable[..., View]
) -> None:
    """No name, figure, digest or word of a single answer is sent; the vote shows the names."""
    ollama.enqueue(Reply("first"), Reply("second one", stall_after=1), to="chat")
    view = new(blind=True)
    view.send("run", text="Why?")
    state = view.until(lambda s: s["prompt"]["counts"] == {"ended": 1, "all": 2})
    assert ["", ""] == texts(state)
    assert state["prompt"]["held"]
    assert 1 == len(
        {
            json.dumps({**lane, "key": 0, "colour": 0, "letter": "", "name": ""})
            for lane in state["lanes"]
        }
    )
    second = ollama.wait_for_request(2, to="chat")
    assert second.stalled.wait(PATIENCE_S)
    second.release()
    state = view.until(lambda s: not s["busy"] and not s["prompt"]["held"])
    assert {"first", "second one"} == set(texts(state))
    assert ["Answer A", "Answer B"] == [lane["name"] for lane in state["lanes"]]
    assert [None, None] == [turn["fig"] for turn in state["turns"]]
    assert not [c for c in view.wire.content if c["t"] == "f" and (c["p"] or c.get("s"))]
    seen = json.dumps([state["turns"], state["lanes"], state["prompt"]])
    assert "tokens_s" not in seen
    view.send("vote", verdict="a")
    state = view.until(lambda s: not s["prompt"]["hidden"])
    (row,) = view.panel.comparison.votes  # type: ignore[union-attr]
    left = state["lanes"][0]["name"]
    assert (left, True, "me") == (row[f"label_{row['verdict']}"], row["blind"], row["voter"])
    assert {"a", "b"} == {lane["name"] for lane in state["lanes"]}
    assert "v" == state["progress"]
    assert all(turn["fig"]["tokens"] for turn in state["turns"])


def test_asking_a_hidden_answer_again_does_not_show_whose_it_is(
    ollama: ScriptedOllama, new: Callable[..., View]
) -> None:
    """While one failed answer is asked for again, no state, plan or error names its model."""
    ollama.enqueue(Reply("whole"), Reply("x", error_after=(0, "b is out of memory")), to="chat")
    view = new(blind=True)
    state = view.ask("Why?")
    failed = next(turn for turn in state["turns"] if turn["error"])
    assert "out of memory" not in json.dumps(state)
    before = len(view.wire.content)
    ollama.enqueue(Reply("again", stall_after=0), to="chat")
    view.send("again", mid=failed["mid"])
    assert ollama.wait_for_request(3, to="chat").stalled.wait(PATIENCE_S)
    busy = view.until(lambda s: s["busy"] and s["prompt"]["held"])
    ollama.release()
    done = view.until(lambda s: not s["busy"] and "again" in texts(s))
    assert [None, None] == [busy["plan"], done["plan"]]
    told = [c["s"] for c in view.wire.content[before:] if c["t"] == "state"]
    assert [] == [picture["plan"] for picture in told if picture.get("plan")]
    view.send("vote", verdict="tie")
    assert view.until(lambda s: not s["prompt"]["hidden"])["plan"] is not None


def test_what_a_model_does_is_not_shown_while_names_are_hidden() -> None:
    """Of two models in different states the pickers say the same, until the names are shown."""
    models = [
        ModelInfo("a", state="busy", fit=ModelFit(verdict="alone", reason="1 GB free")),
        ModelInfo("b", state="absent", load_s=2.0, evicts=("a",)),
    ]
    hidden = picker_rows(models, hiding=True)
    first, second = ({**row, "name": "", "load_s": None} for row in hidden)
    assert first == second
    assert ["busy", "absent"] == [row["state"] for row in picker_rows(models, hiding=False)]


def test_a_model_that_is_gone_is_not_named_while_names_are_hidden(
    ollama: ScriptedOllama, new: Callable[..., View]
) -> None:
    """What keeps a hidden answer from being asked again is told once the names are shown."""
    ollama.enqueue(Reply("whole"), Reply("x", error_after=(0, "b broke")), to="chat")
    view = new(blind=True)
    view.ask("Why?")
    httpx.request("DELETE", f"{ollama.url}/api/delete", json={"model": "b"}).raise_for_status()
    view.send("again")
    state = view.until(lambda s: s["problem"] and not s["busy"])
    assert "'b'" not in json.dumps([state["problem"], state["turns"], state["lanes"]])
    assert "told with the names" in state["problem"]["text"]
    view.send("reveal")
    assert "b" in view.until(lambda s: not s["prompt"]["hidden"])["problem"]["text"]


def test_votes_on_a_hidden_prompt_are_not_ranked_yet(new: Callable[..., View]) -> None:
    """A ranking that counted them at once would name who won."""
    view = new("a", "b", "c", blind=True)
    view.ask("Why?")
    view.send("ranking", open=True, scope="here")
    view.send("vote", verdict="a")
    state = view.until(lambda s: (s["ranking"] or {}).get("waiting") == 1)
    assert [] == state["ranking"]["rows"]
    assert "1 vote is on a prompt whose names are hidden" in state["ranking"]["notes"][0]
    for count in (2, 3):
        view.send("vote", verdict="a")
        view.until(lambda s, n=count: len([p for p in s["prompt"]["pairs"] if p[2]]) == n)
    state = view.until(lambda s: (s["ranking"] or {}).get("rows"))
    assert (0, 3) == (state["ranking"]["waiting"], state["ranking"]["votes"])


def test_three_sides_are_judged_in_pairs(new: Callable[..., View]) -> None:
    """Each vote goes on to the next pair; names come when every pair is voted on."""
    view = new("a", "b", "c", blind=True)
    view.ask("Why?")
    for number, verdict in enumerate(("a", "tie", "both_bad"), start=1):
        view.send("vote", verdict=verdict)
        state = view.until(lambda s, n=number: len([p for p in s["prompt"]["pairs"] if p[2]]) == n)
        assert (number < 3) == state["prompt"]["hidden"]
    assert [[0, 1, "a"], [0, 2, "tie"], [1, 2, "both_bad"]] == state["prompt"]["pairs"]
    view.send("pair", a=2, b=1)
    assert [1, 2] == view.until(lambda s: s["prompt"]["pair"] == [1, 2])["prompt"]["pair"]


def test_lines_are_prompts_and_each_model_is_loaded_once(
    ollama: ScriptedOllama, new: Callable[..., View]
) -> None:
    """Pasted lines become prompts; the order of work names what is next while it runs."""
    ollama.set_reply(lambda request: replace(answer_of(request), stall_after=1), to="chat")
    view = new()
    view.send("run", text="One?\n\n  Two? \nThree?", lines=True)
    for number, order in enumerate([["now", "next"]] * 3 + [["done", "now"]] * 3, start=1):
        request = ollama.wait_for_request(number, to="chat")
        assert request.stalled.wait(PATIENCE_S)
        view.until(lambda s, o=order: [step["state"] for step in s["plan"]["steps"]] == o)
        request.release()
    state = view.until(lambda s: s["progress"] == "ddd")
    assert ["a:latest", "b:latest"] == ollama.loads
    assert ["One?", "Two?", "Three?"] == state["prompts"]
    view.send("prompt", n=2)
    state = view.until(lambda s: s["prompt"]["index"] == 2)
    assert ["a says: Three?", "b says: Three?"] == texts(state)


def test_other_sides_begin_a_new_comparison(new: Callable[..., View]) -> None:
    """Answers stay until the next run, which can ask the same prompts of the new sides."""
    view = new()
    view.ask("Why?")
    sides = [{"model": "a", "params": {"temperature": 0.5}}, {"model": "a", "system": "Be brief."}]
    view.send("sides", sides=sides)
    state = view.until(lambda s: s["setup"]["changed"])
    assert ["a says: Why?", "b says: Why?"] == texts(state)
    assert ["a", "a #2"] == [side["name"] for side in state["setup"]["sides"]]
    view.send("run", text="")
    state = view.until(
        lambda s: [lane["name"] for lane in s["lanes"]] == ["a", "a #2"] and not s["busy"]
    )
    assert ["a says: Why?", "a says: Why?"] == texts(state)
    assert ["temperature 0.5", "a, system prompt"] == [lane["model"] for lane in state["lanes"]]
    assert 2 == len(view.panel.comparisons)


def test_a_missing_model_is_told_before_anything_is_sent(
    ollama: ScriptedOllama, new: Callable[..., View]
) -> None:
    """What could not be asked stays, with the reason, and is asked when the sides are right."""
    view = new("a", "nope")
    view.send("run", text="Why?")
    state = view.until(lambda s: s["unasked"] and s["problem"] and not s["busy"])
    assert "nope" in state["problem"]["text"]
    assert [] == state["prompts"]
    assert [] == [request for request in ollama.requests if request.operation == "chat"]
    view.send("sides", sides=[{"model": "a"}, {"model": "b"}])
    view.until(lambda s: [side["model"] for side in s["setup"]["sides"]] == ["a", "b"])
    view.send("run", text="")
    state = view.until(lambda s: s["progress"] == "d")
    assert ["a says: Why?", "b says: Why?"] == texts(state)
    assert None is state["problem"]


def test_a_failed_answer_keeps_what_came_and_is_asked_again(
    ollama: ScriptedOllama, new: Callable[..., View]
) -> None:
    """The lane says why it broke off; Retry asks that answer only."""
    ollama.enqueue(Reply("one two three", error_after=(2, "CUDA error")), to="chat")
    view = new()
    state = view.ask("Why?")
    broken = state["turns"][0]
    assert ("one two", "error") == (broken["text"], broken["reason"])
    assert "CUDA error" in broken["error"]["text"]
    view.send("again", mid=broken["mid"])
    state = view.until(lambda s: s["progress"] == "d")
    assert "a says: Why?" == texts(state)[0]
    assert 3 == len([request for request in ollama.requests if request.operation == "chat"])


def test_the_ranking_follows_the_votes(new: Callable[..., View]) -> None:
    """An open ranking has a row per model, and says why a strength is no number."""
    view = new()
    view.ask("One?\nTwo?", lines=True)
    view.send("ranking", open=True, scope="here")
    assert [] == view.until(lambda s: s["ranking"] is not None)["ranking"]["rows"]
    view.send("prompt", n=0)
    view.until(lambda s: s["prompt"]["index"] == 0)
    view.send("vote", verdict="a")
    rows = view.until(lambda s: len(s["ranking"]["rows"]) == 2)["ranking"]["rows"]
    assert [("a", 1, None), ("b", 2, None)] == [(r["name"], r["rank"], r["strength"]) for r in rows]
    assert all(row["note"] for row in rows)
    view.send("vote", verdict="tie")
    rows = view.until(lambda s: s["ranking"]["rows"][0]["ties"] == 1)["ranking"]["rows"]
    assert [0.0, 0.0] == [row["strength"] for row in rows]


def test_a_bare_comparison_is_shown_and_gone_on_with(
    client: WorkbenchClient, monkeypatch: pytest.MonkeyPatch, new: Callable[..., View]
) -> None:
    """A panel takes up what was asked from a cell, and asks more in the same comparison."""
    comparison = Comparison(client, ["a", "b"])
    comparison.ask(["One?"])
    panel = ComparePanel(client, comparison=comparison)
    view = View(panel)
    state = view.until(lambda s: s["prompt"])
    assert ["a says: One?", "b says: One?"] == texts(state)
    view.ask("Two?")
    assert ["One?", "Two?"] == comparison.prompts
    end(panel)


def test_a_panel_of_a_comparison_is_asked_for(ollama: ScriptedOllama) -> None:
    """It is the one that the comparison has, with the comparison's own settings."""
    with workbench.connect(ollama.url) as wb:
        comparison = wb.compare(["a", "b"], "One?")
        panel = wb.compare_panel(comparison)
        assert comparison is panel.comparison
        assert panel is wb.compare_panel(comparison)
        with pytest.raises(ConfigError, match="has its own settings"):
            wb.compare_panel(comparison, blind=True)
        end(panel)


def test_headless_is_a_table_without_a_widget(
    client: WorkbenchClient, ollama: ScriptedOllama, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody looks: the bundle is safe HTML and text, names of blind answers are not in it."""
    monkeypatch.setenv("WORKBENCH_HEADLESS", "1")
    ollama.set_reply(Reply("<img src=x onerror=alert(1)>"), to="chat")
    panel = ComparePanel(client, contenders(["a", "b"]), blind=True)
    assert ["text/html", "text/plain"] == sorted(panel._repr_mimebundle_())
    comparison = Comparison(client, ["a", "b"], blind=True)
    comparison.ask("Why?")
    panel.show(comparison)
    page = panel._repr_mimebundle_()["text/html"]
    assert "<img" not in page
    assert "<td>Answer A</td>" in page
    assert "hidden until the vote" in page
    left, right = comparison.sides(0)
    comparison.vote(0, left, right, "a", voter="me")
    page = panel.static_bundle()["text/html"]
    assert f"<tr><td>0</td><td>{left}</td>" in page, "a prompt has the number that vote() takes"
    assert page.count("<tr><td>0</td>") == 3
    assert None is panel._view


def test_exports(new: Callable[..., View]) -> None:
    """Each form travels as a file, named after the sides; an answer goes into a cell."""
    view = new()
    state = view.ask("Why?")
    for form, ending in {"markdown": "md", "json": "json", "notebook": "ipynb"}.items():
        view.wire.content.clear()
        view.wire.buffers.clear()
        view.send("export", fmt=form)
        assert f"a-b.{ending}" == view.told("file")["name"]
    nbformat.validate(nbformat.reads(view.wire.buffers[-1].decode(), as_version=4))
    view.send("insert", mid=state["turns"][1]["mid"])
    clip = view.told("clip")
    assert ("b says: Why?", "markdown") == (clip["text"], clip["kind"])


@pytest.mark.parametrize(
    ("text", "lines", "prompts"),
    [
        ("One\nTwo", False, ["One\nTwo"]),
        (" One \n\n Two\r\n", True, ["One", "Two"]),
        ("  \n ", True, []),
        ("", False, []),
    ],
)
def test_split_prompts(text: str, lines: bool, prompts: list[str]) -> None:
    """A text is one prompt, or each of its lines that has something in it."""
    assert prompts == split_prompts(text, lines=lines)


def test_two_sides_of_one_model_get_two_names() -> None:
    """A name that is taken gets the next number."""
    first = as_contender({"model": "m"})
    second = as_contender({"model": "m"}, taken=["m"])
    third = as_contender(
        {"model": "m", "keep_alive": "5m", "params": {"seed": 1, "top_k": None}},
        taken=["m", "m #2"],
    )
    assert "5m" == third.config.keep_alive
    assert ["m", "m #2", "m #3"] == [side.name for side in (first, second, third)]
    assert {"seed": 1} == dict(third.config.options)
    assert isinstance(third, Contender)
