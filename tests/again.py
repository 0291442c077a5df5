"""A second run for a test that failed, and the names of those that had one.

The tests run over real sockets, processes, kernels and pages, on machines of which nothing is
known.  So a test that fails runs a second time, from the set-up of its module on.  When it passes
then, the summary names it and prints why it failed: that is a fault of the test or of the product,
to be found.  When it fails twice it has failed, and when more than `MOST` tests ran again the whole
run has failed.  `--one-run` is for the hunt: there the first failure counts, unless the browser
itself died.
"""

from __future__ import annotations

import pytest
from _pytest.runner import runtestprotocol

from tests.browsers import deaths

MOST = 5
_AGAIN = "ran again"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the way to see each failure."""
    parser.addoption("--one-run", action="store_true", help="let a test fail the first time")


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool:
    """Run a test again when it failed."""
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    before = deaths.ended
    reports = runtestprotocol(item, log=False, nextitem=nextitem)
    why = _why_again(reports, item, before)
    if why is not None:
        _forget_module(item)
        reports = runtestprotocol(item, log=False, nextitem=nextitem)
        if not any(report.failed for report in reports):
            reports[-1].user_properties.append((_AGAIN, why))
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def _why_again(reports: list[pytest.TestReport], item: pytest.Item, before: int) -> str | None:
    failed = [report for report in reports if report.failed]
    if not failed:
        return None
    if item.get_closest_marker("browser") is not None and deaths.since(before):
        return f"chromium died under {item.nodeid}, which ran again in a new one"
    if item.config.getoption("--one-run"):
        return None
    return f"{item.nodeid} ran again, having failed once:\n{failed[0].longreprtext}"


def _forget_module(item: pytest.Item) -> None:
    # Ends what is open of the module, so that it is made anew; the package's Lab stays.
    module = item.getparent(pytest.Module)
    above = module.parent if module is not None else None
    try:
        item.session._setupstate.teardown_exact(above)  # type: ignore[arg-type]
    except Exception:
        # Its browser is gone: what ends through a page cannot.
        return


def _ran_again(terminal: pytest.TerminalReporter | None) -> list[str]:
    again = {
        str(value)
        for reports in (terminal.stats.values() if terminal is not None else ())
        for report in reports
        for name, value in getattr(report, "user_properties", ())
        if name == _AGAIN
    }
    return sorted(again)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Fail a run in which too many tests needed a second one."""
    terminal = session.config.pluginmanager.getplugin("terminalreporter")
    if len(_ran_again(terminal)) > MOST and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the tests that ran again."""
    again = _ran_again(terminalreporter)
    for why in again:
        terminalreporter.write_line(why)
    if len(again) > MOST:
        terminalreporter.write_line(
            f"{len(again)} tests ran again; more than {MOST} are a failure of the run", red=True
        )
