"""A comparison over real sockets: grouping, partial answers, stop, retry, votes, exports."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.client.conftest import PATIENT
from workbench.chat import compare_export
from workbench.chat.compare import Comparison
from workbench.chat.compare_values import ComparisonEvent, Contender, contenders
from workbench.client.api import WorkbenchClient
from workbench.errors import ConfigError, ModelNotFound, StoreError
from workbench.messages import Finished, Message, TextDelta
from workbench.metrics.content import message_sha
from workbench.portal import get_portal
from workbench.testing import FakeModel, RecordedRequest, Reply, ScriptedOllama

GB = 10**9
MODELS = ("a", "b", "c")
PROMPTS = [f"Question {number}?" for number in range(8)]


def answer_of(request: RecordedRequest) -> Reply:
    """Answer with the model's name and the question."""
    body: Mapping[str, Any] = request.json
    return Reply(f"{body['model']} says: {body['messages'][-1]['content']}")


@pytest.fixture
def ollama() -> Iterator[ScriptedOllama]:
    """Three models of which one fits."""
    models = [FakeModel(name, size_bytes=6 * GB) for name in MODELS]
    with ScriptedOllama(models=models, reply=answer_of, memory_bytes=8 * GB) as server:
        yield server


@pytest.fixture
def client(ollama: ScriptedOllama) -> Iterator[WorkbenchClient]:
    client = WorkbenchClient(ollama.url, deadlines=PATIENT)
    yield client
    get_portal().run(client.aclose())


@pytest.fixture
def new(client: WorkbenchClient) -> Callable[..., Comparison]:
    """Make comparisons, of all three models unless given."""

    def make(*models: Any, **how: Any) -> Comparison:
        return Comparison(client, models or MODELS, **{"order_seed": 1, **how})

    return make


@pytest.mark.parametrize("models", list(itertools.permutations(MODELS)), ids="".join)
def test_each_model_is_loaded_once(
    ollama: ScriptedOllama, new: Callable[..., Comparison], models: tuple[str, ...]
) -> None:
    """Eight prompts to three models with memory for one load three times."""
    rows = new(*models).ask(PROMPTS)
    assert [f"{name}:latest" for name in models] == ollama.loads
    assert [[f"{name} says: {text}" for name in models] for text in PROMPTS] == [
        [answer.text for answer in row.values()] for row in rows
    ]


def test_each_side_is_asked_in_its_own_way(
    ollama: ScriptedOllama, new: Callable[..., Comparison]
) -> None:
    """Options, system prompt and thinking are those of the side, else those of all."""
    warm = {"model": "a", "name": "warm", "temperature": 0.9, "system": "Rhyme.", "think": True}
    new("a", warm, options={"temperature": 0.1, "seed": 3}, system="Be brief.").ask("Why?")
    first, second = (request.json for request in ollama.requests if request.path == "/api/chat")
    assert {"temperature": 0.1, "seed": 3} == first["options"]
    assert {"temperature": 0.9, "seed": 3} == second["options"]
    assert ["Be brief.", "Rhyme."] == [body["messages"][0]["content"] for body in (first, second)]
    assert ("think" not in first) and second["think"] is True
    assert 1 == len(ollama.loads)


def test_requests_say_what_they_belong_to(
    ollama: ScriptedOllama, new: Callable[..., Comparison]
) -> None:
    """Headers carry comparison, prompt, side, attempt and priority."""
    comparison = new("a", kind="widget")
    comparison.ask(["One?", "Two?"])
    comparison.retry(1, "a")
    last = ollama.requests[-1].headers
    told = [
        last[f"workbench-{name}"]
        for name in ("conversation", "turn", "speaker", "attempt", "priority", "client")
    ]
    assert [comparison.id, "1", "a", "1", "batch", "widget"] == told


def test_a_failed_answer_is_in_its_place(
    ollama: ScriptedOllama, new: Callable[..., Comparison]
) -> None:
    """One model's failure keeps what came and leaves the others alone; a retry asks it again."""
    comparison = new("a", "b")
    ollama.enqueue(Reply("one two three", error_after=(2, "out of memory")), to="chat")
    (row,) = comparison.ask("Why?")
    assert ("failed", "one two") == (row["a"].status, row["a"].text)
    assert "out of memory" in str(row["a"].error)
    assert "done" == row["b"].status
    (row,) = comparison.retry()
    assert "a says: Why?" == row["a"].text
    assert ["one two"] == [answer.text for answer in comparison.asked[0].former]
    assert 3 == len([request for request in ollama.requests if request.path == "/api/chat"])


