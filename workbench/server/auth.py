"""Who may call: token, Host and Origin, checked before anything else looks at a request.

The Host check stops DNS rebinding, the Origin check stops pages of other sites; both also hold for
WebSockets, which browsers do not guard.  A token is only read from a header or a WebSocket
subprotocol, never from an address, where logs and histories would keep it.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import msgspec
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from workbench.config import NamedToken, is_loopback, token_hash
from workbench.errors import ResponseError
from workbench.wire.ollama import error_body
from workbench.wire.openai import openai_error

SUBPROTOCOL = "workbench.bearer."
TOKEN_NAME = "workbench.token_name"
"""Key of the scope: name of the token that was shown, or `None`."""

_FOREIGN_PREFIXES = ("/api/", "/v1/")


@dataclass(frozen=True, slots=True)
class Rules:
    """What is allowed.

    Attributes:
        token: The server's own token.
        named: Name by hash of the tokens given to others.
        hosts: Host names besides loopback.
        origins: Origins besides loopback, as `https://name:port`.
        open_ollama_api: Whether Ollama and OpenAI paths need no token from loopback.
    """

    token: str = field(repr=False)
    named: Mapping[str, str] = field(default_factory=dict, repr=False)
    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()
    open_ollama_api: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a request is refused."""

    status: int
    message: str
    hint: str | None = None


def host_name(header: str) -> str:
    """Return the name in a Host header as it is compared: without port, brackets, final dot."""
    name = header.partition("]")[0] if header.startswith("[") else header.partition(":")[0]
    return name.strip("[").rstrip(".").lower()


def check(
    rules: Rules, headers: Mapping[str, str], *, path: str, peer: str | None
) -> Refusal | None:
    """Return why a request is refused, or `None` when it may pass.

    Args:
        headers: With names in lower case.
        peer: Address of the other side of the connection.
    """
    name = host_name(headers.get("host", ""))
    if not is_loopback(name) and name not in rules.hosts:
        return Refusal(403, f"host {name!r} is not allowed", "Add it to server.allowed_hosts.")
    origin = headers.get("origin")
    if origin is not None and not _origin_allowed(rules, origin):
        return Refusal(
            403, f"origin {origin!r} is not allowed", "Add it to server.allowed_origins."
        )
    if path == "/" and not headers.get("upgrade"):
        return None
    if rules.open_ollama_api and path.startswith(_FOREIGN_PREFIXES) and is_loopback(peer or ""):
        return None
    given = given_token(headers)
    if given is None:
        return Refusal(
            401,
            "a token is needed",
            "Set WORKBENCH_TOKEN to the server's token (other programs send 'Authorization: Bearer "
            "<token>'), or set server.open_ollama_api = true for Ollama clients.",
        )
    if not _is_own(rules, given) and token_hash(given) not in rules.named:
        return Refusal(
            401,
            "the token is wrong",
            "Set WORKBENCH_TOKEN to the one the server was started with (its WORKBENCH_TOKEN or "
            "`workbench serve --token`), or to one of its [[token]] entries.",
        )
    return None


def _is_own(rules: Rules, given: str) -> bool:
    return hmac.compare_digest(given.encode(), rules.token.encode())


def token_name(rules: Rules, headers: Mapping[str, str]) -> str | None:
    """Return the name of the token a request carries; the server's own has none."""
    given = given_token(headers) if rules.named else None
    if given is None or _is_own(rules, given):
        return None
    return rules.named.get(token_hash(given))


def _origin_allowed(rules: Rules, origin: str) -> bool:
    if origin.lower() in rules.origins:
        return True
    try:
        parts = urlsplit(origin)
        return parts.scheme in ("http", "https") and is_loopback(parts.hostname or "")
    except ValueError:
        return False


def given_token(headers: Mapping[str, str]) -> str | None:
    """Return the token a request carries, or `None`."""
    scheme, _, token = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and token.strip():
        return token.strip()
    for protocol in headers.get("sec-websocket-protocol", "").split(","):
        if protocol.strip().startswith(SUBPROTOCOL):
            return protocol.strip().removeprefix(SUBPROTOCOL)
    return None


class AuthMiddleware:
    """Refuses what `check` refuses, over HTTP and over WebSockets, before any route runs.

    Args:
        rules: Returns the rules as they are now.
    """

    def __init__(self, app: ASGIApp, *, rules: Callable[[], Rules]) -> None:
        self._app = app
        self._rules = rules

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Let the request through, or answer it."""
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return
        headers = {key.lower(): value for key, value in Headers(scope=scope).items()}
        client, rules = scope.get("client"), self._rules()
        refusal = check(rules, headers, path=scope["path"], peer=client[0] if client else None)
        if refusal is None:
            scope[TOKEN_NAME] = token_name(rules, headers)
            await self._app(scope, receive, send)
        elif scope["type"] == "http":
            await _refuse(send, refusal, "http.response", openai=scope["path"].startswith("/v1/"))
        elif "websocket.http.response" in scope.get("extensions", {}):
            await _refuse(send, refusal, "websocket.http.response")
        else:
            # Before the handshake is accepted this is an HTTP 403 to the client.
            await send({"type": "websocket.close", "code": 1008, "reason": refusal.message})


async def _refuse(send: Send, refusal: Refusal, kind: str, *, openai: bool = False) -> None:
    error = ResponseError(refusal.message, status=refusal.status, hint=refusal.hint)
    body = openai_error(error, refusal.status) if openai else error_body(error)
    content = msgspec.json.encode(body)
    headers = [
        (b"content-type", b"application/json; charset=utf-8"),
        (b"content-length", str(len(content)).encode()),
    ]
    if refusal.status == 401:
        headers.append((b"www-authenticate", b"Bearer"))
    await send({"type": f"{kind}.start", "status": refusal.status, "headers": headers})
    await send({"type": f"{kind}.body", "body": content})


def rules_of(
    token: str,
    hosts: Iterable[str],
    origins: Iterable[str],
    *,
    named: Iterable[NamedToken] = (),
    open_ollama_api: bool,
) -> Rules:
    """Return rules with names in the form they are compared in."""
    return Rules(
        token,
        {item.sha256: item.name for item in named},
        frozenset(host.strip("[]").rstrip(".").lower() for host in hosts),
        frozenset(origin.rstrip("/").lower() for origin in origins),
        open_ollama_api,
    )
