"""Who is let in: every combination of Host, Origin and token, over HTTP and WebSockets."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus
from websockets.typing import Subprotocol

from tests.server.harness import ServerProcess
from workbench.config import NamedToken, token_hash
from workbench.server.auth import check, rules_of, token_name

RULES = rules_of(
    "t", ["Gpu.Lan", "[fd00::5]"], ["https://Lab.example:8443/"], open_ollama_api=False
)
HOSTS = {
    "localhost": True,
    "localhost:11500": True,
    "LOCALHOST": True,
    "localhost.:80": True,
    "notebook.localhost": True,
    "127.0.0.1:1": True,
    "127.8.9.10": True,
    "[::1]": True,
    "[::1]:11500": True,
    "gpu.lan:11500": True,
    "GPU.LAN.": True,
    "[fd00::5]:1": True,
    "": False,
    "evil.com": False,
    "localhost.evil.com": False,
    "127.0.0.1.evil.com": False,
    "127.0.0.1.nip.io:11500": False,
    "evil-localhost": False,
    "0.0.0.0": False,
    "192.168.0.1": False,
    "2130706433": False,
    "127.1": False,
    "[::]": False,
    "[fd00::6]": False,
    "localhost@evil.com": False,
    "gpu.lan.evil.com": False,
}
ORIGINS = {
    "http://localhost:8888": True,
    "https://127.0.0.1": True,
    "http://[::1]:3000": True,
    "https://lab.example:8443": True,
    "https://lab.example": False,
    "http://lab.example:8443": False,
    "null": False,
    "": False,
    "http://evil.com": False,
    "http://localhost.evil.com": False,
    "http://[::1": False,
    "file://": False,
    "chrome-extension://localhost": False,
}
INFO = "/workbench/v1/info"


@pytest.mark.parametrize("host", HOSTS)
def test_host_is_loopback_or_allowed(host: str) -> None:
    """A name that a rebinding page could bring is refused with 403, whatever the token."""
    headers = {"host": host, "authorization": "Bearer t"}
    refusal = check(RULES, headers, path=INFO, peer="127.0.0.1")
    assert (None if HOSTS[host] else 403) == (refusal and refusal.status)


@pytest.mark.parametrize("origin", ORIGINS)
def test_origin_is_loopback_or_allowed(origin: str) -> None:
    """A page of another site is refused with 403, whatever the token."""
    headers = {"host": "localhost", "authorization": "Bearer t", "origin": origin}
    refusal = check(RULES, headers, path=INFO, peer="127.0.0.1")
    assert (None if ORIGINS[origin] else 403) == (refusal and refusal.status)


@pytest.mark.parametrize(
    "value",
    ["", "t", "Bearer", "Bearer ", "Bearer x", "Bearer T", "Bearer tt", "Basic t", "Bearer té"],
)
def test_token_is_exact(value: str) -> None:
    """No token and a wrong one are both 401."""
    headers = {"host": "localhost", "authorization": value}
    refusal = check(RULES, headers, path=INFO, peer="127.0.0.1")
    assert refusal is not None
    assert 401 == refusal.status


def test_token_of_a_page_comes_as_a_subprotocol() -> None:
    """A browser's WebSocket, which can send no header, names the token as a protocol."""
    offered = {"host": "localhost", "sec-websocket-protocol": "other, workbench.bearer.t"}
    assert check(RULES, offered, path=INFO, peer=None) is None


@pytest.mark.parametrize(
    ("path", "peer", "status"),
    [
        ("/api/chat", "127.0.0.1", None),
        ("/v1/models", "::1", None),
        ("/api/chat", "192.168.0.9", 401),
        ("/api/chat", None, 401),
        ("/workbench/v1/info", "127.0.0.1", 401),
        ("/apis", "127.0.0.1", 401),
    ],
)
def test_open_ollama_api_opens_only_that(path: str, peer: str | None, status: int | None) -> None:
    """Without a token only Ollama's and OpenAI's paths answer, and only on loopback."""
    rules = rules_of("t", [], [], open_ollama_api=True)
    refusal = check(rules, {"host": "localhost"}, path=path, peer=peer)
    assert status == (refusal and refusal.status)


