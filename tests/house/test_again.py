"""A test runs twice before it has failed, and the summary tells of each that did."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.again import MOST
from tests.browsers import needs_chromium

ROOT = Path(__file__).resolve().parents[2]
CONFTEST = """
import pytest
from tests.again import (
    pytest_addoption,
    pytest_runtest_protocol,
    pytest_sessionfinish,
    pytest_terminal_summary,
)
from tests.browsers import chromium

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
    assert page.evaluate("4 + 4") == "9"

def test_once_wrong(page):
    runs.append(2)
    assert page.evaluate("5 + 5") == 10 * (runs.count(2) - FIRST)
"""


# Only what these tests need: each start of pytest loads it all.
SETTINGS = f"""
[pytest]
pythonpath = {ROOT}
addopts = -q -ra -p no:cacheprovider -p no:langsmith_plugin -p no:nbval -p no:hypothesispytest
markers = browser
"""


def _pytest(folder: Path, tests: str, *options: str) -> tuple[int, str]:
    (folder / "conftest.py").write_text(CONFTEST)
    (folder / "pytest.ini").write_text(SETTINGS)
    (folder / "test_it.py").write_text(tests)
    command = [sys.executable, "-m", "pytest", "--rootdir", str(folder), str(folder), *options]
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder)
    return done.returncode, done.stdout + done.stderr


def _run(folder: Path, *options: str, times: int = 0, first: int = 0) -> str:
    tests = KILL.replace("TIMES", str(times)).replace("FIRST", str(first))
    return _pytest(folder, tests, *options)[1]


@needs_chromium
def test_a_test_runs_again_when_its_browser_died(tmp_path: Path) -> None:
    """All that a crash touches passes, and the summary names it."""
    said = _run(tmp_path, "--one-run", times=1)
    assert "chromium died under test_it.py::test_killed, which ran again" in said
    assert "1 failed, 4 passed" in said
    assert "FAILED test_it.py::test_wrong - AssertionError: assert 8 == '9'" in said


@needs_chromium
def test_it_runs_again_once(tmp_path: Path) -> None:
    """A browser that dies each time is a failure; the tests after it have a new one."""
    said = _run(tmp_path, times=9)
    assert "FAILED test_it.py::test_killed" in said
    assert "2 failed, 3 passed" in said


UNSTEADY = """
import pytest
runs = []

@pytest.fixture(scope="module")
def server():
    return object()

@pytest.mark.parametrize("number", range(NUMBER))
def test_it(number, server):
    runs.append(number)
    assert runs.count(number) == 2
"""


def _unsteady(folder: Path, number: int, *options: str) -> tuple[int, str]:
    return _pytest(folder, UNSTEADY.replace("NUMBER", str(number)), *options)


def test_a_few_may_run_again(tmp_path: Path) -> None:
    """What passes the second time has passed, with or without a browser, and is named."""
    code, said = _unsteady(tmp_path, MOST, "-n2")
    assert code == 0
    assert said.count("ran again, having failed once") == MOST
    assert f"{MOST} passed" in said


def test_many_that_run_again_fail_the_run(tmp_path: Path) -> None:
    """A suite that needs many second runs is not in order."""
    for options in ((), ("-n1",)):
        code, said = _unsteady(tmp_path, MOST + 1, *options)
        assert code == 1
        assert f"{MOST + 1} tests ran again; more than {MOST} are a failure of the run" in said


@needs_chromium
def test_one_failure_is_told_and_two_are_a_failure(tmp_path: Path) -> None:
    """A test that passes the second time passes, and why it failed is printed."""
    said = _run(tmp_path, first=1)
    assert "1 failed, 4 passed" in said
    assert "FAILED test_it.py::test_wrong" in said
    assert said.count("ran again") == 1
    _, _, why = said.partition("test_it.py::test_once_wrong ran again, having failed once:")
    assert "assert 10 == (10 * (1 - 1))" in why


@needs_chromium
def test_the_first_failure_counts_in_the_hunt(tmp_path: Path) -> None:
    """With `--one-run` no test in a living browser runs again."""
    said = _run(tmp_path, "--one-run", first=1)
    assert "2 failed, 3 passed" in said
    assert "FAILED test_it.py::test_once_wrong" in said
