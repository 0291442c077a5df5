"""The table of settings, and what a value of each kind looks like."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from workbench.config.addresses import holds_login, is_address, is_host, is_origin
from workbench.units import format_bytes, parse_bytes, parse_go_duration


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting.

    Attributes:
        key: Name in `workbench.toml`, as `section.name`; without a dot it cannot stand there.
        kind: `str`, `int`, `bool`, `list` (of text), `seconds`, `bytes`, `path` or
            `choice`.
        env: Environment variable, or an empty string.
        doc: What it does; the reference page is made from it.
        least: Smallest number that makes sense.
        largest: Largest number that makes sense.
        changeable: Whether it can be changed while the server runs.
    """

    key: str
    kind: str
    default: Any
    env: str
    doc: str
    choices: tuple[str, ...] = ()
    least: float = 0
    largest: float = sys.float_info.max
    changeable: bool = False

    @property
    def field(self) -> str:
        """Name of the attribute of `Config`."""
        return self.key.replace(".", "_").removeprefix("server_").removeprefix("client_")

    @property
    def wanted(self) -> str:
        """What a value must be, with its range, in words."""
        least, largest = _shown(self, self.least), _shown(self, self.largest)
        if self.key == "server.port":
            return f"a port from {least} to {largest}"
        return {
            "str": "text",
            "path": "a path",
            "int": f"a whole number from {least} to {largest}",
            "bytes": f"from {least} to {largest}, a number of bytes or a size as '8GB'",
            "seconds": f"a number of seconds from {least} to {largest}, or a duration as '10m'",
            "bool": "true or false",
            "list": "a list of text",
            "choice": "one of " + ", ".join(self.choices),
        }[self.kind]


_DAY_S = 86400.0
_YEAR_S = 365 * _DAY_S
_MEMORY_BYTES = 1 << 50
_MOST_DAYS = 36500