def test_a_model_that_is_missing_is_told_first(
    ollama: ScriptedOllama, new: Callable[..., Comparison]
) -> None:
    """Nothing is sent and nothing added when a model is not installed."""
    comparison = new("a", "nope")
    with pytest.raises(ModelNotFound, match="nope"):
        comparison.ask("Why?")
    assert ("failed", []) == (comparison.state, comparison.asked)
    assert isinstance(comparison.error, ModelNotFound)
    assert [] == [r for r in ollama.requests if r.path == "/api/chat"]


def test_what_is_wrong_with_a_model_is_met_once(
    ollama: ScriptedOllama, new: Callable[..., Comparison]
) -> None:
    """A model that went away is not asked with each prompt; the others go on."""
    comparison = new("a", "b")
    gone = Reply(error_first=(404, "model 'a' not found"))
    ollama.set_reply(lambda r: gone if r.json["model"] == "a" else answer_of(r), to="chat")
    rows = comparison.ask(["One?", "Two?", "Three?"])
    assert ["failed"] * 3 == [row["a"].status for row in rows]
    assert ["done"] * 3 == [row["b"].status for row in rows]
    asked = [r.json["model"] for r in ollama.requests if r.path == "/api/chat"]
    assert ["a", "b", "b", "b"] == asked


def test_stop_keeps_what_came(ollama: ScriptedOllama, new: Callable[..., Comparison]) -> None:
    """Stop ends the arriving answer and those that wait; the part that came stays."""
    comparison = new("a", "b")
    ollama.enqueue(Reply("one two three four", stall_after=2), to="chat")

    def stop_at_text(event: ComparisonEvent) -> None:
        if any(isinstance(one, TextDelta) and "two" in one.text for one in event.events):
            comparison.stop()

    unobserve = comparison.observe(stop_at_text)
    (row,) = comparison.ask("Why?")
    unobserve()
    assert ("cancelled", "one two") == (row["a"].status, row["a"].text)
    assert ("cancelled", "") == (row["b"].status, row["b"].text)
    assert ["a"] == [r.json["model"] for r in ollama.requests if r.path == "/api/chat"]
    assert "done" == comparison.state and not comparison.busy


def test_one_side_can_be_stopped(ollama: ScriptedOllama, new: Callable[..., Comparison]) -> None:
    """Stopping one side lets the other one answer."""
    comparison = new("a", "b")
    ollama.enqueue(Reply("one two", stall_after=1), to="chat")
    unobserve = comparison.observe(
        lambda event: comparison.stop("a") if event.kind == "events" else None
    )
    (row,) = comparison.ask("Why?")
    unobserve()
    assert ("cancelled", "done") == (row["a"].status, row["b"].status)


def test_events_tell_everything(new: Callable[..., Comparison]) -> None:
    """An observer sees begin, pieces, figures and end of each answer, in order."""
    comparison, told = new("a"), []
    comparison.observe(lambda event: told.append((event.kind, event.figures, list(event.events))))
    comparison.ask("Why?")
    kinds = [kind for kind, _, _ in told]
    assert "state" == kinds[0] == kinds[-1]
    assert kinds.index("prompt") < kinds.index("answer") < kinds.index("events")
    phases = [figures.phase for kind, figures, _ in told if kind == "lane"]
    assert ["queued", "writing", "done"] == list(dict.fromkeys(phases))
    pieces = [event for _, _, events in told for event in events]
    assert "a says: Why?" == "".join(e.text for e in pieces if isinstance(e, TextDelta))
    assert isinstance(pieces[-1], Finished)


def test_a_broken_observer_breaks_nothing(
    new: Callable[..., Comparison], caplog: pytest.LogCaptureFixture
) -> None:
    """An observer that raises is logged, and the answers come."""
    comparison = new("a")
    comparison.observe(lambda event: 1 / 0)
    (row,) = comparison.ask("Why?")
    assert "a says: Why?" == row["a"].text
    assert "an observer of a comparison failed" in caplog.text


