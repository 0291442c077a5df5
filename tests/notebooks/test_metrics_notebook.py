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
    with ran("04_metrics.ipynb") as found:
        yield found


def test_the_notebook_asks_draws_and_exports(notebook: Ran) -> None:
    """Its rows are real, its figures plain and small, its report and export are written."""
    assert "7 requests are recorded" in notebook.printed
    tables = [
        output["data"].get("text/plain", "") for output in notebook.outputs if "data" in output
    ]
    assert any("ResponseError" in table for table in tables), "the failure is among the errors"
    assert "metrics-report.html True" in notebook.printed
    assert "requests.parquet" in notebook.printed
    figures = [output for output in notebook.outputs if PLOTLY in output.get("data", {})]
    assert len(figures) >= 3
    assert max(len(json.dumps(output)) for output in figures) < MOST_BYTES


def test_the_notebook_says_the_same_again(notebook: Ran) -> None:
    """Strict nbval runs the notebook again and finds the same outputs."""
    run_strictly(notebook)
