"""A server for bytes that no scripted model server would send: one fixed answer, with pauses."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator, Sequence

HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nConnection: close\r\n\r\n"


class RawServer:
    """Answers every connection with the same parts, `pause_s` seconds between them."""

    def __init__(self, parts: Sequence[bytes], *, pause_s: float = 0.0) -> None:
        self._parts = parts
        self._pause_s = pause_s
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self.connections = 0

    def serve(self) -> None:
        while True:
            try:
                peer, _ = self._socket.accept()
            except OSError:
                return
            self.connections += 1
            with peer, contextlib.suppress(OSError):
                peer.recv(65536)
                for part in self._parts:
                    peer.sendall(part)
                    time.sleep(self._pause_s)

    def close(self) -> None:
        # Only a shutdown wakes a thread that waits in accept.
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@contextlib.contextmanager
def raw_server(parts: Sequence[bytes], *, pause_s: float = 0.0) -> Iterator[RawServer]:
    server = RawServer(parts, pause_s=pause_s)
    thread = threading.Thread(target=server.serve)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join()