def test_it_can_be_awaited_and_cancelled(
    ollama: ScriptedOllama, new: Callable[..., Comparison]
) -> None:
    """`aask` works on any loop; cancelling it stops the answers and keeps them."""
    comparison = new("a")

    async def work() -> None:
        assert "a says: One?" == (await comparison.aask("One?"))[0]["a"].text
        ollama.enqueue(Reply("one two", stall_after=1), to="chat")
        arrived, loop = asyncio.Event(), asyncio.get_running_loop()
        comparison.observe(
            lambda e: loop.call_soon_threadsafe(arrived.set) if e.kind == "events" else None
        )
        task = asyncio.create_task(comparison.aask("Two?"))
        await arrived.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(work())
    assert ("cancelled", "one") == (
        comparison.answer(-1, "a").status,
        comparison.answer(-1, "a").text,
    )


def test_one_asking_at_a_time(ollama: ScriptedOllama, new: Callable[..., Comparison]) -> None:
    """While answers arrive nothing else can be asked or added."""
    comparison = new("a")
    ollama.set_reply(Reply("one two", stall_after=1), to="chat")
    future = comparison.begin("Why?")
    for refused in (lambda: comparison.begin("What?"), lambda: comparison.add("b")):
        with pytest.raises(ConfigError, match="still being answered"):
            refused()
    comparison.stop()
    get_portal().wait(future)


def test_a_side_can_be_added(new: Callable[..., Comparison]) -> None:
    """A model that joins later is asked what it has not answered."""
    comparison = new("a")
    comparison.ask(["One?", "Two?"])
    comparison.add({"model": "b", "name": "second"})
    rows = comparison.retry()
    assert [["a", "second"]] * 2 == [list(row) for row in rows]
    assert [0, 0] == [row["a"].attempt for row in rows]


def test_a_prompt_may_be_a_conversation(
    ollama: ScriptedOllama, new: Callable[..., Comparison]
) -> None:
    """A prompt of several messages is sent whole; its text is the last of the user."""
    prompt = [Message("user", "Hi."), Message("assistant", "Hello."), Message("user", "Why?")]
    comparison = new("a")
    comparison.ask([prompt])
    assert ["Why?"] == comparison.prompts
    assert [message.to_wire() for message in prompt] == ollama.requests[-1].json["messages"]


@pytest.mark.parametrize("prompts", [" ", [], [[Message("assistant", "x")]]])
def test_nothing_to_answer_is_refused(new: Callable[..., Comparison], prompts: Any) -> None:
    """An empty prompt is refused before anything is sent."""
    with pytest.raises(ConfigError):
        new("a").ask(prompts)


@pytest.mark.parametrize(
    ("models", "said"),
    [
        (["a", "a"], "are called 'a'"),
        ([{"model": "a", "temprature": 1}], "Did you mean 'temperature'"),
        ([{"name": "x"}], "has no name"),
        ([{"model": "a", "options": {"top": 1}}], "unknown option"),
    ],
)
def test_wrong_models_are_told(models: list[Any], said: str) -> None:
    """A side that cannot be meant is refused with the nearest name."""
    with pytest.raises(ConfigError) as caught:
        contenders(models)
    assert said in str(caught.value)


# --- votes


class Kept:
    """Keeps rows in a list, or refuses them."""

    run_id: str | None = None

    def __init__(self, *, full: bool = False) -> None:
        self.rows: list[tuple[str, Mapping[str, Any]]] = []
        self.full = full

    def write(self, table: str, row: Mapping[str, Any]) -> bool:
        self.rows.append((table, row))
        return not self.full


def test_a_vote_is_a_row(client: WorkbenchClient, new: Callable[..., Comparison]) -> None:
    """A vote names prompt, answers, models, parameters, order shown, seed and voter."""
    comparison = new("a", {"model": "b", "seed": 7}, blind=True, system="Be brief.")
    comparison.ask("Why?")
    client.records = kept = Kept()
    comparison.vote(0, "b", "a", "a", voter="v1")
    ((table, row),) = [one for one in kept.rows if one[0] == "votes"]
    assert "votes" == table
    shown = comparison.sides(0)
    system = message_sha({"role": "system", "content": "Be brief."})
    expected = {
        "conversation": comparison.id,
        "turn": 0,
        "prompt_sha": message_sha({"role": "user", "content": "Why?"}),
        "model_a": "a",
        "model_b": "b",
        "label_a": "a",
        "label_b": "b",
        "config_a": {"system_sha": system},
        "config_b": {"options": {"seed": 7}, "system_sha": system},
        "order": "ab" if shown == ("a", "b") else "ba",
        "order_seed": 1,
        "blind": True,
        # The one that was called a, which is b of the row, is better.
        "verdict": "b",
        "voter": "v1",
    }
    assert expected == {name: row[name] for name in expected}


