"""Dialogues and memory: what is foreseen, leased, swapped and measured, on a real server."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import workbench
from tests.server.harness import ServerProcess
from workbench.chat.dialogue import Dialogue
from workbench.chat.dialogue_values import LaneState
from workbench.chat.grouping import grouped_by_model
from workbench.chat.runners import runner_of
from workbench.chat.staging import ModelNeed, fit_together, planned_loads, suits
from workbench.client.records import close_records
from workbench.client.values import RunningModel
from workbench.errors import InsufficientMemory, ModelNotFound, SwapRequired
from workbench.testing import (
    FakeGpu,
    FakeModel,
    RecordedRequest,
    Reply,
    ScriptedGpu,
    ScriptedOllama,
)
from workbench.testing.gguf import make_gguf

GB = 10**9
MODELS = [FakeModel(name, size_bytes=3 * GB, load_s=0.15) for name in ("a", "b", "c")]
TOML = """
[engine]
max_loaded = 1

[[backend]]
name = "ollama"
kind = "ollama"
url = "{url}"
"""


@dataclass
class House:
    """A server, the scripted Ollama behind it with room for one model, and a client."""

    server: ServerProcess
    ollama: ScriptedOllama
    wb: workbench.Workbench

    def loads(self) -> list[str]:
        """Return the models that were loaded, in order."""
        return [request.model.removesuffix(":latest") for request in self._heard("load")]

    def engine_loads(self) -> int:
        """Return how many models the engine has loaded so far."""
        query = (
            "SELECT count(*) AS n FROM model_events WHERE event = 'load' AND backend = 'embedded'"
        )
        return int(self.wb.metrics.sql(query)["n"][0])

    def _heard(self, operation: str) -> list[RecordedRequest]:
        return [request for request in self.ollama.requests if request.operation == operation]


def answer(request: RecordedRequest) -> Reply:
    """Say something else each time, so that nobody repeats anybody."""
    return Reply(f"turn {request.json['options']['seed']} of {request.model}")


@pytest.fixture(scope="module")
def running(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[ServerProcess, ScriptedOllama]]:
    data_dir = tmp_path_factory.mktemp("dialogues")
    (data_dir / "models").mkdir()
    make_gguf(data_dir / "models" / "third.gguf", params=200_000, context_length=2048)
    models = [*MODELS, FakeModel("huge", size_bytes=90 * GB)]
    with ScriptedOllama(models=models, reply=answer, memory_bytes=6 * GB) as ollama:
        (data_dir / "workbench.toml").write_text(TOML.format(url=ollama.url), encoding="utf-8")
        with card(ollama, 6 * GB) as driver, ServerProcess(data_dir, env=driver) as server:
            yield server, ollama


@contextmanager
def card(ollama: ScriptedOllama, size_bytes: int) -> Iterator[dict[str, str]]:
    """Yield the environment in which a server sees the card that an Ollama uses."""
    with ScriptedGpu(FakeGpu(size_bytes, ollama, id="GPU-1", name="Card")) as driver:
        yield dict(driver.environment)


@pytest.fixture
def house(running: tuple[ServerProcess, ScriptedOllama]) -> Iterator[House]:
    """Yield the house with nothing loaded."""
    server, ollama = running
    how = {"token": server.token, "data_dir": server.data_dir}
    with workbench.connect(server.url, **how) as wb:
        for model in wb.loaded():
            wb.unload(model.name)
        yield House(server, ollama, wb)


def cast(*models: str, **how: Any) -> list[dict[str, Any]]:
    """Return a role for each model, named by its place."""
    return [{"name": f"R{n}", "model": model, **how} for n, model in enumerate(models)]


def test_a_debate_on_one_card_shows_its_swaps(house: House) -> None:
    """Swaps are foreseen before the first turn and per turn, and measured beside it."""
    before = len(house.loads())
    for model in ("a", "b"):
        house.wb.load(model)
    with house.wb.dialogue(cast("a", "b"), opening="x", turns=4, order="debate") as dialogue:
        staging = dialogue.prepare()
        assert (False, 4) == (staging.together, staging.loads)
        assert staging.swap_s is not None
        assert staging.swap_s > 0.4
        assert "take turns in memory" in str(staging)
        dialogue.run()
        turns = dialogue.turns
        assert ["a", "b", "a", "b", "a", "b"] == house.loads()[before:]
    for turn in turns:
        assert turn.predicted_swap_s is not None
        assert turn.measured_swap_s is not None
        assert turn.predicted_swap_s > 0.1
        assert turn.measured_swap_s > 0.1
    assert [] == house.wb.leases()


def test_a_broadcast_loads_each_model_once_a_round(house: House) -> None:
    """Six roles of three models in mixed order cost three loads; the last model begins the next."""
    before = len(house.loads())
    roles = cast("a", "b", "c", "b", "a", "c")
    dialogue = house.wb.dialogue(roles, opening="x", turns=12, order="broadcast")
    assert 5 == dialogue.prepare().loads
    dialogue.run()
    assert ["a", "b", "c", "a", "b"] == house.loads()[before:]


def test_models_that_fit_together_stay(house: House, tmp_path: Path) -> None:
    """With memory for both nobody leaves; both are leased while the dialogue runs."""
    models = [FakeModel("p", size_bytes=2 * GB), FakeModel("q", size_bytes=2 * GB)]
    with ScriptedOllama(models=models, reply=answer, memory_bytes=12 * GB) as ollama:
        data = tmp_path / "data"
        data.mkdir()
        (data / "workbench.toml").write_text(TOML.format(url=ollama.url), encoding="utf-8")
        with (
            card(ollama, 12 * GB) as driver,
            ServerProcess(data, env=driver) as server,
            workbench.connect(server.url, token=server.token, data_dir=data) as wb,
        ):
            leased: list[set[str]] = []

            def note(view: Any) -> None:
                leased.append({model for lease in wb.leases() for model in lease.models})

            dialogue = wb.dialogue(cast("p", "q"), opening="x", turns=4, stop=note)
            dialogue.run()
            heard = [r.model for r in ollama.requests if r.operation in ("load", "unload")]
            assert (True, 2) == (dialogue.staging.together, dialogue.staging.loads)
            assert ["p:latest", "q:latest"] == heard
            assert {"p:latest", "q:latest"} == {m.partition("@")[0] for m in leased[-1]}
            assert [0.0, 0.0] == [turn.predicted_swap_s for turn in dialogue.turns[2:]]
            assert [0.0, 0.0] == [turn.measured_swap_s for turn in dialogue.turns[2:]]
            assert [] == wb.leases()
            ollama.enqueue(Reply("one", stall_after=0), Reply("two", stall_after=0))
            both = wb.dialogue(cast("p", "q"), opening="x", turns=2, order="broadcast")
            both.start()
            for number in (5, 6):
                # Both are being answered before either has ended.
                ollama.wait_for_request(number, to="chat").stalled.wait()
            ollama.release()
            assert ["done", "done"] == [turn.status for turn in both.wait().turns]


def test_what_is_missing_or_too_large_is_told_first(house: House) -> None:
    """Before the first turn, with the advisor's figures; nobody is asked anything."""
    with pytest.raises(ModelNotFound) as missing:
        house.wb.dialogue(cast("a", "bb"), opening="x").run()
    assert "bb" in str(missing.value)
    with house.wb.dialogue(cast("a", "huge"), opening="x") as dialogue:
        with pytest.raises(InsufficientMemory) as caught:
            dialogue.run()
        assert caught.value.needed_bytes > caught.value.available_bytes > 0
        assert ("failed", []) == (dialogue.state, dialogue.turns)


