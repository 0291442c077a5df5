"""The notebook of several models: run by papermill, shown by nbconvert, then strictly by nbval."""

from __future__ import annotations

from collections.abc import Iterator

import nbformat
import pytest
from nbconvert import HTMLExporter

from tests.notebooks.runs import Ran, ran, run_strictly

WIDGET = "application/vnd.jupyter.widget-view+json"

pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def notebook() -> Iterator[Ran]:
    with ran("03_dialogue.ipynb") as found:
        yield found


def test_the_notebook_talks_compares_and_votes(notebook: Ran) -> None:
    """Models talk, answer side by side and are ranked, and the dialogue can be asked again."""
    for said in (
        "The capital of France is Paris.",
        "4 turns; 4 turns were taken",
        "done - 6 turns were taken",
        "3 votes",
        "4 turns as stored",
    ):
        assert said in notebook.printed
    shown = [o["data"].get("text/plain", "") for o in notebook.outputs if "data" in o]
    assert any("95% intervals by resampling 3 prompts of 3 votes" in text for text in shown)


def test_transcripts_are_static_and_small(notebook: Ran) -> None:
    """Cells show transcripts once, as HTML without scripts, and no widget is saved."""
    saved = nbformat.read(notebook.path, as_version=4)
    assert "widgets" not in saved.metadata
    bundles = [output["data"] for output in notebook.outputs if "data" in output]
    assert not [bundle for bundle in bundles if WIDGET in bundle]
    transcripts = [b["text/html"] for b in bundles if "wb-static" in b.get("text/html", "")]
    assert 3 == len(transcripts)
    assert max(map(len, transcripts)) < 20_000
    assert not [text for text in transcripts if "<script" in text]


def test_nbconvert_shows_what_was_said(notebook: Ran) -> None:
    """As a page the notebook has the transcripts, and nothing of a widget."""
    page, _ = HTMLExporter().from_filename(str(notebook.path))
    assert 3 == page.count('class="wb-static"')
    assert "widget-view" not in page


def test_the_notebook_says_the_same_again(notebook: Ran) -> None:
    """Strict nbval runs the notebook again and finds the same outputs."""
    run_strictly(notebook)