def test_named_tokens_are_told_apart() -> None:
    """A token whose hash is known is let in under its name; the server's own has none."""
    named = [NamedToken("ann", token_hash("a")), NamedToken("bob", token_hash("b"))]
    rules = rules_of("t", [], [], named=named, open_ollama_api=False)

    def seen(token: str) -> tuple[int | None, str | None]:
        headers = {"host": "localhost", "authorization": f"Bearer {token}"}
        refusal = check(rules, headers, path=INFO, peer=None)
        return refusal and refusal.status, token_name(rules, headers)

    assert [(None, "ann"), (None, "bob"), (None, None)] == [seen("a"), seen("b"), seen("t")]
    assert [(401, None)] * 2 == [seen("c"), seen(token_hash("a"))]


def test_rules_hide_their_token() -> None:
    """Printing the rules shows no token."""
    assert "s3cret" not in repr(rules_of("s3cret", [], [], open_ollama_api=False))


def get(server: ServerProcess, path: str, **headers: str) -> httpx.Response:
    """Ask without the headers a client of ours would add."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return httpx.get(server.url + path, headers=named, trust_env=False)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"authorization": "Bearer wrong"}, 401),
        ({"host": "evil.com"}, 403),
        ({"host": "localhost.evil.com:80"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": "http://evil.com"}, 403),
    ],
    ids=["no token", "wrong token", "host", "rebinding", "null", "origin"],
)
@pytest.mark.parametrize("path", ["/api/tags", "/v1/models", INFO, "/nothing", "/api/chat"])
def test_refusal_is_the_same_everywhere(
    server: ServerProcess, path: str, headers: dict[str, str], status: int
) -> None:
    """Every path, also one that does not exist, refuses before it looks at the request."""
    answer = get(server, path, **headers)
    assert status == answer.status_code
    body = answer.json()
    if path.startswith("/v1/"):
        assert {"message", "type", "param", "code"} == set(body["error"])
    else:
        assert {"error", "type", "hint", "status"} == set(body)
    assert ("Bearer" if status == 401 else None) == answer.headers.get("www-authenticate")


def test_root_answers_without_a_token(server: ServerProcess) -> None:
    """A client that only looks whether somebody is there needs no token, but a right host."""
    assert "Ollama is running" == get(server, "/").text
    assert 403 == get(server, "/", host="evil.com").status_code


async def handshake(
    server: ServerProcess,
    *,
    token: str | None = None,
    protocols: list[str] | None = None,
    **headers: str,
) -> tuple[int, str | None]:
    """Return the status of a handshake and the protocol the server took."""
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    url = server.url.replace("http://", "ws://") + "/workbench/v1/chat"
    wanted = [Subprotocol(name) for name in protocols or []]
    try:
        async with connect(
            url, additional_headers=headers, subprotocols=wanted or None, proxy=None
        ) as socket:
            return 101, socket.subprotocol
    except InvalidStatus as exc:
        return exc.response.status_code, None


def test_sockets_are_guarded_like_requests(server: ServerProcess) -> None:
    """A handshake is refused with the same statuses, and takes the token either way."""
    own = f"workbench.bearer.{server.token}"

    async def main() -> list[tuple[int, str | None]]:
        return [
            await handshake(server, token=server.token),
            await handshake(server, protocols=[own]),
            await handshake(server, protocols=["chat", own]),
            await handshake(server, token=server.token, protocols=["chat"]),
            await handshake(server),
            await handshake(server, token="wrong"),
            await handshake(server, protocols=["workbench.bearer.wrong"]),
            await handshake(server, token=server.token, Origin="http://evil.com"),
            await handshake(server, token=server.token, Origin="null"),
            await handshake(server, token=server.token, Origin="http://localhost:1"),
        ]

    taken = [(101, None), (101, own), (101, own), (101, None)]
    refused = [(401, None)] * 3 + [(403, None)] * 2
    assert [*taken, *refused, (101, None)] == asyncio.run(main())


@pytest.fixture(scope="module")
def secretive(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Yield a server that is open to Ollama clients, on IPv4, with a token we know."""
    folder = tmp_path_factory.mktemp("secret")
    (folder / "workbench.toml").write_text(
        "[server]\nopen_ollama_api = true\nallowed_hosts = ['gpu.lan']\n"
        "allowed_origins = ['https://lab.example']\nmax_body_bytes = 1000\n",
        encoding="utf-8",
    )
    env = {"WORKBENCH_TOKEN": "s3cret-of-the-test", "FORWARDED_ALLOW_IPS": "*"}
    with ServerProcess(folder, env=env) as running:
        yield running


