"""A browser that dies costs no test; a test that fails in a living one fails."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.browsers import needs_chromium

ROOT = Path(__file__).resolve().parents[2]
CONFTEST = """
import pytest
from tests.browsers import chromium, pytest_runtest_protocol, pytest_terminal_summary

@pytest.fixture(scope="module")
def page():
    with chromium() as browser:
        yield browser.new_page()
"""
KILL = """
import psutil, pytest
pytestmark = pytest.mark.browser
runs = []

def kill():
    for process in psutil.Process().children(recursive=True):
        if "chrom" in process.name() and "--type=" not in " ".join(process.cmdline()):
            process.kill()

def test_before(page):
    assert page.evaluate("1 + 1") == 2

def test_killed(page):
    runs.append(1)
    if len(runs) <= TIMES:
        kill()
    assert page.evaluate("2 + 2") == 4

def test_after(page):
    assert page.evaluate("3 + 3") == 6

def test_wrong(page):
    runs.append(2)
    assert page.evaluate("4 + 4") == runs.count(2)
"""


def _run(folder: Path, times: int) -> str:
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text(
        f"[pytest]\npythonpath = {ROOT}\naddopts = -q -ra -p no:cacheprovider\nmarkers = browser\n"
    )
    (folder / "test_it.py").write_text(KILL.replace("TIMES", str(times)))
    command = [sys.executable, "-m", "pytest", "--rootdir", str(folder), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    return done.stdout + done.stderr


@needs_chromium
def test_a_test_runs_again_when_its_browser_died(tmp_path: Path) -> None:
    """All that a crash touches passes, the summary names it, and no other failure is hidden."""
    said = _run(tmp_path, times=1)
    assert "chromium died under test_it.py::test_killed, which ran again" in said
    assert "1 failed, 3 passed" in said
    assert "FAILED test_it.py::test_wrong - AssertionError: assert 8 == 1" in said


@needs_chromium
def test_it_runs_again_once(tmp_path: Path) -> None:
    """A browser that dies each time is a failure; the tests after it have a new one."""
    said = _run(tmp_path, times=9)
    assert "FAILED test_it.py::test_killed" in said
    assert "2 failed, 2 passed" in said
