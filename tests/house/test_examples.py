"""The Python examples of the README and the documentation run as they stand."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.files import ROOT, files_under, relative
from workbench.errors import PlanInvalid
from workbench.plans import parse_plan

SKIP_MARK = "<!-- no-run -->"
BLOCK = re.compile(
    rf"^(?P<skip>{re.escape(SKIP_MARK)}\n+)?^```python[^\n]*\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
YAML = re.compile(r"^```yaml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
# Runs the blocks of one page one after the other in one namespace, as a reader types them into a
# notebook; `await` stands at the top level there.
RUNNER = """
import ast, asyncio, inspect, json, sys

async def main(page, blocks):
    namespace = {"__name__": "__main__"}
    for line, source in blocks:
        padded = "\\n" * line + source
        code = compile(padded, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        if code.co_flags & inspect.CO_COROUTINE:
            await eval(code, namespace)
        else:
            exec(code, namespace)

page, blocks = json.load(sys.stdin)
asyncio.run(main(page, blocks))
"""


def examples(path: Path) -> tuple[list[tuple[int, str]], int]:
    """Return the blocks of a page that run, each with the line before it, and how many do not."""
    text = path.read_text(encoding="utf-8")
    run, skipped = [], 0
    for match in BLOCK.finditer(text):
        if match["skip"]:
            skipped += 1
        else:
            run.append((text.count("\n", 0, match.start("code")), match["code"]))
    return run, skipped


PAGES = [p for p in (ROOT / "README.md", *files_under("docs", "*.md")) if p.exists()]


@pytest.mark.parametrize("path", [p for p in PAGES if examples(p)[0]], ids=relative)
def test_examples_run(path: Path, private_folders: Path) -> None:
    """The examples of a page, in order, run with the bundled models."""
    blocks, _ = examples(path)
    work = private_folders / "work"
    work.mkdir()
    command = [sys.executable, "-W", "error::DeprecationWarning:__main__", "-c", RUNNER]
    page = json.dumps([relative(path), blocks])
    try:
        done = subprocess.run(
            command, input=page, cwd=work, capture_output=True, text=True, check=False, timeout=110
        )
    finally:
        stop_server(work)
    assert done.returncode == 0, f"{done.stdout[-2000:]}\n{done.stderr[-4000:]}"


def stop_server(folder: Path) -> None:
    """Stop the server that the examples started in this test's private folders."""
    subprocess.run(
        [sys.executable, "-m", "workbench", "stop"],
        cwd=folder,
        env=dict(os.environ),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
        timeout=60,
    )


def steps_shown() -> list[tuple[str, str]]:
    """Return the steps of plans that pages show, each as a plan, with the page."""
    found = []
    for path in PAGES:
        for block in YAML.findall(path.read_text(encoding="utf-8")):
            if not re.search(r"^ *(- )?kind: ", block, re.MULTILINE):
                continue
            head = "" if re.search(r"^plan:", block, re.MULTILINE) else "plan: shown\n"
            if not re.search(r"^steps:", block, re.MULTILINE):
                head += "steps:\n"
            found.append((relative(path), head + block))
    return found


def test_steps_in_pages_have_fields_that_there_are() -> None:
    """A step that a page shows has no field that its kind does not know."""
    shown, wrong = steps_shown(), []
    for page, text in shown:
        try:
            parse_plan(text)
        except PlanInvalid as exc:
            # What a part of a plan refers to may stand in the part that is not shown.
            wrong += [f"{page}: {p}" for p in exc.problems if "has no field" in str(p)]
    assert len(shown) > 3
    assert [] == wrong


def test_few_examples_are_left_out() -> None:
    """At most a third of the examples are marked as not to be run."""
    counts = [examples(path) for path in PAGES]
    run = sum(len(blocks) for blocks, _ in counts)
    skipped = sum(left_out for _, left_out in counts)
    assert skipped <= (run + skipped) / 3, f"{skipped} of {run + skipped} examples do not run"


def test_readme_has_examples() -> None:
    """The README shows Python, and it runs."""
    readme = ROOT / "README.md"
    if not readme.exists():
        pytest.skip("README.md is not written yet")
    assert examples(readme)[0]