def test_open_server_lets_ollama_clients_in(secretive: ServerProcess) -> None:
    """Ollama's paths need no token; ours do, and a foreign page stays out of both."""
    statuses = [
        get(secretive, "/api/tags").status_code,
        get(secretive, "/v1/models").status_code,
        get(secretive, INFO).status_code,
        get(secretive, "/api/tags", origin="http://evil.com").status_code,
        get(secretive, "/api/tags", host="evil.com").status_code,
        get(secretive, "/api/tags", x_forwarded_for="203.0.113.9").status_code,
    ]
    assert [200, 200, 401, 403, 403, 401] == statuses


def test_allowed_names_are_let_in(secretive: ServerProcess) -> None:
    """allowed_hosts and allowed_origins let the named ones through."""
    statuses = [
        get(secretive, "/api/tags", host="gpu.lan:11500").status_code,
        get(secretive, "/api/tags", origin="https://lab.example").status_code,
    ]
    assert [200, 200] == statuses


def test_token_is_in_no_answer_and_no_log(secretive: ServerProcess) -> None:
    """Refused, failed and fine requests leave no trace of the token."""
    answers = [
        get(secretive, INFO, authorization="Bearer wrong").text,
        get(secretive, INFO, authorization=f"Bearer {secretive.token}x").text,
        secretive.http.get(INFO).text,
        secretive.http.get("/workbench/v1/openapi.json").text,
        secretive.http.post("/api/chat", content=b"{").text,
    ]
    assert "s3cret-of-the-test" == secretive.token
    assert not [text for text in answers if secretive.token in text]
    assert secretive.token not in secretive.log()


def test_address_of_others_needs_two_settings(tmp_path: Path) -> None:
    """Listening where others reach it wants allow_remote and allowed_hosts."""
    flags = {"server.host": "0.0.0.0"}
    with pytest.raises(AssertionError, match="can be reached by other machines"):
        ServerProcess(tmp_path / "a", flags=flags).start()
    allowed = {**flags, "server.allow_remote": True}
    with pytest.raises(AssertionError, match="allowed_hosts"):
        ServerProcess(tmp_path / "b", flags=allowed).start()
    named = {**allowed, "server.allowed_hosts": ["gpu.lan"]}
    with ServerProcess(tmp_path / "c", flags=named) as running:
        port = httpx.URL(running.url).port
        url = f"http://127.0.0.1:{port}/api/version"
        token = {"Authorization": f"Bearer {running.token}"}
        hosts = ["gpu.lan", "other.lan"]
        statuses = [
            httpx.get(url, headers={**token, "host": host}, trust_env=False).status_code
            for host in hosts
        ]
        assert [200, 403] == statuses
        # Clients on this machine find it by an address it accepts.
        assert 200 == running.http.get(INFO).status_code


def test_large_body_is_refused(secretive: ServerProcess) -> None:
    """max_body_bytes is the most a JSON body may have, told or found out."""
    told = secretive.http.post("/api/chat", content=b"x" * 1001)
    found = secretive.http.post("/api/chat", content=iter([b"x" * 600, b"x" * 600]))
    assert [413, 413] == [told.status_code, found.status_code]


def test_page_of_an_allowed_origin_may_read_answers(server: ServerProcess) -> None:
    """A browser's question before a request is answered for loopback pages, not for others."""
    asked = {"access-control-request-method": "POST", "access-control-request-headers": "x"}
    allowed = server.http.options("/api/chat", headers={**asked, "origin": "http://localhost:8888"})
    refused = server.http.options("/api/chat", headers={**asked, "origin": "http://evil.com"})
    assert "http://localhost:8888" == allowed.headers["access-control-allow-origin"]
    assert [200, 400] == [allowed.status_code, refused.status_code]
    assert "access-control-allow-origin" not in refused.headers
