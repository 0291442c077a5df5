"""Running the tests of a `check` step, in its child process."""

from __future__ import annotations

import copy
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.errors import PlanError

if TYPE_CHECKING:
    import pytest

_LONGEST = 4000


def run_tests(path: Path, inputs: Mapping[str, Any], *, bound: Path) -> dict[str, Any]:
    """Run pytest on a file; each input is a fixture of its name, and `inputs` holds them all.

    A `conftest.py` above `bound` takes no part, since the key of the step does not hold it.
    Plugins that happen to be installed take no part: the same tests then give the same result.

    Returns:
        `tests`: `{name, outcome, message}` of each test, in order; the outcome is `passed`,
        `failed` or `skipped`.

    Raises:
        PlanError: When pytest is not installed, or the file holds no test.
    """
    try:
        import pytest
    except ImportError as exc:
        raise PlanError("pytest is not installed.", hint="pip install pytest") from exc

    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
    results = _Results()
    arguments = [str(path), "-q", "--import-mode=importlib", "-p", "no:cacheprovider"]
    # No settings of a folder above.
    arguments += ["-c", os.devnull, "--rootdir", str(path.parent), f"--confcutdir={bound}"]
    status = pytest.main(arguments, plugins=[results, _fixtures(pytest.fixture, inputs)])
    if not results.tests:
        reason = "no tests were found" if status == 5 else f"pytest ended with {int(status)}"
        raise PlanError(f"{path.name}: {reason}.", hint="Names of tests begin with test_.")
    return {"tests": list(results.tests.values())}


def _fixtures(fixture: Callable[..., Any], inputs: Mapping[str, Any]) -> object:
    """Return a plugin with a fixture for each input; every test gets a copy of its own."""

    def giving(value: Any) -> Callable[[], Any]:
        return lambda: copy.deepcopy(value)

    named = {**inputs, "inputs": dict(inputs)}
    made = {
        f"fixture_{number}": staticmethod(fixture(name=name)(giving(value)))
        for number, (name, value) in enumerate(named.items())
    }
    return type("Inputs", (), made)()


class _Results:
    """A plugin that keeps what came of each test."""

    def __init__(self) -> None:
        self.tests: dict[str, dict[str, str]] = {}

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        if report.outcome == "failed" or report.when == "call" or report.outcome == "skipped":
            self._keep(report.nodeid, report.outcome, report.longreprtext)

    def pytest_collectreport(self, report: pytest.CollectReport) -> None:
        if report.outcome == "failed":
            self._keep(report.nodeid, "failed", report.longreprtext)

    def _keep(self, name: str, outcome: str, message: str) -> None:
        known = self.tests.get(name)
        if known is None or known["outcome"] != "failed":
            entry = {"name": name, "outcome": outcome, "message": message[:_LONGEST]}
            self.tests[name] = entry
