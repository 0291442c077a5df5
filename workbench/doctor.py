"""`workbench doctor`: what is installed, configured and found, and what is wrong."""

from __future__ import annotations

import asyncio
import os
import platform
import shutil
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

from workbench import resources
from workbench._version import __version__
from workbench.client.door import open_client
from workbench.config import BackendConfig, Config, load_config
from workbench.errors import ConfigError, WorkbenchError
from workbench.metrics import open as open_metrics
from workbench.metrics.layout import metrics_dir, store_bytes
from workbench.runtime import find_server
from workbench.server.backends.ollama import OllamaBackend
from workbench.server.engine.library import ModelLibrary
from workbench.server.gpu import read_gpus
from workbench.units import format_bytes

_PACKAGES = ("xllamacpp", "jupyterlab", "ipykernel", "papermill", "httpx", "starlette", "uvicorn")
_CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
_ANSWER_S = 5.0
_LITTLE_SPACE_BYTES = 500 * 1024 * 1024

Report = dict[str, Any]


def examine(env: Mapping[str, str] | None = None) -> Report:
    """Return everything `doctor` prints, as JSON values; starts nothing and shows no token."""
    environment = os.environ if env is None else env
    problems: list[dict[str, Any]] = []
    config = _config(environment, problems)
    report: Report = {
        "version": __version__,
        "python": platform.python_version(),
        "executable": sys.executable,
        "platform": platform.platform(),
        "packages": [{"name": name, "version": _version(name)} for name in _PACKAGES],
        "config_file": None if config is None else str(config.file),
        "config": [] if config is None else config.described(),
        "server": None,
        "backends": [],
        "models": [],
        "metrics": None,
        "gpu": read_gpus().as_json(),
        "chromium": next(filter(None, map(shutil.which, _CHROMIUM)), None),
        "problems": problems,
    }
    if config is not None:
        report["server"] = _server(config, problems)
        report["backends"] = asyncio.run(_backends(config, problems))
        report["models"] = _models(config, problems)
        report["metrics"] = _metrics(config, problems)
        _check_folder(config, problems)
        _check_engine(config, problems)
    if not (resources.notebooks_dir() / "01_chat.ipynb").is_file():
        _add(problems, "notebooks", "The bundled notebooks are missing.", "Install it again.")
    return report


def _add(
    problems: list[dict[str, Any]],
    name: str,
    message: str,
    hint: str | None = None,
    *,
    stops_work: bool = True,
) -> None:
    problem = {"name": name, "message": message, "hint": hint, "stops_work": stops_work}
    problems.append(problem)


