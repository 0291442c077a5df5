"""Find the server of this user, or start one; runs in clients and knows nothing of HTTP.

A server writes its address and token to a file in a folder only the user may read, and holds a
lock beside it for life.  A lock that is free means that the file is stale, whatever it says: then
nothing, and above all no token, is sent to its address.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import stat
import subprocess
import sys
import time
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs

from workbench.errors import ServerNotRunning
from workbench.locks import FileLock, is_locked

START_TIMEOUT_S = 30.0
_LOOK_S = 0.02
_LOG_BYTES = 2 * 1024 * 1024
_LOGS_KEPT = 3
_RUNTIME_HINT = "Set XDG_RUNTIME_DIR to a folder of yours."


@dataclass(frozen=True, slots=True)
class ServerRecord:
    """What a running server tells its clients; `repr` hides the token."""

    url: str
    token: str
    version: str
    data_dir: str
    boot_id: str
    pid: int

    def __repr__(self) -> str:
        return f"ServerRecord(url={self.url!r}, pid={self.pid}, boot_id={self.boot_id!r})"


def runtime_dir() -> Path:
    """Return the user's host-local folder for addresses and sockets, made with mode 0700.

    Raises:
        ServerNotRunning: When the folder belongs to somebody else or others may read it.
    """
    path = Path("the runtime folder")
    try:
        with warnings.catch_warnings():
            # Without XDG_RUNTIME_DIR platformdirs warns and takes a folder of the user under /tmp.
            warnings.simplefilter("ignore")
            path = Path(platformdirs.user_runtime_dir("workbench", appauthor=False))
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        if os.name == "posix":
            _check_private(path)
    except OSError as exc:
        raise ServerNotRunning(
            f"{path} cannot be used: {exc.strerror}", hint=_RUNTIME_HINT
        ) from exc
    return path


def _check_private(path: Path) -> None:
    """Refuse a folder of somebody else: who owns it, or what it lies in, could read the token.

    A link is refused too: whoever made it can point it elsewhere after this check.
    """
    facts, around = path.lstat(), path.parent.stat()
    if facts.st_uid != os.getuid():
        raise ServerNotRunning(f"{path} belongs to another user", hint=_RUNTIME_HINT)
    if not stat.S_ISDIR(facts.st_mode):
        raise ServerNotRunning(f"{path} is not a folder", hint=_RUNTIME_HINT)
    if around.st_uid not in (os.getuid(), 0):
        raise ServerNotRunning(f"{path.parent} belongs to another user", hint=_RUNTIME_HINT)
    if facts.st_mode & 0o077:
        path.chmod(0o700)


def record_path(data_dir: Path) -> Path:
    """Return the runtime file of the server of `data_dir`; each data folder has its own."""
    name = hashlib.sha256(str(data_dir.absolute()).encode()).hexdigest()[:16]
    return runtime_dir() / f"server-{name}.json"


def _lock_path(data_dir: Path) -> Path:
    return record_path(data_dir).with_suffix(".lock")


def log_path(data_dir: Path) -> Path:
    """Return where an auto-started server's stderr goes."""
    return data_dir / "logs" / "server.log"


class ServerSeat:
    """The server's side: the lock held for life, and the record that is published under it."""

    def __init__(self, data_dir: Path) -> None:
        self.path = record_path(data_dir)
        self._lock = FileLock(self.path.with_suffix(".lock"))

    def take(self) -> bool:
        """Take the lock and return whether this process is the server of the data folder.

        The record of a server that was killed goes at once: under our lock it would look alive.
        """
        if not self._lock.acquire():
            return False
        self.path.unlink(missing_ok=True)
        return True

    def publish(self, record: ServerRecord) -> None:
        """Write the record; readers see the old one or the new one, never a part."""
        temporary = self.path.with_suffix(f".{os.getpid()}.tmp")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(asdict(record), file)
        os.replace(temporary, self.path)

    def leave(self) -> None:
        """Remove the record and give the lock back."""
        if self._lock.held:
            self.path.unlink(missing_ok=True)
            self._lock.release()


