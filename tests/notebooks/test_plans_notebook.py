from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from tests.notebooks.runs import Ran, ran, run_strictly

PLOTLY = "application/vnd.plotly.v1+json"
MOST_BYTES = 100_000

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def notebook() -> Iterator[Ran]:
    with ran("05_plans.ipynb") as found:
        yield found


def test_the_notebook_checks_runs_answers_and_replays(notebook: Ran) -> None:
    """A broken plan is told of, a good one waits, is answered, ends, and holds in a replay."""
    text = notebook.printed
    assert "ask has no output 'txt'. Did you mean 'text'?" in text
    assert "waiting\n" in text
    assert "The capital of Cuba is Havana." in text
    assert "Release these answers?\ndone ['ask', 'known', 'lengths', 'picture']" in text
    assert text.count("True\n") == 1
    figures = [output for output in notebook.outputs if PLOTLY in output.get("data", {})]
    assert 1 == len(figures)
    assert len(json.dumps(figures[0])) < MOST_BYTES


def test_the_notebook_says_the_same_again(notebook: Ran) -> None:
    """Strict nbval runs the notebook again and finds the same outputs."""
    run_strictly(notebook)