SETTINGS: tuple[Setting, ...] = (
    Setting(
        "data_dir",
        "path",
        None,
        "WORKBENCH_DATA_DIR",
        "Folder of conversations, models, state and logs; the user data folder unless set.",
    ),
    Setting(
        "url",
        "str",
        None,
        "WORKBENCH_URL",
        "Address of a running server; with it no server is ever started.",
    ),
    Setting(
        "token",
        "str",
        None,
        "WORKBENCH_TOKEN",
        "Token of the server; a server without one makes a new one at each start.",
    ),
    Setting(
        "server.host",
        "str",
        "127.0.0.1",
        "WORKBENCH_HOST",
        "Address the server listens on; other than loopback needs `allow_remote`.",
    ),
    Setting(
        "server.port",
        "int",
        11500,
        "WORKBENCH_PORT",
        "Port the server listens on; 0 takes a free one. A taken default port is replaced "
        "by a free one, a taken port that was asked for is an error.",
        largest=65535,
    ),
    Setting(
        "server.idle_exit_s",
        "seconds",
        1800.0,
        "WORKBENCH_IDLE_EXIT",
        "Seconds without work after which a server that was started by itself ends; 0 is never.",
        largest=_YEAR_S,
    ),
    Setting(
        "server.allow_remote",
        "bool",
        False,
        "",
        "Whether the server may listen on an address that other machines reach.",
    ),
    Setting(
        "server.allowed_hosts",
        "list",
        (),
        "",
        "Host names, besides loopback, that requests may name; needed with `allow_remote`.",
    ),
    Setting(
        "server.allowed_origins",
        "list",
        (),
        "",
        "Web origins, besides loopback, whose pages may call the server and open its sockets.",
    ),
    Setting(
        "server.open_ollama_api",
        "bool",
        False,
        "WORKBENCH_OPEN_OLLAMA_API",
        "Whether `/api/*` and `/v1/*` answer without a token on loopback, "
        "for Ollama clients that cannot send one.",
        changeable=True,
    ),
    Setting(
        "server.max_body_bytes",
        "bytes",
        64 << 20,
        "",
        "Largest JSON body accepted; a larger one gets status 413. Blob uploads are not limited.",
        least=1000,
        largest=16 << 30,
    ),
    Setting(
        "server.max_header_bytes",
        "bytes",
        64 << 10,
        "",
        "Largest request line and headers together; larger ones get status 431.",
        least=4 << 10,
        largest=1 << 20,
    ),
    Setting(
        "server.slow_client_s",
        "seconds",
        60.0,
        "",
        "Seconds a client may take for the headers of a request, and may send less than a "
        "kilobyte per second of its body (then status 408), or read nothing of its answer.",
        least=1,
        largest=3600,
    ),
    Setting(
        "engine.kind",
        "choice",
        "xllamacpp",
        "WORKBENCH_ENGINE",
        "What runs embedded models: the xllamacpp wheel, or a `llama-server` binary.",
        ("xllamacpp", "llama-server"),
    ),
    Setting(
        "engine.llama_server",
        "str",
        "llama-server",
        "WORKBENCH_LLAMA_SERVER",
        "The `llama-server` binary: a name on PATH or a path; used with `engine.kind`.",
    ),
    Setting(
        "engine.models_dir",
        "path",
        None,
        "WORKBENCH_MODELS_DIR",
        "Folder of GGUF files; `<data_dir>/models` unless set.",
    ),
    Setting(
        "engine.load_timeout_s",
        "seconds",
        300.0,
        "",
        "Seconds after which loading an embedded model is given up.",
        least=0.001,
        largest=_DAY_S,
    ),
    Setting(
        "engine.keep_alive_s",
        "seconds",
        300.0,
        "",
        "Seconds an embedded model stays loaded after its last request, unless the request says.",
        changeable=True,
        largest=_YEAR_S,
    ),
    Setting(
        "engine.max_loaded",
        "int",
        3,
        "",
        "How many embedded models may be loaded at once.",
        changeable=True,
        least=1,
        largest=1000,
    ),
    Setting(
        "engine.memory_bytes",
        "bytes",
        0,
        "",
        "Bytes that the processes of embedded models may take together, or a size as '8GB'; "
        "0 is the memory of the machine.",
        changeable=True,
        largest=_MEMORY_BYTES,
    ),
    Setting(
        "queue.interactive_wait_s",
        "seconds",
        5.0,
        "",
        "Seconds an interactive request waits for another model's requests before its own model "
        "is next.",
        changeable=True,
        largest=_DAY_S,
    ),
    Setting(
        "queue.batch_wait_s",
        "seconds",
        60.0,
        "",
        "Seconds a batch request waits for another model's requests before its own model is next.",
        changeable=True,
        largest=_DAY_S,
    ),
    Setting(
        "queue.concurrency",
        "int",
        4,
        "",
        "How many requests run on one model at the same time; more wait here in order.",
        changeable=True,
        least=1,
        largest=1000,
    ),
    Setting(
        "gpu.warn_pct",
        "int",
        10,
        "",
        "Percent of a GPU's memory below which free memory is called low.",
        largest=100,
        changeable=True,
    ),
    Setting(
        "gpu.warn_bytes",
        "bytes",
        1 << 30,
        "",
        "Bytes below which a GPU's free memory is called low, or a size as '1GB'.",
        changeable=True,
        largest=_MEMORY_BYTES,
    ),
    Setting(
        "gpu.warn_clear_pct",
        "int",
        15,
        "",
        "Percent of a GPU's memory above which free memory is no longer called low.",
        largest=100,
        changeable=True,
    ),
    Setting(
        "metrics.record_text",
        "choice",
        "own",
        "WORKBENCH_RECORD_TEXT",
        "Whose prompts and answers the metrics keep: those of every client, those that the "
        "workbench's own clients asked for, or none. Hashes and figures are always kept.",
        ("all", "own", "none"),
    ),
    Setting(
        "metrics.fsync",
        "bool",
        False,
        "",
        "Whether each row of the metrics is on the disk before work goes on, "
        "so that it survives a power cut.",
    ),
    Setting(
        "metrics.retention_days",
        "list",
        (),
        "",
        "Days that rows of the metrics are kept, for every table as `90` or for one as "
        "`gpu_samples=30`; without it they are kept for ever. Conversations are not touched.",
    ),
    Setting(
        "metrics.chunk_gaps",
        "bool",
        False,
        "",
        "Whether the time between every two pieces of an answer is kept, for a chart of them; "
        "about 10 bytes each.",
    ),
    Setting(
        "metrics.prometheus",
        "bool",
        False,
        "WORKBENCH_PROMETHEUS",
        "Whether `/metrics` answers in the text format of Prometheus.",
    ),
    Setting(
        "client.first_token_s",
        "seconds",
        300.0,
        "",
        "Seconds to wait for the first token once the model is loaded.",
        least=0.001,
        largest=_DAY_S,
    ),
    Setting(
        "client.stall_s",
        "seconds",
        60.0,
        "",
        "Seconds to wait for the next token.",
        least=0.001,
        largest=_DAY_S,
    ),
    Setting(
        "client.default_model",
        "str",
        None,
        "WORKBENCH_MODEL",
        "Model to use when none is named.",
    ),
)
"""Every setting; the reference page and `workbench doctor` are made from this table."""


