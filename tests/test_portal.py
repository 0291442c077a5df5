from __future__ import annotations

import asyncio
import concurrent.futures
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from workbench.errors import WorkbenchError
from workbench.portal import Relay, get_portal


async def double(number: int) -> int:
    await asyncio.sleep(0)
    return 2 * number


async def fail() -> None:
    raise LookupError("nothing there")


def test_run_returns_the_result() -> None:
    """A coroutine runs on the portal and its result comes back."""
    assert 42 == get_portal().run(double(21))


def test_run_raises_what_the_coroutine_raised() -> None:
    """The error of a coroutine reaches the thread that waits."""
    with pytest.raises(LookupError, match="nothing there"):
        get_portal().run(fail())


def test_a_timeout_error_of_the_coroutine_is_not_taken_for_a_slice() -> None:
    """A TimeoutError the coroutine raises is raised, not waited over."""

    async def give_up() -> None:
        raise TimeoutError("mine")

    with pytest.raises(TimeoutError, match="mine"):
        get_portal().run(give_up())


def test_all_coroutines_run_on_one_thread() -> None:
    """Two calls from two threads run on the same thread, which is neither of them."""

    async def where() -> int:
        return threading.get_ident()

    found = [get_portal().run(where())]
    other = threading.Thread(target=lambda: found.append(get_portal().run(where())))
    other.start()
    other.join()
    assert found[0] == found[1] != threading.get_ident()


def test_run_works_while_a_loop_runs_in_the_thread() -> None:
    """A blocking call works where a notebook makes it: in a thread whose loop is running."""

    async def cell() -> int:
        return get_portal().run(double(2))

    assert 4 == asyncio.run(cell())


def test_a_blocking_call_on_the_portal_raises() -> None:
    """A call that would wait for its own thread fails at once and says what to do."""

    async def blocks() -> None:
        get_portal().run(double(1))

    with pytest.raises(WorkbenchError, match="begins with 'a'"):
        get_portal().run(blocks())


def test_arun_works_from_another_loop() -> None:
    """A coroutine of the portal can be awaited on any loop."""
    assert 6 == asyncio.run(get_portal().arun(double(3)))


def test_cancelling_arun_awaits_the_cleanup() -> None:
    """A cancellation reaches the coroutine, and its cleanup is over when it comes back."""
    steps: list[str] = []
    began = threading.Event()

    async def work() -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            steps.append("cleaned")

    async def caller() -> None:
        task = asyncio.create_task(get_portal().arun(work()))
        await asyncio.to_thread(began.wait)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        steps.append("cancelled")

    asyncio.run(caller())
    assert ["cleaned", "cancelled"] == steps


def test_a_future_is_done_only_after_the_cleanup() -> None:
    """`cancel` of a started coroutine lets it clean up before the future is done."""
    cleaned, began = threading.Event(), threading.Event()

    async def work() -> None:
        try:
            began.set()
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0)
            cleaned.set()

    future = get_portal().start(work())
    began.wait()
    assert future.cancel()
    with pytest.raises(concurrent.futures.CancelledError):
        get_portal().wait(future)
    assert cleaned.is_set()


_FORKS = """
import os
from workbench.portal import get_portal

async def work(number):
    return number

assert get_portal().run(work(1)) == 1
parent = get_portal()
child = os.fork()
if child == 0:
    assert get_portal() is not parent
    os._exit(get_portal().run(work(7)))
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
assert get_portal() is parent and parent.run(work(2)) == 2
"""