def test_a_swap_that_needs_consent_is_a_failed_turn(house: House) -> None:
    """The turn keeps the plan; a retry with consent loads the model."""
    house.wb.set("swap.ollama", "manual")
    try:
        house.wb.swap("a")
        dialogue = house.wb.dialogue(cast("b"), opening="x", turns=1)
        with pytest.raises(SwapRequired):
            dialogue.run()
        error = dialogue.turns[0].error
        assert error is not None
        assert ["a:latest"] == [item["model"] for item in error["plan"]["evict"]]
        dialogue.retry(swap=True)
        assert "done" == dialogue.wait().state
    finally:
        house.wb.set("swap.ollama", None)


def test_phases_of_a_lane(house: House) -> None:
    """A lane tells of queue, unloading, loading with bytes, reading and writing, and its end."""
    house.wb.load("a")
    house.ollama.enqueue(Reply("one two three four", tokens_per_s=100))
    dialogue = house.wb.dialogue(cast("b"), opening="x", turns=1)
    seen: list[LaneState] = []
    dialogue.observe(lambda event: seen.append(dialogue.lanes["R0"]))
    dialogue.run()
    phases = list(dict.fromkeys(lane.phase for lane in seen if lane.phase != "idle"))
    assert ["queued", "unloading", "loading", "reading prompt", "writing", "done"] == phases
    loading = [lane for lane in seen if lane.phase == "loading"]
    assert 3 * GB == loading[-1].bytes
    done = dialogue.lanes["R0"]
    assert ("stop", 4) == (done.detail, done.tokens)
    assert done.ttft_s is not None


