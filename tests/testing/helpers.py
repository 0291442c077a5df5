from __future__ import annotations

import json
import socket
import struct
from typing import Any

import httpx

# No proxies of the user; and no certificates, whose loading takes most of a short test.
PLAIN: Any = {"trust_env": False, "verify": False}
CHAT = {"model": "llama3.2", "messages": [{"role": "user", "content": "Say it."}]}


def post(url: str, body: Any = CHAT) -> httpx.Response:
    """Post JSON on a connection of its own, without the user's proxies."""
    with httpx.Client(**PLAIN, timeout=10.0) as client:
        return client.post(url, json=body)


def get(url: str) -> httpx.Response:
    """Get on a connection of its own, without the user's proxies."""
    with httpx.Client(**PLAIN, timeout=10.0) as client:
        return client.get(url)


def lines(response: httpx.Response) -> list[dict[str, Any]]:
    """Return the values of an NDJSON body."""
    return [json.loads(line) for line in response.content.split(b"\n") if line]


def events(response: httpx.Response) -> list[Any]:
    """Return the values of an SSE body; its end mark stays text."""
    blocks = [block for block in response.content.split(b"\n\n") if block]
    data = [block.removeprefix(b"data: ").decode() for block in blocks]
    return [item if item == "[DONE]" else json.loads(item) for item in data]


def raw_request(url: str, path: str, body: Any = CHAT, *, close: bool = True) -> socket.socket:
    """Send a POST over a bare socket and return it; the caller closes it."""
    at = httpx.URL(url)
    sock = socket.create_connection((at.host, at.port or 0), timeout=10.0)
    data = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {at.host}\r\nContent-Length: {len(data)}\r\n"
    head += "Connection: close\r\n\r\n" if close else "\r\n"
    sock.sendall(head.encode() + data)
    return sock


def read_all(sock: socket.socket) -> bytes:
    """Read until the other side ends; a reset raises ConnectionResetError."""
    found = b""
    while data := sock.recv(65536):
        found += data
    return found


def read_until_reset(sock: socket.socket) -> bytes:
    """Read until the other side resets the connection; an orderly end is an error."""
    found = b""
    while True:
        try:
            data = sock.recv(65536)
        except ConnectionResetError:
            return found
        if not data:
            raise AssertionError("the connection ended in order")
        found += data


def kill(sock: socket.socket) -> None:
    """Close a socket with RST, as a killed process does with data unread."""
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    sock.close()


def http_chunks(answer: bytes) -> list[bytes]:
    """Return the chunks of a chunked response, the empty last one included."""
    rest = answer.partition(b"\r\n\r\n")[2]
    found = []
    while rest:
        size, _, rest = rest.partition(b"\r\n")
        found.append(rest[: int(size, 16)])
        rest = rest[int(size, 16) + 2 :]
    return found