def test_a_second_vote_replaces_the_first(
    client: WorkbenchClient, new: Callable[..., Comparison]
) -> None:
    """Who changes his mind has one vote; another voter has his own."""
    comparison = new("a", "b")
    comparison.ask("Why?")
    client.records = kept = Kept()
    first = comparison.vote(0, "a", "b", "a", voter="v1")
    second = comparison.vote(0, "a", "b", "tie", voter="v1")
    comparison.vote(0, "a", "b", "b", voter="v2")
    assert first["id"] == second["id"]
    assert ["tie", "b"] == [vote["verdict"] for vote in comparison.votes]
    assert 2 == len({row["id"] for _, row in kept.rows})


def test_a_vote_that_is_not_kept_is_an_error(
    client: WorkbenchClient, new: Callable[..., Comparison]
) -> None:
    """A full disk is told; the vote stays in the comparison and its JSON."""
    comparison = new("a", "b")
    comparison.ask("Why?")
    client.records = Kept(full=True)
    with pytest.raises(StoreError, match="could not be written"):
        comparison.vote(0, "a", "b", "a")
    assert ["a"] == [vote["verdict"] for vote in json.loads(comparison.to_json())["votes"]]


@pytest.mark.parametrize(
    ("vote", "said"),
    [
        ((0, "a", "b", "neither"), "One of a, b, tie, both_bad"),
        ((0, "a", "a", "a"), "two sides"),
        ((3, "a", "b", "a"), "there is no prompt 3"),
        (("0", "a", "b", "a"), "'0' is no prompt. Write its index"),
        ((0, "a", "x", "a"), "not compared here"),
        ((1, "a", "b", "a"), "no whole answer of 'b'"),
    ],
)
def test_votes_that_cannot_be_meant(
    ollama: ScriptedOllama, new: Callable[..., Comparison], vote: tuple[Any, ...], said: str
) -> None:
    """A vote on what is not there is refused."""
    comparison = new("a", "b")
    comparison.ask("Why?")
    ollama.set_reply(
        lambda r: Reply(error_first=(500, "no")) if r.json["model"] == "b" else answer_of(r),
        to="chat",
    )
    comparison.ask("What?")
    with pytest.raises(ConfigError) as caught:
        comparison.vote(*vote)
    assert said in str(caught.value)
    with pytest.raises(ConfigError, match="voter is 3"):
        comparison.vote(0, "a", "b", "a", voter=3)  # type: ignore[arg-type]


def test_sides_are_shuffled_by_their_seed(new: Callable[..., Comparison]) -> None:
    """Blind, each prompt has an order of its own that the seed gives again; else none."""
    comparison = new(blind=True)
    comparison.ask(PROMPTS)
    orders = [comparison.sides(index) for index in range(8)]
    assert 1 < len(set(orders))
    again = new(blind=True)
    again.ask(PROMPTS)
    assert orders == [again.sides(index) for index in range(8)]
    comparison.blind = False
    assert {MODELS} == {comparison.sides(index) for index in range(8)}


def test_blind_until_every_pair_is_voted_on(new: Callable[..., Comparison]) -> None:
    """Names are hidden until all pairs are voted on, or until they are asked for."""
    comparison = new(blind=True)
    comparison.ask(["One?", "Two?"])
    assert comparison.hidden(0)
    cast = [comparison.vote(0, a, b, "a") for a, b in itertools.combinations(MODELS, 2)]
    assert [True] * 3 == [vote["blind"] for vote in cast]
    assert (False, True) == (comparison.hidden(0), comparison.hidden(1))
    comparison.reveal(1)
    assert comparison.vote(1, "a", "b", "tie")["blind"] is False


# --- other forms


