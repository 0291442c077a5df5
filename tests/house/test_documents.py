"""Written files: the changelog, prose, and what must never be in the repository."""

from __future__ import annotations

import os
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from tests.house.files import ROOT, files_under, project_files, relative, run_module

FENCE = re.compile(r"^\s*(```|~~~)")
# Two sentences on one line: an end of a sentence, a space, a capital.
TWO_SENTENCES = re.compile(r"[a-zа-яё0-9`)\]][.!?] +[A-ZА-ЯЁ]")
ABBREVIATION = re.compile(r"\b(e\.g|i\.e|cf|vs|etc|No|p)\. ")
LARGEST_TEXT_BYTES = 2_000_000


def prose_lines(path: Path) -> list[tuple[int, str]]:
    """Return the lines of a page that are prose: no code, table, heading or comment."""
    lines, in_code = [], False
    for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
        if FENCE.match(line):
            in_code = not in_code
        elif not in_code and not line.lstrip().startswith(("|", "#", "<")):
            lines.append((number, ABBREVIATION.sub(r"\1 ", re.sub(r"`[^`]*`", "`code`", line))))
    return lines


def test_changelog_has_a_place_for_new_entries() -> None:
    """The changelog begins with an Unreleased section."""
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    assert "[Unreleased]" == re.findall(r"^## (\S+)", text, re.MULTILINE)[0]


def test_prose_has_one_sentence_per_line() -> None:
    """No line of a page holds two sentences, so that a diff shows the sentence that changed."""
    crowded = [
        f"{relative(path)}:{number}: {line.strip()[:90]}"
        for path in files_under(".", "*.md")
        for number, line in prose_lines(path)
        if TWO_SENTENCES.search(line)
    ]
    assert not crowded, "\n".join(crowded)


def test_no_file_names_a_place_of_one_machine() -> None:
    """No file holds a path of somebody's home folder or of this checkout."""
    checkout = rf"{re.escape(str(ROOT))}(?=[/\s\"'])" if len(ROOT.parts) > 2 else r"(?!)"
    personal = re.compile(rf"(?<![\w.:/])(?:/(?:home|Users)/[a-z]+|/root(?=/)|{checkout})")
    found = []
    for path in project_files():
        if path.stat().st_size > LARGEST_TEXT_BYTES:
            continue
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        lines = enumerate(text.splitlines(), 1)
        found += [
            f"{relative(path)}:{n}: {hit[0]}" for n, s in lines if (hit := personal.search(s))
        ]
    assert not found, "\n".join(found)


class _Outside(HTMLParser):
    """Collect what a page makes the browser fetch from elsewhere."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        address = values.get("href" if tag == "link" else "src") or ""
        fetched = tag in ("script", "img", "iframe", "source", "link")
        if fetched and values.get("rel") != "canonical" and re.match(r"(https?:)?//", address):
            self.found.add(address)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the documentation strictly: a bad link or anchor fails."""
    folder = tmp_path_factory.mktemp("site")
    # The theme's advertisement of its successor is no warning about these pages.
    quiet = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = run_module("mkdocs", "build", "--strict", "-q", "--site-dir", str(folder), env=quiet)
    assert done.returncode == 0, done.stdout
    return folder


def test_documentation_builds(site: Path) -> None:
    """Every page of `docs/` becomes a page of the site."""
    pages = files_under("docs", "*.md")
    built = {path.parent.relative_to(site).as_posix() for path in site.rglob("index.html")}
    names = {p.relative_to(ROOT / "docs").with_suffix("").as_posix() for p in pages}
    expected = {re.sub(r"(^|/)index$", "", name) or "." for name in names}
    assert set() == expected - built


def test_documentation_needs_no_network(site: Path) -> None:
    """No page makes the browser load a script, style, font or picture from elsewhere."""
    outside = _Outside()
    for page in site.rglob("*.html"):
        outside.feed(page.read_text(encoding="utf-8"))
    assert set() == outside.found
