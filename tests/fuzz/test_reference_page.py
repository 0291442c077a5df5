"""The page about the HTTP API says what the server serves."""

from __future__ import annotations

from pathlib import Path

from workbench.server.app import ENDPOINTS
from workbench.server.openapi import document
from workbench.server.reference import page

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "http.md"


def test_page_is_the_one_that_is_made() -> None:
    """`python -m workbench.server.reference docs/reference/http.md` would change nothing."""
    text = PAGE.read_text(encoding="utf-8")
    assert page(text, document(ENDPOINTS)) == text


def test_every_endpoint_has_its_heading() -> None:
    """Each endpoint of the server has a heading of its own on the page."""
    text = PAGE.read_text(encoding="utf-8").splitlines()
    headings = {f"### `{row.method} {row.path.replace(':path}', '}')}`" for row in ENDPOINTS}
    assert set() == headings - set(text)


def test_every_body_has_its_heading() -> None:
    """Each type of a request's body has a heading with its fields."""
    text = PAGE.read_text(encoding="utf-8").splitlines()
    bodies = {f"### {row.body.__name__}" for row in ENDPOINTS if row.body is not None}
    assert set() == bodies - set(text)
