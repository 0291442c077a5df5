"""Where an engine process listens: a unix socket in a private folder, else loopback."""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

FOLDER_PREFIX: Final = "wb-engine-"
# sun_path holds 108 bytes on Linux and 104 on macOS, with the final zero.
MAX_SOCKET_PATH_BYTES: Final = 100
STALE_AFTER_S: Final = 60.0
# Windows has AF_UNIX, but neither asyncio nor httpx can use it there.
UNIX_SOCKETS: Final = sys.platform != "win32" and hasattr(socket, "AF_UNIX")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An address that an engine process is told to listen on.

    Attributes:
        host: The path of the socket, or "127.0.0.1".
        port: 0 for a socket, and for a port that the engine chooses.
        socket_path: The socket, `None` on loopback.
        folder: The folder made for this endpoint alone, removed with it.
    """

    host: str
    port: int
    socket_path: Path | None
    folder: Path | None

    def remove(self) -> None:
        """Remove the socket and the folder made for it; what is gone already is fine."""
        with contextlib.suppress(OSError):
            if self.socket_path is not None:
                self.socket_path.unlink()
        with contextlib.suppress(OSError):
            if self.folder is not None:
                self.folder.rmdir()


def open_endpoint(folder: Path | None = None, *, choose_port: bool = False) -> Endpoint:
    """Return a new endpoint.

    Args:
        folder: A folder for sockets; it is made, and must belong to this user with mode 0700.
            Without one, or when its path is too long, a temporary folder is made.
        choose_port: Choose the port here, for an engine that cannot take 0.

    Raises:
        OSError: When no folder can be made.
    """
    if not UNIX_SOCKETS:
        return Endpoint("127.0.0.1", _free_port() if choose_port else 0, None, None)
    name = f"{secrets.token_hex(4)}.sock"
    if folder is not None and _fits(folder / name) and _private(folder):
        return Endpoint(str(folder / name), 0, folder / name, None)
    for base in (tempfile.gettempdir(), "/tmp"):
        if _fits(Path(base) / (FOLDER_PREFIX + "x" * 8) / name):
            sweep(Path(base))
            own = Path(tempfile.mkdtemp(prefix=FOLDER_PREFIX, dir=base))
            return Endpoint(str(own / name), 0, own / name, own)
    return Endpoint("127.0.0.1", _free_port() if choose_port else 0, None, None)


def sweep(base: Path) -> None:
    """Remove the sockets that killed servers left under `base`: those that refuse connections.

    Whether a process lives is not asked by its id, because /tmp may be shared with another
    process namespace.
    """
    old = time.time() - STALE_AFTER_S
    for folder in base.glob(FOLDER_PREFIX + "*"):
        with contextlib.suppress(OSError):
            found = folder.lstat()
            if found.st_uid != os.getuid() or found.st_mtime > old:
                continue
            for path in folder.glob("*.sock"):
                if _refuses(path):
                    path.unlink()
            folder.rmdir()


def _refuses(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return True
        except OSError:
            return False
    return False


def _fits(path: Path) -> bool:
    return len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES


def _private(folder: Path) -> bool:
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = folder.lstat()
    return found.st_uid == os.getuid() and found.st_mode & 0o077 == 0


def _free_port() -> int:
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
