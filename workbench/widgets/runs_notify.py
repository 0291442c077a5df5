"""Tells when a run ends or waits for a person: by a function, or by a command."""

from __future__ import annotations

import asyncio
import os
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import ConfigError
from workbench.plans.folder import RunFolder
from workbench.widgets.runs_picture import ENDED

COMMAND_S = 60.0
_ERROR_CHARS = 300


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


OnFinish = Callable[[News], Any] | Sequence[str]


class Teller:
    """Finds in one look after another what is new; pure but for what it remembers."""

    def __init__(self) -> None:
        self._before: Mapping[str, Mapping[str, Any]] | None = None
        self._doubted: set[str] = set()

    def told(
        self, rows: Mapping[str, Mapping[str, Any]], folders: Mapping[str, RunFolder]
    ) -> list[News]:
        """Return what happened since the look before; what the first look finds is no news."""
        before, self._before = self._before, dict(rows)
        if before is None:
            return []
        newest = max(before, default="")
        found = []
        for run_id, row in rows.items():
            old = before.get(run_id)
            # A run that was not listed before and is older came with a longer list.
            doubted = run_id in self._doubted
            self._doubted.discard(run_id)
            if doubted and row["status"] == "lost":
                found.append(_told(row, "lost", folders[run_id]))
                continue
            if old is row or (old is None and run_id < newest):
                continue
            status = _news(old or {}, row)
            if status == "lost":
                # Between two processes, as when it goes on, it looks lost for a moment.
                self._doubted.add(run_id)
            elif status:
                found.append(_told(row, status, folders[run_id]))
        return found


def _news(old: Mapping[str, Any], new: Mapping[str, Any]) -> str:
    """Return the status to tell, or nothing."""
    if new["status"] in ENDED:
        return "" if old.get("status") == new["status"] else str(new["status"])
    asked = set(new["asks"]) - set(old.get("asks", ()))
    began_to_wait = new["status"] == "waiting" and old.get("status") != "waiting"
    if asked or (began_to_wait and not new["asks"]):
        return "waiting"
    return ""


def _told(row: Mapping[str, Any], status: str, folder: RunFolder) -> News:
    steps = tuple(row["asks"] if status == "waiting" else row["failed"])
    where = f" at {', '.join(steps)}" if steps else ""
    words = {
        "done": f"{row['plan']} is done.",
        "failed": f"{row['plan']} failed{where}.",
        "cancelled": f"{row['plan']} was cancelled.",
        "lost": f"{row['plan']} has lost its process; it can be resumed.",
        "waiting": f"{row['plan']} waits for your answer{where}.",
    }
    return News(row["id"], row["plan"], status, folder.path, steps, words[status])


def checked(on_finish: OnFinish | None) -> OnFinish | None:
    """Return it when it can be called or run.

    Raises:
        ConfigError: When it is neither a function nor a list of texts.
    """
    if on_finish is None or callable(on_finish):
        return on_finish
    listed = [] if isinstance(on_finish, str) else list(on_finish)
    if not listed or not all(isinstance(part, str) for part in listed):
        raise ConfigError(
            "on_finish is neither a function nor a command as a list of texts.",
            key="on_finish",
            hint='For example on_finish=["notify-send", "{text}"]; no shell reads it.',
        )
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
    made = []
    for part in parts:
        for name, value in values.items():
            part = part.replace(f"{{{name}}}", value)
        made.append(part)
    return made


async def tell(on_finish: OnFinish, news: News) -> None:
    """Call the function, or run the command, in a worker thread.

    Raises:
        ConfigError: When the command cannot be run, fails, or takes over a minute.
    """
    if callable(on_finish):
        await asyncio.to_thread(on_finish, news)
    else:
        await asyncio.to_thread(_run, command_of(on_finish, news), news)


def _run(command: list[str], news: News) -> None:
    told = {
        "WORKBENCH_RUN_ID": news.run_id,
        "WORKBENCH_RUN_PLAN": news.plan,
        "WORKBENCH_RUN_STATUS": news.status,
        "WORKBENCH_RUN_FOLDER": str(news.folder),
    }
    try:
        done = subprocess.run(
            command,
            env={**os.environ, **told},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=COMMAND_S,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        raise ConfigError(f"on_finish could not be run: {exc}.", key="on_finish") from exc
    if done.returncode != 0:
        error = done.stderr.decode("utf-8", "replace").strip()[-_ERROR_CHARS:]
        reason = f"on_finish ended with code {done.returncode}"
        raise ConfigError(f"{reason}: {error}" if error else f"{reason}.", key="on_finish")