def test_an_embedded_dialogue_loads_each_model_once(house: House) -> None:
    """On the engine with room for one, three models and six roles cost three loads."""
    roles = cast("toy-nano", "third", "toy-tiny", "toy-nano", "third", "toy-tiny")
    for role in roles:
        role["options"] = {"num_predict": 6, "temperature": 0.8}
    with house.wb.dialogue(roles, opening="Hello", turns=6, order="broadcast") as dialogue:
        staging = dialogue.prepare()
        assert (False, 3) == (staging.together, staging.loads)
        assert "at most 1" in staging.reason
        before = house.engine_loads()
        dialogue.run()
        assert 3 == house.engine_loads() - before
        assert [turn.index for turn in dialogue.turns] == list(range(6))
        assert all(turn.digest for turn in dialogue.turns)


def test_the_engine_follows_the_schemas(house: House) -> None:
    """A toy model moderates and judges: every answer is one of the choices, and is recorded."""
    roles = cast("toy-nano", "toy-nano", "toy-nano", options={"num_predict": 6})
    dialogue = house.wb.dialogue(
        roles,
        opening="Hello",
        turns=3,
        order="moderated",
        moderator="toy-nano",
        judge="toy-nano",
        stop={"judge": {"question": "Is it over?", "every": 3}},
        repetition=None,
    ).run()
    assert {"moderator"} == {turn.picked for turn in dialogue.turns}
    verdict = dialogue.decide()
    assert ["moderator"] * 3 == [aside.kind for aside in dialogue.asides][:3]
    assert all(aside.value and aside.digest for aside in dialogue.asides)
    close_records(house.wb.client.records)
    rows = house.wb.metrics.sql(
        'SELECT judge_digest, judge_request_id, "order" FROM evaluations '
        'WHERE conversation = ? ORDER BY "order"',
        [dialogue.id],
    )
    assert ["ab", "ba"] == list(rows["order"])
    assert [item.request_id for item in verdict.seen] == list(rows["judge_request_id"])
    assert {verdict.digest} == set(rows["judge_digest"])
    assert verdict.digest is not None


def test_a_replay_compares_turn_by_turn(house: House) -> None:
    """The same models give the same turns; a turn that was changed is the first difference."""
    roles = cast("toy-nano", "toy-nano", options={"num_predict": 8, "temperature": 0.9})
    roles[1]["system"] = "Be brief."
    dialogue = house.wb.dialogue(roles, opening="Hello", turns=4, repetition=None).run()
    replay = house.wb.replay(dialogue.transcript)
    assert (True, 4) == (replay.ok, replay.checked)
    wire = dialogue.transcript.to_wire()
    wire["turns"][2]["text"] = "x" + wire["turns"][2]["text"]
    replay = house.wb.replay(wire)
    assert replay.difference is not None
    assert (2, 2, "text", 0) == (
        replay.checked,
        replay.difference.turn,
        replay.difference.what,
        replay.difference.at,
    )
    wire["setup"]["opening"] = "Bye"
    replay = house.wb.replay(wire)
    assert replay.difference is not None
    assert (0, "messages") == (replay.difference.turn, replay.difference.what)
    wire["turns"][0]["digest"] = "0" * 64
    assert "turn 0 (R0): the digest differs" in str(house.wb.replay(wire))


