"""The `[[backend]]` entries of the toml file, and the backends that are there without any."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, cast
from urllib.parse import urlsplit

from workbench.config.addresses import holds_login, is_address
from workbench.config.entries import Entry, entries_of
from workbench.config.toml_file import TomlFile
from workbench.units import parse_bytes

BackendKind = Literal["ollama", "openai", "llamacpp"]
SwapMode = Literal["auto", "manual", "server"]
SWAP_MODES: tuple[SwapMode, ...] = ("auto", "manual", "server")

EMBEDDED = "embedded"
"""Name of the backend that runs bundled and dropped-in GGUF files."""

_KINDS: tuple[BackendKind, ...] = ("ollama", "openai", "llamacpp")


# A number below is one of gigabytes whose unit was left out.
_LEAST_VRAM = 64 << 20
_MOST_VRAM = 1 << 50


@dataclass(frozen=True, slots=True)
class BackendConfig:
    """One `[[backend]]` of the toml file, or one that was found.

    Attributes:
        token_env: Environment variable that holds the backend's token; the token is not stored.
        headers_env: Names of headers and of the environment variables that hold their values.
        vram_bytes: Memory of its GPUs as declared; `None` when it is not.
        swap: Who makes room: `auto` and `manual` are this server, `server` is the backend itself.
        swap_source: Where `swap` came from.
    """

    name: str
    kind: BackendKind
    url: str | None = None
    token_env: str | None = None
    source: str = "found"
    headers_env: tuple[tuple[str, str], ...] = ()
    vram_bytes: int | None = None
    swap: SwapMode = "auto"
    swap_source: str = "default"


def read_backends(toml: TomlFile, env: Mapping[str, str]) -> tuple[BackendConfig, ...]:
    """Return the embedded backend, those of the file, and the Ollama that is looked for.

    Raises:
        ConfigError: When an entry cannot be used; names the file, line and key.
    """
    found = [BackendConfig(EMBEDDED, "llamacpp")]
    for number, entry in enumerate(entries_of(toml, "backend")):
        backend = _Backend(toml, entry, number).read()
        if backend.kind == "llamacpp" and found[0].source == "found":
            # There is one embedded engine: an entry of its kind says more about it.
            found[0] = backend
            continue
        if any(backend.name == other.name for other in found):
            raise toml.error(
                f"two backends are named {backend.name!r}.", "backend.name", entry=number
            )
        if backend.kind == "llamacpp":
            raise toml.error("there is one embedded engine.", "backend.kind", entry=number)
        found.append(backend)
    if not any(backend.kind == "ollama" for backend in found):
        url = ollama_url(env)
        found.append(BackendConfig("ollama", "ollama", url, swap=_usual_swap(url, None)))
    return tuple(found)


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


def is_this_machine(url: str | None) -> bool:
    """Whether an address is on loopback; a backend without one runs here."""
    try:
        return url is None or is_loopback(urlsplit(url).hostname or "")
    except ValueError:
        # What is no address is told when the backend is asked.
        return False


def _usual_swap(url: str | None, vram_bytes: int | None) -> SwapMode:
    """Return who makes room unless the user says: we do where we know the memory."""
    return "auto" if vram_bytes is not None or is_this_machine(url) else "server"


class _Backend(Entry):
    table = "backend"
    keys = ("name", "kind", "url", "token_env", "headers_env", "vram", "swap")

    def read(self) -> BackendConfig:
        """Return the entry as it is used."""
        kind = cast(BackendKind, self.one_of("kind", _KINDS))
        name = self._name()
        url = self._url(kind)
        token_env = self._token_env()
        vram_bytes = self._vram()
        swap = self._entry.get("swap")
        if swap is not None and swap not in SWAP_MODES:
            raise self.error(f"swap is one of {', '.join(SWAP_MODES)}, not {swap!r}.", "swap")
        source = self._toml.path.name
        return BackendConfig(
            name,
            kind,
            url,
            token_env,
            source,
            self._headers(),
            vram_bytes,
            swap or _usual_swap(url, vram_bytes),
            source if swap else "default",
        )

    def _name(self) -> str:
        name = self.needed_text("name")
        if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
            raise self.error("a backend's name is letters, digits, '.', '_' and '-'.", "name")
        return name

    def _url(self, kind: BackendKind) -> str | None:
        if kind == "llamacpp":
            if "url" in self._entry:
                raise self.error("the embedded engine has no url.", "url")
            return None
        url = self.needed_text("url")
        if not re.match(r"https?://[^/]", url):
            raise self.error("a backend's url begins with http:// or https://.", "url")
        if not is_address(url):
            text = "a backend's url is http://name:port, with a port up to 65535."
            raise self.error(text, "url")
        if holds_login(url):
            text = "a backend's url holds no password; name a variable in token_env."
            raise self.error(text, "url")
        url = url.rstrip("/")
        # Written with it in most programs' settings; the paths we ask begin with it.
        return url.removesuffix("/v1") if kind == "openai" else url

    def _token_env(self) -> str | None:
        value = self._entry.get("token_env")
        if value is None or (isinstance(value, str) and re.fullmatch(r"[A-Za-z_]\w*", value)):
            return value
        # It may be the token itself, which no error shows.
        text = "token_env is the name of an environment variable, not the token."
        raise self.error(text, "token_env")

    def _headers(self) -> tuple[tuple[str, str], ...]:
        """Return headers by the variables that hold their values, which are never in the file."""
        headers = self._entry.get("headers_env", {})
        good = isinstance(headers, dict) and all(
            isinstance(value, str) and re.fullmatch(r"[A-Za-z_]\w*", value)
            for value in headers.values()
        )
        if not good or not all(re.fullmatch(r"[A-Za-z0-9-]+", name) for name in headers):
            raise self.error(
                "headers_env names a header and the environment variable that holds its value.",
                "headers_env",
                hint='Write headers_env = { "X-Key" = "MY_KEY" }.',
            )
        return tuple(headers.items())

    def _vram(self) -> int | None:
        value = self._entry.get("vram")
        if value is None:
            return None
        try:
            size = parse_bytes(value)
        except ValueError as exc:
            raise self.error(f"vram: {exc}.", "vram") from exc
        if not _LEAST_VRAM <= size <= _MOST_VRAM:
            text = f"vram is a size such as '24GB', from 64 MiB to 1 PiB, not {value!r}."
            raise self.error(text, "vram")
        return size


def ollama_url(env: Mapping[str, str]) -> str:
    """Return the address in `OLLAMA_HOST`, read as Ollama does (envconfig.Host), or its default.

    An address that means "every interface" is one to listen on; a client takes loopback.
    """
    text = (env.get("OLLAMA_HOST") or "127.0.0.1:11434").strip().strip("\"'")
    scheme, separator, rest = text.partition("://")
    if not separator:
        scheme, rest = "http", text
    default_port = {"http": "80", "https": "443"}.get(scheme, "11434") if separator else "11434"
    host, _, path = rest.partition("/")
    # A name and password there would be shown wherever the address is.
    host = host.rpartition("@")[2]
    name, _, port = host.rpartition(":")
    if host.endswith("]") or (host.count(":") != 1 and not host.startswith("[")):
        name, port = host, default_port
    if not (port.isascii() and port.isdigit() and int(port) <= 65535):
        port = default_port
    if ":" in name and not name.startswith("["):
        name = f"[{name}]"
    name = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]", "": "127.0.0.1"}.get(name, name)
    return f"{scheme}://{name}:{port}" + (f"/{path.rstrip('/')}" if path.strip("/") else "")
