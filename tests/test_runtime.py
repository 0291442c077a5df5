"""Finding and starting the server: real processes, real locks, real signals."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from tests.server.harness import ServerProcess
from workbench.errors import ServerNotRunning
from workbench.locks import FileLock, is_locked
from workbench.runtime import (
    ServerRecord,
    ServerSeat,
    ensure_server,
    find_server,
    log_path,
    log_tail,
    record_path,
    rotate,
    runtime_dir,
)

ARGUMENTS = ("--port", "0")
_SPAWN = """
import json, sys
from dataclasses import asdict
from pathlib import Path
from workbench.runtime import ensure_server
print(json.dumps(asdict(ensure_server(Path(sys.argv[1]), arguments=("--port", "0")))), flush=True)
if "stay" in sys.argv:
    sys.stdin.read()
"""

posix = pytest.mark.skipif(os.name != "posix", reason="signals and owners of POSIX")


def until(condition: Callable[[], Any], *, timeout_s: float = 30.0) -> Any:
    """Wait until something is so and return it."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = condition()
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen in time")


def end(record: ServerRecord) -> None:
    """End a server by its own door and see it gone."""
    headers = {"Authorization": f"Bearer {record.token}"}
    httpx.post(f"{record.url}/workbench/v1/shutdown", headers=headers, trust_env=False)
    until(lambda: not psutil.pid_exists(record.pid) or _zombie(record.pid))