def convert_value(setting: Setting, value: object) -> Any:
    """Return `value` as the setting's kind; text is parsed, so that environments work.

    Raises:
        ValueError: When it is of another kind.
    """
    kind = setting.kind
    wrong = ValueError(f"{setting.key} must be {setting.wanted}, not {value!r}.")
    if kind == "list":
        if isinstance(value, str):
            value = [part.strip() for part in value.split(",") if part.strip()]
        if not isinstance(value, list | tuple) or not all(isinstance(item, str) for item in value):
            raise wrong
        for item in value:
            _check_item(setting.key, item)
        return tuple(value)
    if kind in ("str", "path", "choice"):
        if not isinstance(value, str | Path) or not str(value):
            raise wrong
        if kind == "choice" and value not in setting.choices:
            raise wrong
        if kind == "path":
            return _full_path(value, wrong)
        _check_text(setting.key, str(value))
        return str(value)
    if kind == "bool":
        flag = value if isinstance(value, bool) else _BOOLS.get(str(value).lower())
        if flag is None:
            raise wrong
        return flag
    number = None if isinstance(value, bool) else _number(kind, value)
    if number is None or not setting.least <= number <= setting.largest:
        raise wrong
    return number


def _full_path(value: str | Path, wrong: ValueError) -> Path:
    """Return a path from the root; raises `wrong` for one that no system has."""
    try:
        path = Path(value).expanduser().absolute()
    except RuntimeError:
        # "~name" of nobody on this machine.
        raise wrong from None
    if "\0" in str(path):
        raise wrong
    return path


def _check_text(key: str, text: str) -> None:
    """Refuse a token that no header can carry, and what is no address; shows no secret.

    Raises:
        ValueError: What to do instead.
    """
    if key == "token" and not re.fullmatch(r"[!-~]+", text):
        raise ValueError("token must be letters, digits and signs of ASCII, without spaces.")
    if key == "url" and holds_login(text):
        raise ValueError("url must not hold a name or password; a token goes into WORKBENCH_TOKEN.")
    if key == "url" and not is_address(text):
        raise ValueError(f"url must be http://name:port, not {text!r}.")
    if key == "server.host" and not is_host(text):
        raise ValueError(
            f"{key} must be a name or an address, without http:// and port, not {text!r}."
        )


def _check_item(key: str, item: str) -> None:
    """Refuse an entry of a list that would never count.

    Raises:
        ValueError: What it must be.
    """
    if key == "server.allowed_hosts" and not is_host(item):
        raise ValueError(f"{key} holds names or addresses without http:// and port, not {item!r}.")
    if key == "server.allowed_origins" and not is_origin(item):
        raise ValueError(f"{key} holds origins as 'https://lab.example:8443', not {item!r}.")
    if key == "metrics.retention_days":
        days = item.rpartition("=")[2].strip()
        if not (days.isascii() and days.isdecimal() and 1 <= int(days[:9]) <= _MOST_DAYS):
            raise ValueError(
                f"{key} holds days from 1 to {_MOST_DAYS}, as '90' or 'gpu_samples=30', "
                f"not {item!r}."
            )


_BOOLS = {"1": True, "true": True, "yes": True, "on": True} | {
    "0": False,
    "false": False,
    "no": False,
    "off": False,
}


def _number(kind: str, value: object) -> int | float | None:
    """Return a whole number, bytes, or a number of seconds; `None` when it is none of them."""
    try:
        if kind == "bytes":
            return parse_bytes(cast(Any, value))
        if kind == "int":
            whole = not isinstance(value, float) or value.is_integer()
            return int(cast(Any, value)) if whole else None
        if kind == "seconds" and isinstance(value, str) and not re.fullmatch(r"[\d.]+", value):
            return parse_go_duration(value)
        return float(cast(Any, value))
    except (TypeError, ValueError, OverflowError):
        return None


def _shown(setting: Setting, number: float) -> str:
    if setting.kind == "bytes":
        return format_bytes(number)
    return f"{number:.0f}" if number == int(number) else f"{number:g}"