def _config(env: Mapping[str, str], problems: list[dict[str, Any]]) -> Config | None:
    try:
        return load_config(env=env)
    except ConfigError as exc:
        _add(problems, "configuration", exc.message, exc.hint)
        return None


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _server(config: Config, problems: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the server that runs, if one does."""
    record = None if config.url is not None else find_server(config.data_dir)
    if config.url is None and record is None:
        return {"running": False, "url": None, "version": None, "pid": None}
    url = _shown_url(config.url or (record.url if record else ""))
    try:
        info = asyncio.run(_info(config))
    except (WorkbenchError, TimeoutError) as exc:
        text = str(exc) or "It did not answer in time."
        _add(problems, "server", f"{url}: {text}", "Try: workbench stop")
        return {"running": False, "url": url, "version": None, "pid": None}
    if info.version != __version__:
        text = f"The server has version {info.version}, this is {__version__}."
        _add(problems, "server", text, "Restart it: workbench stop", stops_work=False)
    return {"running": True, "url": url, "version": info.version, "pid": info.pid}


async def _info(config: Config) -> Any:
    client = open_client(config, spawn=False)
    try:
        async with asyncio.timeout(_ANSWER_S):
            return await client.info()
    finally:
        await client.aclose()


async def _backends(config: Config, problems: list[dict[str, Any]]) -> list[dict[str, Any]]:
    hosts = [entry for entry in config.backends if entry.kind == "ollama"]
    found = await asyncio.gather(*(_ask_ollama(entry) for entry in hosts))
    for entry, facts in zip(hosts, found, strict=True):
        # One that nobody configured may be missing: the embedded models need no Ollama.
        if entry.source != "found" and not facts["reachable"]:
            text = f"{entry.name}: {facts['error']}"
            _add(problems, "backend", text, "Start it, or correct its url.", stops_work=False)
    return found


async def _ask_ollama(entry: BackendConfig) -> dict[str, Any]:
    url = entry.url or ""
    about = {"name": entry.name, "kind": entry.kind, "url": _shown_url(url), "source": entry.source}
    try:
        backend = OllamaBackend(entry.name, url, token_env=entry.token_env)
    except Exception as exc:
        # Whatever an address does to the client, doctor goes on; the text of the error may hold the
        # password that stands in the address.
        reason = f"not a usable address ({type(exc).__name__})"
        return {**about, "reachable": False, "version": None, "error": reason}
    try:
        facts = await backend.facts()
    finally:
        await backend.close()
    error = None if facts.error is None else facts.error.replace(url, _shown_url(url))
    return {**about, "reachable": facts.reachable, "version": facts.version, "error": error}


def _shown_url(url: str) -> str:
    """Return an address without the name and password that may stand in it."""
    scheme, separator, rest = url.partition("://")
    host, slash, path = rest.partition("/")
    return f"{scheme}{separator}{host.rpartition('@')[2]}{slash}{path}" if separator else url


def _models(config: Config, problems: list[dict[str, Any]]) -> list[dict[str, Any]]:
    bundled = resources.models_dir()
    try:
        names = ModelLibrary(config.engine_models_dir, bundled_dirs=(bundled,)).names()
    except OSError as exc:
        _add(problems, "models", f"{config.engine_models_dir} cannot be read: {exc.strerror}.")
        return []
    if not any(bundled.glob("*.gguf")):
        text = f"The bundled toy models are not in {bundled}."
        _add(problems, "models", text, "Install it again.", stops_work=not names)
    return [{"name": name} for name in names]


def _metrics(config: Config, problems: list[dict[str, Any]]) -> dict[str, Any]:
    """Return where the metrics are and how large; files that are left out are problems."""
    folder = metrics_dir(config.data_dir)
    try:
        with open_metrics(folder) as metrics:
            left_out = metrics.problems()
    except WorkbenchError as exc:
        _add(problems, "metrics", exc.message, exc.hint, stops_work=False)
        left_out = []
    for problem in left_out:
        text = f"{problem.file} is left out: {problem.reason}."
        _add(problems, "metrics", text, stops_work=False)
    return {"folder": str(folder), "size_bytes": store_bytes(folder)}


def _check_folder(config: Config, problems: list[dict[str, Any]]) -> None:
    folder = config.data_dir
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    hint = "Set WORKBENCH_DATA_DIR to another folder."
    if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
        _add(problems, "data folder", f"{config.data_dir} cannot be written.", hint)
        return
    free = shutil.disk_usage(folder).free
    if free < _LITTLE_SPACE_BYTES:
        text = f"Only {format_bytes(free)} are free at {folder}."
        _add(problems, "data folder", text, "Free some space.", stops_work=False)


def _check_engine(config: Config, problems: list[dict[str, Any]]) -> None:
    if config.engine_kind == "llama-server":
        if shutil.which(config.engine_llama_server) is None:
            text = f"There is no program {config.engine_llama_server!r}."
            _add(problems, "engine", text, "Correct engine.llama_server, or remove engine.kind.")
    elif _version("xllamacpp") is None:
        text = "The package xllamacpp is not installed: no embedded model can run."
        _add(problems, "engine", text, "Install the workbench again.")


def as_text(report: Report) -> str:
    """Return a report for reading."""
    lines = [
        f"workbench {report['version']}, Python {report['python']}, {report['platform']}",
        f"Python: {report['executable']}",
        "",
        "Packages",
        *_rows([(p["name"], p["version"] or "missing") for p in report["packages"]]),
        "",
        f"Configuration ({_file_state(report['config_file'])})",
        *_rows([(c["name"], _shown(c["value"]), f"({c['source']})") for c in report["config"]]),
        "",
        "Found",
        *_rows(_found(report)),
        "",
    ]
    if not report["problems"]:
        return "\n".join([*lines, "Nothing is wrong."])
    lines.append("Problems")
    for problem in report["problems"]:
        kind = "stops the work" if problem["stops_work"] else "warning"
        hint = f" {problem['hint']}" if problem["hint"] else ""
        lines.append(f"  {problem['name']} ({kind}): {problem['message']}{hint}")
    return "\n".join(lines)


def _file_state(file: str | None) -> str:
    if file is None:
        return "not readable, see below"
    return file if Path(file).exists() else f"no file {file}"


def _found(report: Report) -> list[tuple[str, ...]]:
    server = report["server"] or {"running": False, "url": None}
    where = str(server["url"]) if server["running"] else "not running"
    rows: list[tuple[str, ...]] = [("server", where)]
    for backend in report["backends"]:
        state = backend["version"] or "reachable" if backend["reachable"] else backend["error"]
        if not backend["reachable"] and backend["source"] == "found":
            state = "not there (embedded models need none)"
        rows.append((backend["name"], backend["url"], state))
    gpu = report["gpu"]
    rows += [
        (f"GPU {device['index']}", device["name"] or "unknown", _memory(device))
        for device in gpu["devices"]
    ]
    if gpu["reason"]:
        rows.append(("GPU", f"none: {gpu['reason']}"))
    if report["metrics"] is not None:
        size = format_bytes(report["metrics"]["size_bytes"])
        rows.append(("metrics", report["metrics"]["folder"], size))
    rows.append(("chromium", report["chromium"] or "none (needed only by the browser tests)"))
    names = [model["name"].removesuffix(":latest") for model in report["models"]]
    rows.append(("GGUF models", ", ".join(names) or "none"))
    return rows


def _memory(device: Mapping[str, Any]) -> str:
    if device["total_bytes"] is None:
        return f"memory unknown: {device['reason']}"
    return f"{format_bytes(device['free_bytes'])} of {format_bytes(device['total_bytes'])} free"


def _rows(rows: list[tuple[str, ...]]) -> list[str]:
    if not rows:
        return ["  (none)"]
    width = max(len(row[0]) for row in rows)
    return [f"  {row[0].ljust(width)}  {'  '.join(row[1:])}" for row in rows]


def _shown(value: object) -> str:
    if isinstance(value, tuple | list):
        return ", ".join(map(str, value)) or "none"
    return "not set" if value is None else str(value)
