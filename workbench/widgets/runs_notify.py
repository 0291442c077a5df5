"""Tells when a run ends or waits for a person: by a function, or by a command."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from workbench.errors import WorkbenchError
from workbench.plans.folder import RunFolder
from workbench.plans.info import read_info
from workbench.plans.news import News, checked_command, news_of, run_command
from workbench.widgets.runs_picture import ENDED

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
    steps = row["asks"] if status == "waiting" else row["failed"]
    return news_of(folder, plan=row["plan"], status=status, steps=steps, run_id=row["id"])


def checked(on_finish: OnFinish | None) -> OnFinish | None:
    """Return it when it can be called or run.

    Raises:
        ConfigError: When it is neither a function nor a command as a list of texts.
    """
    if on_finish is None or callable(on_finish):
        return on_finish
    return checked_command(on_finish, found=False)


async def tell(on_finish: OnFinish, news: News) -> None:
    """Call the function, or run the command, in a worker thread.

    A run with the same command tells it by its own process, unless that is lost.

    Raises:
        ConfigError: When the command cannot be run, fails, or takes over a minute.
    """
    if callable(on_finish):
        await asyncio.to_thread(on_finish, news)
    elif news.status == "lost" or not await asyncio.to_thread(_tells, on_finish, news):
        await asyncio.to_thread(run_command, on_finish, news)


def _tells(command: Sequence[str], news: News) -> bool:
    """Whether the process of a run tells this command by itself."""
    try:
        return list(read_info(RunFolder(news.folder)).on_finish) == list(command)
    except WorkbenchError:
        # What cannot be read is no reason to be silent.
        return False
