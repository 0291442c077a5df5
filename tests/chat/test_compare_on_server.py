"""A comparison on a real server whose engine holds one model: loads, rows, votes, ranking."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

import workbench
from tests.server.harness import ServerProcess
from workbench.app import Workbench
from workbench.chat.compare import Comparison
from workbench.chat.compare_values import ComparisonEvent
from workbench.errors import SwapRequired
from workbench.testing.gguf import make_gguf

MODELS = ("toy-nano", "third", "toy-tiny")
PROMPTS = [f"What is {number} plus 2?" for number in range(8)]
TOML = "[engine]\nmax_loaded = 1\n"


@pytest.fixture(scope="module")
def wb(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workbench]:
    data_dir = tmp_path_factory.mktemp("compare")
    (data_dir / "models").mkdir()
    make_gguf(data_dir / "models" / "third.gguf", params=200_000, context_length=2048)
    (data_dir / "workbench.toml").write_text(TOML, encoding="utf-8")
    with (
        ServerProcess(data_dir) as server,
        workbench.connect(server.url, token=server.token, data_dir=data_dir) as wb,
    ):
        yield wb


@pytest.fixture(scope="module")
def compared(wb: Workbench) -> Comparison:
    """Eight prompts to three models, the answers kept short."""
    return wb.compare(MODELS, PROMPTS, temperature=0, seed=1, num_predict=4)


def test_three_models_cost_three_loads(wb: Workbench, compared: Comparison) -> None:
    """With room for one model each is loaded once, and nobody is leased any more afterwards."""
    assert (False, "embedded keeps at most 1 in memory") == (
        compared.staging.together,
        compared.staging.reason,
    )
    answers = [answer for row in compared.answers for answer in row.values()]
    assert {"done"} == {answer.status for answer in answers}
    loads = wb.metrics.sql("SELECT model FROM model_events WHERE event = 'load' ORDER BY ts")
    assert [f"{name}:latest" for name in MODELS] == list(loads["model"])
    assert [] == wb.leases()
    # The last one is in memory: it begins the next round.
    compared.ask("And 9 plus 2?")
    again = wb.metrics.sql("SELECT count(*) AS n FROM model_events WHERE event = 'load'")
    assert 5 == again["n"][0]


def test_votes_join_what_was_asked(wb: Workbench, compared: Comparison) -> None:
    """A vote's answers are requests of the metrics, by id, digest and hash of the prompt."""
    for prompt in range(4):
        compared.vote(prompt, "toy-tiny", "toy-nano", "a", voter="v1")
    compared.vote(4, "toy-nano", "toy-tiny", "a", voter="v1")
    compared.vote(5, "third", "toy-tiny", "both_bad", voter="v1")
    joined = wb.metrics.sql(
        """
        SELECT count(*) AS n FROM votes AS v
        JOIN requests AS a ON a.id = v.request_id_a JOIN requests AS b ON b.id = v.request_id_b
        WHERE v.prompt_sha = a.prompt_sha AND v.prompt_sha = b.prompt_sha
          AND v.digest_a = a.model_digest AND v.digest_b = b.model_digest
          AND v.conversation = a.conversation AND v.turn = a.turn AND a.speaker = v.label_a
        """
    )
    assert 6 == joined["n"][0]


def test_the_ranking_reads_the_votes(wb: Workbench, compared: Comparison) -> None:
    """`wb.rankings()` knows the models by their digests and names."""
    ranking = wb.rankings(comparison=compared.id)
    assert {"toy-tiny", "toy-nano", "third"} == {one.name for one in ranking}
    found = {one.name: one for one in ranking}
    assert (4, 1, 1) == (
        found["toy-tiny"].wins,
        found["toy-tiny"].losses,
        found["toy-tiny"].ties,
    )
    assert found["toy-tiny"].rank < found["toy-nano"].rank


def test_consent_lets_others_leave(wb: Workbench) -> None:
    """Where the server asks before a swap, a side fails with its plan unless consent was given."""
    wb.set("swap.embedded", "manual")
    try:
        wb.load("third", swap=True)
        refused = wb.compare(["toy-nano"], ["One?", "Two?"], num_predict=4)
        assert {"failed"} == {row["toy-nano"].status for row in refused.answers}
        assert isinstance(refused.answer(0, "toy-nano").error, SwapRequired)
        allowed = wb.compare(["toy-nano", "toy-tiny"], "One?", num_predict=4, swap=True)
        assert ["done", "done"] == [answer.status for answer in allowed.answers[0].values()]
    finally:
        wb.set("swap.embedded", None)


def test_models_that_fit_answer_at_the_same_time(wb: Workbench) -> None:
    """With room for two, both have begun before the first has ended, unless it is forbidden."""
    if not wb.set("engine.max_loaded", 2).changeable:
        pytest.skip("the engine's limit is fixed")

    def began_together(**how: Any) -> bool:
        comparison, began = wb.compare(["toy-nano", "toy-tiny"], num_predict=16, **how), []
        ended_after: list[int] = []

        def listen(event: ComparisonEvent) -> None:
            if event.kind == "answer" and event.answer is not None:
                if event.answer.ended:
                    ended_after.append(len(began))
                else:
                    began.append(event.lane)

        comparison.observe(listen)
        comparison.ask("Why?")
        assert comparison.staging.together
        return ended_after == [2, 2]

    assert began_together()
    assert not began_together(schedule="sequential")