def find_server(data_dir: Path) -> ServerRecord | None:
    """Return the running server of `data_dir`, or `None`; a stale file counts for nothing."""
    if not is_locked(_lock_path(data_dir)):
        return None
    try:
        return ServerRecord(**json.loads(record_path(data_dir).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        # Locked but not (wholly) published: a server that is just starting.
        return None


def await_gone(data_dir: Path, boot_id: str, timeout_s: float) -> bool:
    """Wait until a server that was asked to end has given its seat back; return whether it has."""
    due = time.monotonic() + timeout_s
    while (found := find_server(data_dir)) is not None and found.boot_id == boot_id:
        if time.monotonic() > due:
            return False
        time.sleep(_LOOK_S)
    return True


def ensure_server(
    data_dir: Path,
    *,
    arguments: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    timeout_s: float = START_TIMEOUT_S,
) -> ServerRecord:
    """Return the running server of `data_dir`, starting one when there is none.

    Two processes that ask at once get the same server: starting happens under a lock.

    Raises:
        ServerNotRunning: When it did not come up; carries the last lines of its log.
    """
    found = find_server(data_dir)
    if found is not None:
        return found
    with FileLock(record_path(data_dir).with_suffix(".spawn.lock")):
        found = find_server(data_dir)
        if found is not None:
            return found
        process, log_bytes = _spawn(data_dir, arguments, env)
        return _await_server(data_dir, process, timeout_s, log_bytes)


def _spawn(
    data_dir: Path, arguments: Sequence[str], env: Mapping[str, str] | None
) -> tuple[subprocess.Popen[bytes], int]:
    """Start a server; returns it and how many bytes its log had before."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True, mode=0o700)
        log = log_path(data_dir)
        log.parent.mkdir(exist_ok=True)
        rotate(log)
        stderr = log.open("ab")
        log_bytes = log.stat().st_size
    except OSError as exc:
        raise ServerNotRunning(
            f"the data folder {data_dir} cannot be written: {exc.strerror}",
            hint="Free some space, or set WORKBENCH_DATA_DIR to another folder.",
        ) from exc
    # -P: a file workbench.py in the user's folder must not be taken for the package.
    command = [sys.executable, "-P", "-m", "workbench", "serve", "--auto"]
    command += ["--data-dir", str(data_dir), *arguments]
    with stderr:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            cwd=data_dir,
            env=None if env is None else dict(env),
            # Its own session: interrupting or killing a kernel never touches the server.
            start_new_session=True,
        )
    return process, log_bytes


def _await_server(
    data_dir: Path, process: subprocess.Popen[bytes], timeout_s: float, log_bytes: int
) -> ServerRecord:
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        found = find_server(data_dir)
        if found is not None:
            # The server outlives us on purpose; Popen must not warn about it.
            process.returncode = 0
            return found
        # Ended although the seat is taken: another server was faster and is about to publish.
        if process.poll() is not None and not is_locked(_lock_path(data_dir)):
            break
        time.sleep(_LOOK_S)
    else:
        process.kill()
        process.wait()
    tail = log_tail(data_dir, lines=5, since_bytes=log_bytes)
    # What ends a server in order is one line that says what to do.
    told = next((line for line in tail.splitlines() if line.startswith("error: ")), None)
    if told is not None:
        reason = told.removeprefix("error: ").rstrip(".")
        raise ServerNotRunning(reason, hint=f"Its log: {log_path(data_dir)}")
    raise ServerNotRunning(
        f"it did not start (exit {process.returncode})" + (f": {tail}" if tail else ""),
        hint=f"See {log_path(data_dir)} or run `workbench serve`.",
    )


def rotate(log: Path) -> None:
    """Move a log that has grown past 2 MiB aside; three old ones are kept."""
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size < _LOG_BYTES:
            return
        for number in range(_LOGS_KEPT, 0, -1):
            older = log.with_suffix(f".log.{number}")
            newer = log if number == 1 else log.with_suffix(f".log.{number - 1}")
            if newer.exists():
                os.replace(newer, older)


def log_tail(data_dir: Path, *, lines: int, since_bytes: int = 0) -> str:
    """Return the last lines of the server's log, or an empty text.

    Args:
        since_bytes: What stands before is left out.
    """
    try:
        with log_path(data_dir).open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(since_bytes, file.tell() - 64 * 1024))
            text = file.read().decode("utf-8", "replace")
    except OSError:
        return ""
    return "\n".join(text.splitlines()[-lines:])