def _zombie(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def spawner(data_dir: Path, *, stay: bool = False, group: bool = False) -> subprocess.Popen[str]:
    """Start a process that asks for the server, as a kernel does."""
    return subprocess.Popen(
        [sys.executable, "-c", _SPAWN, str(data_dir), *(["stay"] if stay else [])],
        stdin=subprocess.PIPE if stay else subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=group,
    )


def told(process: subprocess.Popen[str]) -> ServerRecord:
    """Return the record a spawner printed."""
    assert process.stdout is not None
    return ServerRecord(**json.loads(process.stdout.readline()))


def alive(record: ServerRecord) -> bool:
    """Whether a server answers."""
    headers = {"Authorization": f"Bearer {record.token}"}
    url = f"{record.url}/workbench/v1/info"
    answer = httpx.get(url, headers=headers, trust_env=False, timeout=20)
    return bool(answer.json()["boot_id"] == record.boot_id)


@pytest.fixture
def data_dir(tmp_path: Path) -> Iterator[Path]:
    """Yield a data folder, and end the server that a test left there."""
    folder = tmp_path / "data"
    yield folder
    left = find_server(folder)
    if left is not None:
        end(left)


def test_two_processes_that_ask_at_once_get_one_server(data_dir: Path) -> None:
    """Both get the same boot id, and the spawners' pipes close although the server lives on."""
    processes = [spawner(data_dir) for _ in range(2)]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    records = [ServerRecord(**json.loads(output)) for output in outputs]
    assert 1 == len({record.boot_id for record in records})
    assert alive(records[0])
    assert records[0] == ensure_server(data_dir)


@posix
def test_server_outlives_signals_to_its_starter(data_dir: Path) -> None:
    """Interrupting the group of the process that started it, and killing it, leave it alive."""
    process = spawner(data_dir, stay=True, group=True)
    record = told(process)
    os.killpg(process.pid, signal.SIGINT)
    process.wait(timeout=30)
    process.communicate()
    assert alive(record)
    second = spawner(data_dir, stay=True, group=True)
    assert record == told(second)
    os.killpg(second.pid, signal.SIGKILL)
    second.wait(timeout=30)
    second.communicate()
    assert alive(record)


def test_stale_record_gets_no_connection(data_dir: Path) -> None:
    """With a free lock the record counts for nothing: a listener on its address sees nobody."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        port = listener.getsockname()[1]
        stale = ServerRecord(f"http://127.0.0.1:{port}", "old", "0", str(data_dir), "old", 1)
        seat = ServerSeat(data_dir)
        seat.publish(stale)
        assert find_server(data_dir) is None
        record = ensure_server(data_dir, arguments=ARGUMENTS)
        assert alive(record)
        with pytest.raises(BlockingIOError):
            listener.accept()


def test_record_of_a_killed_server_goes_with_the_next_seat(data_dir: Path) -> None:
    """Who takes the seat of a killed server removes its record before anybody believes it."""
    stale = ServerRecord("http://127.0.0.1:9", "old", "0", str(data_dir), "old", 1)
    ServerSeat(data_dir).publish(stale)
    seat = ServerSeat(data_dir)
    assert seat.take()
    assert find_server(data_dir) is None
    seat.leave()


def test_those_who_look_never_take_each_other_for_the_holder(tmp_path: Path) -> None:
    """A lock that many processes look at is free, and can be taken meanwhile."""
    path = tmp_path / "a.lock"
    lock = FileLock(path)
    with lock:
        assert is_locked(path)
    program = (
        "import sys; from pathlib import Path; from workbench.locks import is_locked\n"
        "print(sum(is_locked(Path(sys.argv[1])) for _ in range(20000)))"
    )
    lookers = [
        subprocess.Popen([sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE)
        for _ in range(2)
    ]
    found = [process.communicate(timeout=60)[0].strip() for process in lookers]
    assert [b"0", b"0"] == found
    assert lock.acquire()
    assert is_locked(path)
    lock.release()
    assert not is_locked(path)


def test_lock_can_be_taken_while_others_look(tmp_path: Path) -> None:
    """Looking does not make an acquirer believe that the lock is held."""
    path = tmp_path / "a.lock"
    with FileLock(path):
        pass
    program = (
        "import sys; from pathlib import Path; from workbench.locks import is_locked\n"
        "print('on', flush=True)\n"
        "while True: is_locked(Path(sys.argv[1]))"
    )
    looker = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert looker.stdout is not None
    looker.stdout.readline()
    refused = 0
    for _ in range(300):
        lock = FileLock(path)
        refused += not lock.acquire()
        lock.release()
    looker.kill()
    looker.communicate()
    assert 0 == refused


def test_lock_falls_with_its_process(tmp_path: Path) -> None:
    """A killed holder keeps nothing."""
    path = tmp_path / "a.lock"
    program = (
        "import sys, time; from pathlib import Path; from workbench.locks import FileLock\n"
        "lock = FileLock(Path(sys.argv[1])); lock.acquire(); print('held', flush=True)\n"
        "time.sleep(600)"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout is not None
    holder.stdout.readline()
    assert (True, False) == (is_locked(path), FileLock(path).acquire())
    holder.kill()
    holder.communicate()
    assert not is_locked(path)


@posix
def test_runtime_folder_is_private(private_folders: Path) -> None:
    """The folder of addresses and tokens is made with mode 0700, and set back to it."""
    path = runtime_dir()
    assert 0o700 == path.stat().st_mode & 0o777
    path.chmod(0o755)
    assert 0o700 == runtime_dir().stat().st_mode & 0o777


@posix
@pytest.mark.skipif(os.name == "posix" and os.getuid() != 0, reason="only root gives files away")
def test_runtime_folder_of_somebody_else_is_refused(private_folders: Path) -> None:
    """A folder of another user is refused; one that lies in such a folder is not used."""
    path = runtime_dir()
    os.chown(path, 12345, 12345)
    with pytest.raises(ServerNotRunning, match="belongs to another user"):
        find_server(private_folders)
    os.chown(path, os.getuid(), 0)
    os.chown(path.parent, 12345, 12345)
    found = None
    with contextlib.suppress(ServerNotRunning):
        found = runtime_dir()
    assert path != found


@posix
def test_runtime_folder_that_is_a_link_is_refused(private_folders: Path) -> None:
    """A link could be pointed elsewhere after it was checked."""
    path = runtime_dir()
    path.rmdir()
    (private_folders / "elsewhere").mkdir(mode=0o700)
    path.symlink_to(private_folders / "elsewhere")
    with pytest.raises(ServerNotRunning, match="is not a folder"):
        runtime_dir()


@posix
def test_runtime_folder_that_cannot_be_made_is_named(private_folders: Path) -> None:
    """Where no folder can be made the error says which and what to set."""
    path = runtime_dir()
    path.rmdir()
    path.touch()
    with pytest.raises(ServerNotRunning, match=r"cannot be used|is not a folder") as caught:
        runtime_dir()
    assert str(path) in str(caught.value)
    assert "XDG_RUNTIME_DIR" in str(caught.value.hint)


def test_record_is_private_and_hides_its_token(data_dir: Path) -> None:
    """The file is for the user alone, and printing the record shows no token."""
    record = ServerRecord("http://127.0.0.1:9", "s3cret", "0", str(data_dir), "b", 1)
    ServerSeat(data_dir).publish(record)
    if os.name == "posix":
        assert 0o600 == record_path(data_dir).stat().st_mode & 0o777
    assert "s3cret" not in f"{record!r} {record}"


def test_record_that_is_torn_is_no_server(data_dir: Path) -> None:
    """Whatever stands in the file under a held lock: no server, no exception."""
    seat = ServerSeat(data_dir)
    assert seat.take()
    for text in ("", "{", "[]", "null", "{}", '{"url": 1}'):
        record_path(data_dir).write_text(text, encoding="utf-8")
        assert find_server(data_dir) is None
    seat.leave()


def test_server_that_does_not_start_shows_why(data_dir: Path) -> None:
    """The error carries the last lines of the log and names it."""
    data_dir.mkdir()
    (data_dir / "workbench.toml").write_text("[server]\nport = 'x'\n", encoding="utf-8")
    with pytest.raises(ServerNotRunning) as caught:
        ensure_server(data_dir)
    assert "workbench.toml:2" in str(caught.value)
    assert str(log_path(data_dir)) in str(caught.value.hint)


def test_data_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A data folder that cannot be made is an error that names it."""
    (tmp_path / "file").touch()
    with pytest.raises(ServerNotRunning, match="cannot be written"):
        ensure_server(tmp_path / "file" / "data")


def test_log_is_rotated_and_its_end_is_read(data_dir: Path) -> None:
    """A log past its size moves aside, three are kept, and the tail is the last lines."""
    assert "" == log_tail(data_dir, lines=3)
    log = log_path(data_dir)
    log.parent.mkdir(parents=True)
    for number in range(5):
        log.write_bytes(b"%d" % number + b"x" * 2**21)
        rotate(log)
    names = sorted(path.name for path in log.parent.iterdir())
    assert ["server.log.1", "server.log.2", "server.log.3"] == names
    assert b"4" == log.with_suffix(".log.1").read_bytes()[:1]
    log.write_text("one\ntwo\nthree\n", encoding="utf-8")
    assert "two\nthree" == log_tail(data_dir, lines=2)


def test_server_of_a_data_folder_is_alone(tmp_path: Path) -> None:
    """A second server on one data folder is refused and told where the first is."""
    with ServerProcess(tmp_path / "data") as first:
        second = ServerProcess(tmp_path / "data")
        with pytest.raises(AssertionError, match="another one serves") as caught:
            second.start()
        assert first.url in str(caught.value)
        assert alive(first.record)