def test_exports_hold_answers_and_parameters(new: Callable[..., Comparison]) -> None:
    """Frame, JSON, markdown and notebook have every answer with how it was asked."""
    comparison = new("a", {"model": "b", "temperature": 0.5})
    comparison.ask(["One?", "<img src=x onerror=alert(1)>"])
    frame = comparison.to_frame()
    assert list(compare_export.COLUMNS) == list(frame.columns)
    assert [0, 0, 1, 1] == list(frame["prompt"])
    assert {"options": {"temperature": 0.5}} == json.loads(frame["config"][1])
    document = json.loads(comparison.to_json())
    assert ["a", "b"] == [side["name"] for side in document["models"]]
    assert "a says: One?" == document["prompts"][0]["answers"][0]["text"]
    assert "### b (" in comparison.to_markdown()
    notebook = comparison.to_notebook()
    assert ["parameters"] == notebook.cells[1].metadata.tags
    assert "stream" == notebook.cells[3].outputs[0].output_type
    assert "b says: One?" in notebook.cells[3].outputs[0].text


def test_a_comparison_is_opened_from_its_json(
    ollama: ScriptedOllama, client: WorkbenchClient, new: Callable[..., Comparison], tmp_path: Path
) -> None:
    """Everything that was written is there again, hidden as it was, and it can be gone on with."""
    comparison = new("a", {"model": "b", "temperature": 0.5}, blind=True)
    comparison.ask(["One?", "Two?", "Three?"])
    ollama.enqueue(Reply("one two", error_after=(1, "no luck")), to="chat")
    comparison.retry(2, "a")
    comparison.vote(0, "a", "b", "b", voter="me")
    comparison.reveal(1)
    path = tmp_path / "comparison.json"
    path.write_text(comparison.to_json(), encoding="utf-8")
    for document in (path, str(path), comparison.to_json(), json.loads(comparison.to_json())):
        again = Comparison.from_json(client, document)
        assert json.loads(comparison.to_json()) == json.loads(again.to_json())
    assert comparison.to_frame().equals(again.to_frame())
    assert [False, False, True] == [again.hidden(prompt) for prompt in range(3)]
    failed = again.answer(2, "a")
    assert ("failed", "one") == (failed.status, failed.text)
    assert "no luck" in str(failed.error)
    asked = len(ollama.requests)
    again.retry()
    again.ask("Four?")
    assert asked < len(ollama.requests)
    assert ("a says: Three?", "b says: Four?") == (
        again.answer(2, "a").text,
        again.answer(3, "b").text,
    )
    assert 2 == again.answer(2, "a").attempt


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ("nowhere.json", "cannot be read"),
        (None, "None is no comparison"),
        ("{", "no JSON"),
        ("{}", "is no comparison"),
        ('{"kind": "workbench.comparison", "schema": 1}', "damaged comparison: .*id"),
        ('{"kind": "workbench.comparison", "schema": 99}', "reads up to"),
    ],
)
def test_what_is_no_comparison_is_told(
    client: WorkbenchClient,
    document: Any,
    told: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A file that is not there, other JSON, and what a newer version wrote are named."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=told):
        Comparison.from_json(client, document)


def test_damage_inside_a_comparison_is_told(
    client: WorkbenchClient, new: Callable[..., Comparison]
) -> None:
    """Answers of a side that there is not, and prompts in another order, are no comparison."""
    comparison = new("a", "b")
    comparison.ask(["One?", "Two?"])
    for spoil in (lambda d: d["models"].pop(), lambda d: d["prompts"].reverse()):
        document = json.loads(comparison.to_json())
        spoil(document)
        with pytest.raises(StoreError, match="damaged"):
            Comparison.from_json(client, document)


def test_show_prints_each_answer(
    new: Callable[..., Comparison], capsys: pytest.CaptureFixture[str]
) -> None:
    """`show=True` prints answers as they end, as plain text."""
    new("a", "b").ask("Why?", show=True)
    assert "[a, prompt 0]\na says: Why?\n[b, prompt 0]\nb says: Why?\n" == capsys.readouterr().out


def test_a_contender_can_be_given(new: Callable[..., Comparison]) -> None:
    """A side made by hand is taken as it is."""
    comparison = new(Contender("a", "hand-made"))
    assert "a says: Why?" == comparison.ask("Why?")[0]["hand-made"].text
