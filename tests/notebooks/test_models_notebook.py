from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.notebooks.runs import Ran, ran, run_strictly

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def notebook() -> Iterator[Ran]:
    with ran("02_models.ipynb") as found:
        yield found


def test_the_notebook_shows_models_and_memory(notebook: Ran) -> None:
    """The run notebook holds what its cells say of loads, pins, leases, queue and events."""
    for said in (
        "toy-tiny fits alone: True",
        "toy-tiny:latest is idle with a context of 512 tokens",
        "verified\n",
        "pinned: True\npriority: 8\npinned: False\npriority: 5\n",
        "The capital of France is Paris.",
        "held by ['02_models'], lost: None",
        "6 answers",
        "unloaded: toy-tiny:latest",
    ):
        assert said in notebook.printed


def test_the_notebook_says_the_same_again(notebook: Ran) -> None:
    """Strict nbval runs the notebook again and finds the same outputs."""
    run_strictly(notebook)
