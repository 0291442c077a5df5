"""Fetches a model on a host, with speed, time left, and a look at the disk.

Leaving the generator cancels the download; what has arrived is kept by the host, and the next pull
goes on from there.
"""

from __future__ import annotations

import os
import shutil
import time
from collections import deque
from collections.abc import AsyncGenerator
from contextlib import aclosing
from pathlib import Path
from typing import Any, cast

import msgspec

from workbench.config import is_this_machine
from workbench.errors import ProtocolError, ResponseError, WorkbenchError
from workbench.server.backends.base import Backend, ModelStore
from workbench.server.core import Core
from workbench.units import format_bytes
from workbench.wire.ollama import encode_line, error_body, error_text

# The speed is that of the last so many seconds.
WINDOW_S = 5.0
# A host sends progress every 60 ms; nobody reads that fast.
EVERY_S = 0.25


class _Line(msgspec.Struct):
    """A line of Ollama's progress."""

    status: str = ""
    digest: str | None = None
    total: int | None = None
    completed: int | None = None
    error: Any = None


class Progress:
    """What has arrived of all layers, and how fast."""

    def __init__(self) -> None:
        self._layers: dict[str, tuple[int, int]] = {}
        self._samples: deque[tuple[float, int]] = deque()
        self._told_at = float("-inf")
        self._told = ""

    def read(self, line: _Line, now: float) -> dict[str, Any] | None:
        """Take a line and return what to tell, or `None` when it is too soon to tell anything."""
        if line.digest and line.total is not None:
            self._layers[line.digest] = (line.total, line.completed or 0)
        row: dict[str, Any] = {"status": line.status}
        if line.digest:
            total, completed = self.total_bytes, self.completed_bytes
            speed = self._speed(now, completed)
            row |= {
                "digest": line.digest,
                "total_bytes": total,
                "completed_bytes": completed,
                "speed_bytes_per_s": speed,
                "eta_s": (total - completed) / speed if speed and completed < total else None,
            }
            whole = line.completed is not None and line.completed == line.total
            if line.status == self._told and now - self._told_at < EVERY_S and not whole:
                return None
        self._told, self._told_at = line.status, now
        return row

    @property
    def total_bytes(self) -> int:
        """Size of the layers that are known so far."""
        return sum(total for total, _ in self._layers.values())

    @property
    def completed_bytes(self) -> int:
        """What has arrived of them."""
        return sum(completed for _, completed in self._layers.values())

    def _speed(self, now: float, completed: int) -> float | None:
        self._samples.append((now, completed))
        while now - self._samples[0][0] > WINDOW_S and len(self._samples) > 2:
            self._samples.popleft()
        began, first = self._samples[0]
        # What was there before is no speed: a resumed layer begins with what it has.
        return (completed - first) / (now - began) if now > began else None


async def pull_lines(
    core: Core, backend: Backend, name: str, *, actor: str
) -> AsyncGenerator[bytes, None]:
    """Yield the lines of progress; the last is `success` or the error.

    Raises:
        WorkbenchError: Before the first line, when the backend cannot pull.
    """
    lines = cast(ModelStore, backend).pull({"model": name})
    facts: dict[str, Any] = {"model": name, "backend": backend.name, "actor": actor}
    core.events.emit("pull", **facts)
    progress, started, sent = Progress(), time.monotonic(), False
    try:
        async with aclosing(cast(AsyncGenerator[bytes, None], lines)):
            async for raw in lines:
                line = _read(raw)
                if line.error is not None:
                    raise ResponseError(error_text(line.error), status=500)
                row = progress.read(line, time.monotonic())
                _check_disk(backend, progress)
                if row is not None:
                    yield encode_line(row)
                    sent = True
    except WorkbenchError as exc:
        core.events.emit("pull_failed", **facts, error=exc.message)
        if not sent:
            raise
        yield encode_line(error_body(exc))
    else:
        seconds = round(time.monotonic() - started, 3)
        core.events.emit("pulled", **facts, seconds=seconds, bytes=progress.total_bytes or None)
    finally:
        core.catalog.forget(backend.name)


def _read(raw: bytes) -> _Line:
    try:
        return msgspec.json.decode(raw, type=_Line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as exc:
        raise ProtocolError("The host sent a line of progress that is none.") from exc


def _check_disk(backend: Backend, progress: Progress) -> None:
    """Refuse what the disk has no room for, as soon as the size is known.

    Raises:
        ResponseError: With status 507 and the numbers.
    """
    folder = _models_folder(backend)
    missing = progress.total_bytes - progress.completed_bytes
    if folder is None or missing <= 0:
        return
    free = shutil.disk_usage(folder).free
    if missing > free:
        raise ResponseError(
            f"the model needs {format_bytes(missing)} more and {folder} has {format_bytes(free)}",
            status=507,
            hint="Free some space, or remove a model: `workbench rm`.",
        )


def _models_folder(backend: Backend) -> Path | None:
    """Return where a host on this machine keeps its models, as far as that can be known."""
    if not is_this_machine(backend.url):
        return None
    named = os.environ.get("OLLAMA_MODELS")
    for folder in (Path(named) if named else None, Path.home() / ".ollama", Path.home()):
        if folder is not None and folder.is_dir():
            return folder
    return None