def test_metrics_rows_have_the_speaker(house: House) -> None:
    """The server's row of each request says conversation, turn and speaker."""
    dialogue: Dialogue = house.wb.dialogue(cast("a"), opening="x", turns=2, repetition=None).run()
    ids = [turn.request_id for turn in dialogue.turns]
    rows = house.wb.metrics.sql(
        "SELECT id, turn, speaker FROM requests WHERE conversation = ? ORDER BY turn",
        [dialogue.id],
    )
    assert [(ids[0], 0, "R0"), (ids[1], 1, "R0")] == [
        (row.id, row.turn, row.speaker) for row in rows.itertuples()
    ]


@pytest.mark.parametrize(
    ("needs", "limits", "expected"),
    [
        ([("a", "x", 3, 5), ("b", "x", 3, 5)], {}, False),
        ([("a", "x", 2, 5), ("b", "x", 3, 5)], {}, True),
        ([("a", "x", 2, 5), ("b", "x", 3, 5)], {"x": 1}, False),
        ([("a", "x", 4, 5), ("b", "y", 4, 5)], {"x": 1, "y": 1}, True),
        ([("a", "x", None, 5), ("b", "x", 3, 5)], {}, None),
        ([("a", "x", 4, None)], {}, True),
    ],
    ids=["too much", "enough", "limit", "two backends", "unknown", "one"],
)
def test_fit_together(
    needs: list[tuple[str, str, int | None, int | None]],
    limits: dict[str, int],
    expected: bool | None,
) -> None:
    """Models of one backend stay together when their sizes fit its memory and its limit."""
    rows = [
        ModelNeed(model, backend=backend, needed_bytes=size, capacity_bytes=room)
        for model, backend, size, room in needs
    ]
    assert expected is fit_together(rows, limits)[0]


def test_loads_are_planned() -> None:
    """A load takes the place of the others unless they fit together; other options are a load."""
    a, b = runner_of("a", {}), runner_of("b", {"seed": 1})
    turns = [a, b, a, b]
    assert [b, a, b] == planned_loads(turns, loaded=["a"], together=False)
    assert [b] == planned_loads(turns, loaded=["a"], together=True)
    wide = runner_of("a", {"num_ctx": 512})
    assert [a, wide] == planned_loads([a, wide, a], loaded=[], together=True)


def test_a_model_suits_by_its_runner_options() -> None:
    """Only options that belong to a loaded model count, and only where they differ."""
    row = RunningModel("a", context_length=512, profile={"num_batch": 64})
    for options, expected in [
        ({}, True),
        ({"temperature": 1, "num_ctx": 512, "num_batch": 64}, True),
        ({"num_ctx": 1024}, False),
        ({"num_batch": 32}, False),
    ]:
        assert expected is suits(row, options)


def test_roles_of_one_model_with_other_contexts_take_turns(house: House) -> None:
    """In a round they are grouped by what has to be loaded, and the loads are foreseen."""
    roles = cast("toy-nano", "toy-nano", "toy-nano")
    for role, num_ctx in zip(roles, (256, 512, 256), strict=True):
        role["options"] = {"num_predict": 4, "num_ctx": num_ctx}
    dialogue = house.wb.dialogue(roles, opening="Hi", turns=3, order="broadcast")
    assert 2 == dialogue.prepare().loads
    before = house.engine_loads()
    dialogue.run()
    assert 2 == house.engine_loads() - before
    swaps = [turn.measured_swap_s or 0.0 for turn in dialogue.turns]
    assert [True, True, False] == [seconds > 0 for seconds in swaps]


def test_grouping_keeps_the_order_within_a_model() -> None:
    """Eight prompts to three models in any order are three groups, what is loaded first."""
    items = [(prompt, model) for prompt in range(8) for model in ("a", "b", "c")]
    groups = grouped_by_model(items, lambda item: item[1], loaded=["c"])
    assert ["c", "a", "b"] == [group[0][1] for group in groups]
    assert all([p for p, _ in group] == list(range(8)) for group in groups)