def run_python(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", code]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_a_forked_process_gets_its_own_portal() -> None:
    """After a fork the child's calls work on a portal of its own, and the parent's on the old."""
    done = run_python(_FORKS)
    assert (0, "") == (done.returncode, done.stderr)


_INTERRUPTED = """
import asyncio
from workbench.portal import get_portal

async def work():
    try:
        print("ready", flush=True)
        await asyncio.Event().wait()
    finally:
        await asyncio.sleep(0)
        print("cleaned", flush=True)

try:
    get_portal().run(work())
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_an_interrupt_cancels_and_is_raised_after_the_cleanup() -> None:
    """SIGINT while waiting cancels the coroutine, awaits its cleanup and raises."""
    command = [sys.executable, "-c", _INTERRUPTED]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert "ready\n" == process.stdout.readline()
        process.send_signal(signal.SIGINT)
        assert "cleaned\ninterrupted\n" == process.stdout.read()
    assert 0 == process.returncode


_INTERRUPTED_AT_ONCE = """
import _thread, asyncio
from workbench.portal import get_portal

cleaned = 0
async def work():
    global cleaned
    try:
        _thread.interrupt_main()
        await asyncio.Event().wait()
    finally:
        cleaned += 1

for number in range(1, 201):
    try:
        get_portal().run(work())
    except KeyboardInterrupt:
        assert cleaned == number, (cleaned, number)
print(cleaned)
"""


def test_an_interrupt_before_the_wait_cancels_too() -> None:
    """However early it falls, the coroutine has been cleaned up when it is raised."""
    done = run_python(_INTERRUPTED_AT_ONCE)
    assert ("200\n", "") == (done.stdout, done.stderr)


_ANSWERS_INTERRUPTED_AT_ONCE = """
import _thread, asyncio, contextlib, time
from workbench.client.answers import Answering
from workbench.portal import get_portal

begun = ended = 0
async def batches():
    global begun, ended
    begun += 1
    try:
        _thread.interrupt_main()
        yield [1]
        await asyncio.Event().wait()
    finally:
        ended += 1

for number in range(200):
    answering = Answering(get_portal(), batches())
    try:
        with contextlib.closing(answering.events()) as events:
            for event in events:
                pass
    except KeyboardInterrupt:
        pass
    due = time.monotonic() + 10
    while ended < begun:
        assert time.monotonic() < due, (ended, begun, number)
        time.sleep(0)
print(begun == ended)
"""


def test_an_interrupt_before_the_first_event_ends_the_answer() -> None:
    """However early it falls, what reads the stream ends, and the connection with it."""
    done = run_python(_ANSWERS_INTERRUPTED_AT_ONCE)
    assert ("True\n", "") == (done.stdout, done.stderr)


def test_a_pending_coroutine_does_not_hold_the_process() -> None:
    """A process ends quietly while something still runs on the portal."""
    done = run_python(
        "import asyncio\nfrom workbench.portal import get_portal\n"
        "async def work():\n    await asyncio.Event().wait()\n"
        "get_portal().start(work())"
    )
    assert (0, "") == (done.returncode, done.stderr)


def test_relay_keeps_the_order_and_holds_a_fast_producer_back() -> None:
    """All items arrive in order, and a producer waits while the consumer is far behind."""
    relay: Relay[int] = Relay(high=10)
    held: list[int] = []

    async def produce() -> None:
        for number in range(1000):
            await relay.put([number])
            held.append(len(relay._items))
        relay.close()

    future = get_portal().start(produce())
    received: list[int] = []
    while items := relay.take():
        received += items
    get_portal().wait(future)
    assert list(range(1000)) == received
    assert max(held) <= 11


def test_relay_can_be_read_from_another_loop() -> None:
    """A consumer on another loop gets every item and the end."""
    relay: Relay[int] = Relay(high=10)

    async def produce() -> None:
        for number in range(500):
            await relay.put([number])
        relay.close()

    async def consume() -> list[int]:
        future = get_portal().start(produce())
        received: list[int] = []
        while items := await relay.atake():
            received += items
        await get_portal().await_(future)
        return received

    assert list(range(500)) == asyncio.run(consume())


def test_no_other_module_makes_an_event_loop() -> None:
    """Only the portal and the server's processes make loops: clients share the portal's."""
    package = Path(__file__).parents[1] / "workbench"
    clients = [*(package / "client").rglob("*.py"), *(package / "chat").rglob("*.py")]
    found = [path.name for path in clients if "new_event_loop" in path.read_text()]
    assert [] == found
