"""A reader in a thread of its own with a deadline: a driver that hangs holds up nobody."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable

from workbench.server.gpu.base import GpuReader, GpuReport

log = logging.getLogger("workbench")


class GuardedReader:
    """Calls one reader from a loop.

    Threads are daemons and not the loop's own workers: one that never returns must not keep the
    server from ending.  While one hangs no other call is made.

    Args:
        timeout_s: Seconds after which an answer is given without the reader's.
    """

    def __init__(self, reader: GpuReader, *, timeout_s: float) -> None:
        self._reader = reader
        self._timeout_s = timeout_s
        self._running: asyncio.Future[GpuReport] | None = None
        self._started = 0.0

    async def read(self) -> GpuReport:
        """Return the reader's report, or one that says for how long it has not answered."""
        if self._running is None:
            self._started = time.monotonic()
            self._running = _in_thread(self._safe_read)
        asked = self._running
        await asyncio.wait({asked}, timeout=self._timeout_s)
        if not asked.done():
            seconds = time.monotonic() - self._started
            reason = f"the driver has not answered for {seconds:.0f} s"
            return GpuReport(reason=reason, failed=True)
        if self._running is asked:
            self._running = None
        return asked.result()

    def _safe_read(self) -> GpuReport:
        try:
            return self._reader.read()
        except Exception as exc:
            log.exception("a GPU reader failed")
            return GpuReport(reason=f"reading failed: {type(exc).__name__}", failed=True)

    async def close(self) -> None:
        """Close the reader, unless it hangs."""
        if self._running is not None and not self._running.done():
            await asyncio.wait({self._running}, timeout=self._timeout_s)
            if not self._running.done():
                return
        await asyncio.wait({_in_thread(self._safe_close)}, timeout=self._timeout_s)

    def _safe_close(self) -> GpuReport:
        try:
            self._reader.close()
        except Exception:
            log.exception("a GPU reader could not be closed")
        return GpuReport()


def _in_thread(call: Callable[[], GpuReport]) -> asyncio.Future[GpuReport]:
    loop = asyncio.get_running_loop()
    future: asyncio.Future[GpuReport] = loop.create_future()

    def finish(report: GpuReport) -> None:
        if not future.done():
            future.set_result(report)

    def run() -> None:
        report = call()
        # The loop may have ended while the driver hung.
        with contextlib.suppress(RuntimeError):
            loop.call_soon_threadsafe(finish, report)

    threading.Thread(target=run, name="workbench-gpu", daemon=True).start()
    return future
