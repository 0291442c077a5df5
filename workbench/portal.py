"""One daemon thread with one event loop per process: all waiting for a server happens there.

The main thread of a kernel may be busy for minutes, and its own event loop with it, so answers are
read on a loop of their own.  Synchronous functions are a facade over the same coroutines.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextlib
import os
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, TypeVar

from workbench.errors import WorkbenchError

T = TypeVar("T")

# Python cannot interrupt a lock on every system: the wait is cut into slices of this length.
_SLICE_S = 0.1
_CLOSE_S = 2.0


class PortalFuture(concurrent.futures.Future[T]):
    """The result of a coroutine on the portal.

    `cancel` asks the task to end; the future is done only when the task has cleaned up.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._loop = loop
        self._coro: Coroutine[Any, Any, T] | None = None
        self._task: asyncio.Task[T] | None = None

    def cancel(self) -> bool:
        """Ask the coroutine to end, and return whether it was still running."""
        if self.done() or self._coro is None:
            return False
        with contextlib.suppress(RuntimeError):  # the loop is closed: nothing runs any more
            self._loop.call_soon_threadsafe(self._cancel_task)
        return True

    def _cancel_task(self) -> None:
        if self._task is not None:
            self._task.cancel()
        elif self._coro is not None and not self.done():
            # An interrupt kept it from being handed over.
            self._coro.close()
            super().cancel()
            self.set_running_or_notify_cancel()

    def begin(self, coro: Coroutine[Any, Any, T]) -> None:
        """Run a coroutine; once."""
        self._coro = coro
        self._loop.call_soon_threadsafe(self._begin, coro)

    def _begin(self, coro: Coroutine[Any, Any, T]) -> None:
        self._task = self._loop.create_task(coro)
        self._task.add_done_callback(self._finish)

    def _finish(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            super().cancel()
            self.set_running_or_notify_cancel()
        elif (error := task.exception()) is not None:
            self.set_exception(error)
        else:
            self.set_result(task.result())


class Portal:
    """An event loop in a daemon thread, started by its first use.

    Coroutines must not call user code: user callables belong into `asyncio.to_thread`.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._starting = threading.Lock()
        self._pid = os.getpid()
        self._closed = False
        self._closers: dict[int, Callable[[], Awaitable[None]]] = {}

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop, running.

        Raises:
            WorkbenchError: When the portal is closed, or its thread is in the parent process.
        """
        if not self.usable:
            raise WorkbenchError("This portal has ended.", hint="Use get_portal() each time.")
        with self._starting:
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name="workbench-io", daemon=True
                )
                self._thread.start()
            return self._loop

    @property
    def usable(self) -> bool:
        """Whether it belongs to this process and is not closed."""
        return not self._closed and self._pid == os.getpid()

    @property
    def here(self) -> bool:
        """Whether the calling thread is the portal's own."""
        return self._thread is threading.current_thread()

    def start(self, coro: Coroutine[Any, Any, T]) -> PortalFuture[T]:
        """Run a coroutine on the portal and return its future at once.

        A KeyboardInterrupt may fall before the caller has it; where that matters, take `future`.
        """
        future = self.future()
        future.begin(coro)
        return future

    def future(self) -> PortalFuture[Any]:
        """Return a future for `begin`: whoever holds it before can cancel what runs."""
        return PortalFuture(self.loop)

    def run(self, coro: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the portal, wait for it, and return its result.

        A KeyboardInterrupt cancels the coroutine, waits for its cleanup and is raised again.

        Raises:
            WorkbenchError: When called on the portal's own thread, which would wait for itself.
        """
        if self.here:
            coro.close()
            self.refuse_here()
        future: PortalFuture[T] = self.future()
        try:
            future.begin(coro)
            return self.wait(future)
        except KeyboardInterrupt:
            # It may have fallen just before the wait, which would have cancelled.
            if future.cancel():
                _until_done(future)
            coro.close()
            raise

    def wait(self, future: PortalFuture[T], *, on_interrupt: Callable[[], None] | None = None) -> T:
        """Wait for what `start` returned.

        Args:
            on_interrupt: Called at the first KeyboardInterrupt in place of a cancellation; it must
                lead the coroutine to its end, whose result is then returned.  A second
                KeyboardInterrupt cancels the coroutine and is raised.

        Raises:
            WorkbenchError: When called on the portal's own thread.
        """
        self.refuse_here()
        try:
            return _result(future)
        except KeyboardInterrupt:
            if on_interrupt is None:
                future.cancel()
                _until_done(future)
                raise
        on_interrupt()
        try:
            return _result(future)
        except KeyboardInterrupt:
            future.cancel()
            raise

    async def arun(self, coro: Coroutine[Any, Any, T]) -> T:
        """Await a coroutine of the portal from any running loop.

        A cancellation is passed on, and the coroutine's cleanup is awaited.
        """
        if self.here:
            return await coro
        return await self.await_(self.start(coro))

    async def await_(
        self, future: PortalFuture[T], *, on_cancel: Callable[[], None] | None = None
    ) -> T:
        """Await what `start` returned from any running loop.

        Args:
            on_cancel: Called in place of cancelling the coroutine, as `on_interrupt` of `wait`;
                the cancellation is raised when the coroutine has ended.
        """
        waiter = asyncio.wrap_future(future)
        try:
            await _awaken(waiter)
            return waiter.result()
        except asyncio.CancelledError:
            if not waiter.done():
                (on_cancel or future.cancel)()
                await asyncio.wait([waiter])
            if not waiter.cancelled():
                waiter.exception()  # seen: the cancellation is what the caller learns
            raise
        finally:
            waiter.cancel()

    def refuse_here(self) -> None:
        """Raise when the calling thread is the portal's own."""
        if self.here:
            raise WorkbenchError(
                "A blocking call on the workbench's own thread would wait for itself.",
                hint="Await the form of the same name that begins with 'a'.",
            )

    def at_close(self, key: object, closer: Callable[[], Awaitable[None]] | None) -> None:
        """Await `closer()` on the loop when the portal closes; `None` takes it back."""
        if closer is None:
            self._closers.pop(id(key), None)
        else:
            self._closers[id(key)] = closer

    def close(self) -> None:
        """Cancel what runs, await the closers, and end the thread."""
        thread, loop = self._thread, self._loop
        if self._closed or thread is None or loop is None or not self.usable:
            self._closed = True
            return
        self.refuse_here()
        self._closed = True
        with contextlib.suppress(
            concurrent.futures.TimeoutError, concurrent.futures.CancelledError
        ):
            asyncio.run_coroutine_threadsafe(self._shutdown(), loop).result(_CLOSE_S)
        loop.call_soon_threadsafe(loop.stop)
        thread.join(_CLOSE_S)
        if not thread.is_alive():
            loop.close()

    async def _shutdown(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        closing = [closer() for closer in self._closers.values()]
        await asyncio.gather(*closing, return_exceptions=True)
        await asyncio.get_running_loop().shutdown_asyncgens()


def _result(future: concurrent.futures.Future[T]) -> T:
    while True:
        try:
            return future.result(timeout=_SLICE_S)
        except TimeoutError:
            if future.done():  # else it was the slice that ended
                return future.result()


def _until_done(future: concurrent.futures.Future[Any]) -> None:
    while not future.done():
        concurrent.futures.wait([future], timeout=_SLICE_S)


async def _awaken(waiter: asyncio.Future[Any]) -> None:
    """Wait for a future, waking the loop now and then.

    ipykernel 7.4 answers an interrupt of an awaiting cell with a callback that does not wake its
    loop: without a timer the cell would be cancelled at its next event, which may never come.
    """
    while not waiter.done():
        await asyncio.wait([waiter], timeout=_SLICE_S)


def _announce(news: concurrent.futures.Future[None] | None) -> None:
    """Wake the consumer, unless it has gone."""
    if news is not None and news.set_running_or_notify_cancel():
        news.set_result(None)


class Relay(Generic[T]):
    """Carries items from the portal's loop to one consumer: a thread, or another loop.

    The consumer takes everything that has arrived at once, so a fast stream costs few switches of
    thread; `put` waits while more than `high` items are held.
    """

    def __init__(self, *, high: int = 4096) -> None:
        self._items: list[T] = []
        self._high = high
        self._lock = threading.Lock()
        self._news: concurrent.futures.Future[None] | None = None
        self._room: asyncio.Event | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    async def put(self, items: list[T]) -> None:
        """Hand over items, and wait while the consumer is far behind; on the portal's loop."""
        if self.push(items) > self._high:
            with self._lock:
                if len(self._items) <= self._high:
                    return
                self._loop = asyncio.get_running_loop()
                room = self._room = asyncio.Event()
            await room.wait()

    def push(self, items: list[T]) -> int:
        """Hand over items without waiting, and return how many the consumer has before it."""
        with self._lock:
            self._items += items
            count = len(self._items)
            news, self._news = self._news, None
        _announce(news)
        return count

    def close(self) -> None:
        """Say that nothing more comes; from any thread."""
        with self._lock:
            self._closed = True
            news, self._news = self._news, None
        _announce(news)

    def take(self) -> list[T]:
        """Wait for items and return all of them; an empty list is the end."""
        while (found := self._grab()) is not None:
            if isinstance(found, list):
                return found
            _result(found)
        return []

    async def atake(self) -> list[T]:
        """Await items from any loop and return all of them; an empty list is the end."""
        while (found := self._grab()) is not None:
            if isinstance(found, list):
                return found
            waiter = asyncio.wrap_future(found)
            try:
                await _awaken(waiter)
            finally:
                waiter.cancel()
        return []

    def _grab(self) -> list[T] | concurrent.futures.Future[None] | None:
        """Return items, or what to wait for, or `None` at the end."""
        with self._lock:
            if self._items:
                items, self._items = self._items, []
                room, loop, self._room = self._room, self._loop, None
            elif self._closed:
                return None
            else:
                self._news = concurrent.futures.Future()
                return self._news
        if room is not None and loop is not None:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(room.set)
        return items


_portal: Portal | None = None
_former: list[Portal | None] = []
_guard = threading.Lock()


def get_portal() -> Portal:
    """Return the portal of this process; a forked child gets one of its own."""
    global _portal
    with _guard:
        if _portal is None:
            os.register_at_fork(after_in_child=_forget)
            atexit.register(_close_at_exit)
        if _portal is None or not _portal.usable:
            # Kept: collecting a parent's loop would disturb the parent's sockets.
            _former.append(_portal)
            _portal = Portal()
        return _portal


def _forget() -> None:
    # The parent's thread does not exist in the child, and its lock may be held for ever.
    global _guard
    _guard = threading.Lock()


def _close_at_exit() -> None:
    if _portal is not None:
        _portal.close()
