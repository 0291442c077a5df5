"""What is told when a run ends or waits for a person, and the command that it is told to.

The process of a run tells the command of its own `on_finish`; a panel tells of all runs it follows.
"""

from __future__ import annotations

import logging
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from workbench.errors import ConfigError, StoreError
from workbench.plans.folder import RunFolder
from workbench.plans.info import RunInfo
from workbench.plans.journal import RunJournal
from workbench.plans.state import RunState

COMMAND_S = 60.0
"""How long a command may take, in seconds."""
_ERROR_CHARS = 300
_ERROR_BYTES = 4 * _ERROR_CHARS

log = logging.getLogger("workbench")


@dataclass(frozen=True, slots=True)
class News:
    """What `on_finish` is told.

    Attributes:
        status: `done`, `failed`, `cancelled`, `lost`, or `waiting` for an answer.
        steps: The steps that wait, or failed.
        text: One line for people.
    """

    run_id: str
    plan: str
    status: str
    folder: Path
    steps: tuple[str, ...] = ()
    text: str = ""


def news_of(
    folder: RunFolder, *, plan: str, status: str, steps: Iterable[str], run_id: str | None = None
) -> News:
    """Return what is told of a run: its status, and the steps that wait or failed."""
    named = tuple(steps)
    where = f" at {', '.join(named)}" if named else ""
    words = {
        "done": f"{plan} is done.",
        "failed": f"{plan} failed{where}.",
        "cancelled": f"{plan} was cancelled.",
        "lost": f"{plan} has lost its process; it can be resumed.",
        "waiting": f"{plan} waits for your answer{where}.",
    }
    return News(run_id or folder.run_id, plan, status, folder.path, named, words[status])


def checked_command(parts: Sequence[str], *, found: bool = True) -> list[str]:
    """Return a command as a list; the path of its program starts from the current folder.

    Args:
        found: Whether the program has to be there already.

    Raises:
        ConfigError: When it is no list of texts, or there is no such program.
    """
    listed = [] if isinstance(parts, str) else list(parts)
    if not listed or not all(isinstance(part, str) for part in listed):
        raise ConfigError(
            "on_finish is neither a function nor a command as a list of texts.",
            key="on_finish",
            hint='For example on_finish=["notify-send", "{text}"]; no shell reads it.',
        )
    program = shutil.which(listed[0])
    if program is None and found:
        raise ConfigError(
            f"on_finish cannot be run: there is no program {listed[0]!r}.",
            key="on_finish",
            hint="Give its whole path; no shell reads the command.",
        )
    # The process of a run works in the folder of the run.
    if program is not None and os.path.dirname(listed[0]):
        listed[0] = str(Path(program).absolute())
    return listed


def command_of(parts: Sequence[str], news: News) -> list[str]:
    """Return a command with what happened filled in: `{plan}`, `{status}`, `{run_id}`, ..."""
    values = {
        "plan": news.plan,
        "status": news.status,
        "run_id": news.run_id,
        "folder": str(news.folder),
        "text": news.text,
    }
    # In one go: what is filled in is not looked at again.
    names = re.compile(rf"\{{({'|'.join(values)})\}}")
    return [names.sub(lambda found: values[found[1]], part) for part in parts]


def run_command(parts: Sequence[str], news: News) -> None:
    """Run a command without a shell and wait for it; what happened is in its environment too.

    Raises:
        ConfigError: When it cannot be run, fails, or takes over a minute.
    """
    told = {
        "WORKBENCH_RUN_ID": news.run_id,
        "WORKBENCH_RUN_PLAN": news.plan,
        "WORKBENCH_RUN_STATUS": news.status,
        "WORKBENCH_RUN_FOLDER": str(news.folder),
    }
    try:
        # A file and no pipe: what the command leaves in the background may keep it open.
        with tempfile.TemporaryFile() as said:
            code = _wait_for(command_of(parts, news), {**os.environ, **told}, said)
            said.seek(max(0, said.seek(0, os.SEEK_END) - _ERROR_BYTES))
            error = said.read().decode("utf-8", "replace").strip()[-_ERROR_CHARS:]
    except (OSError, ValueError) as exc:
        raise ConfigError(f"on_finish could not be run: {exc}.", key="on_finish") from exc
    if code is None:
        reason = f"on_finish was ended, because it took over {COMMAND_S:g} s"
    else:
        reason = f"on_finish ended with code {code}"
    if code != 0:
        raise ConfigError(f"{reason}: {error}" if error else f"{reason}.", key="on_finish")


def _wait_for(command: list[str], env: Mapping[str, str], said: IO[bytes]) -> int | None:
    """Return the exit code of a command; `None` for one that was ended, with all it started."""
    process = subprocess.Popen(
        command,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=said,
        start_new_session=True,
    )
    try:
        return process.wait(COMMAND_S)
    except subprocess.TimeoutExpired:
        if hasattr(os, "killpg"):
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
        process.wait()
        return None


class Herald:
    """Tells the command of a run, on a thread of its own, one news after the other.

    How it went is a line of the journal; a command that fails changes nothing else.
    """

    def __init__(self, folder: RunFolder, info: RunInfo) -> None:
        self._folder, self._info = folder, info
        self._asked: set[tuple[str, str]] = set()
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="workbench-on-finish")

    def look(self, state: RunState) -> None:
        """Tell of the questions that were not asked before."""
        asked = {
            (step.id, str((step.question or {}).get("sha256")))
            for step in state.steps.values()
            if step.status == "waiting"
        }
        new, self._asked = asked - self._asked, asked
        if new:
            self._tell("waiting", sorted(step for step, _ in asked))

    def end(self, status: str, state: RunState) -> None:
        """Tell how the run ended; questions that were told of are no news."""
        if status == "waiting":
            self.look(state)
        else:
            failed = [step.id for step in state.steps.values() if step.status == "failed"]
            self._tell(status, failed if status == "failed" else ())

    def close(self) -> None:
        """Wait until everything is told."""
        self._worker.shutdown(wait=True)

    def _tell(self, status: str, steps: Iterable[str]) -> None:
        info = self._info
        if info.on_finish:
            news = news_of(
                self._folder, plan=info.plan, status=status, steps=steps, run_id=info.run_id
            )
            self._worker.submit(self._run, news)

    def _run(self, news: News) -> None:
        began, error = time.monotonic(), None
        try:
            run_command(self._info.on_finish, news)
        except ConfigError as exc:
            log.warning("%s", exc)
            error = {"type": type(exc).__name__, "message": exc.message, "hint": exc.hint}
        if not self._folder.journal.is_file():
            # The command took the folder away.
            return
        try:
            journal = RunJournal(self._folder.journal)
            seconds = round(time.monotonic() - began, 3)
            journal.write("on_finish", status=news.status, seconds=seconds, error=error)
            journal.close()
        except (StoreError, OSError) as exc:
            log.warning("that on_finish was told is not in the journal: %s", exc)
