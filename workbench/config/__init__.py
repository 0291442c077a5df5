"""The configuration: one table of settings, four sources, and where each value came from.

Order: flag > environment > `state.json` > `workbench.toml` > default.  The toml file is the user's:
it is read from `WORKBENCH_CONFIG`, else `<data_dir>/workbench.toml`, and never written.  What was
changed at run time stands in `<data_dir>/state.json`, which the server alone writes.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import platformdirs

from workbench.config.alerts import ALERT_KINDS, AlertRule, read_alerts
from workbench.config.backends import (
    EMBEDDED,
    SWAP_MODES,
    BackendConfig,
    SwapMode,
    is_loopback,
    is_this_machine,
    ollama_url,
    read_backends,
)
from workbench.config.settings import SETTINGS, Setting, convert_value
from workbench.config.tokens import NamedToken, new_token, read_tokens, token_hash
from workbench.config.toml_file import TomlFile
from workbench.errors import ConfigError

__all__ = [
    "ALERT_KINDS",
    "EMBEDDED",
    "SETTINGS",
    "SWAP_MODES",
    "AlertRule",
    "BackendConfig",
    "Config",
    "NamedToken",
    "Setting",
    "SwapMode",
    "changed_settings",
    "convert_value",
    "is_loopback",
    "is_this_machine",
    "load_config",
    "new_token",
    "ollama_url",
    "token_hash",
]


@dataclass(frozen=True)
class Config:
    """The configuration in force.

    Attributes:
        sources: Where each value came from.
        fallbacks: Value and source of what was changed at run time, as they would be without that.
    """

    data_dir: Path
    url: str | None
    token: str | None = field(repr=False)
    host: str
    port: int
    idle_exit_s: float
    allow_remote: bool
    allowed_hosts: tuple[str, ...]
    allowed_origins: tuple[str, ...]
    open_ollama_api: bool
    max_body_bytes: int
    max_header_bytes: int
    slow_client_s: float
    engine_kind: Literal["xllamacpp", "llama-server"]
    engine_llama_server: str
    engine_models_dir: Path
    engine_load_timeout_s: float
    engine_keep_alive_s: float
    engine_max_loaded: int
    engine_memory_bytes: int
    queue_interactive_wait_s: float
    queue_batch_wait_s: float
    queue_concurrency: int
    gpu_warn_pct: int
    gpu_warn_bytes: int
    gpu_warn_clear_pct: int
    metrics_record_text: Literal["all", "own", "none"]
    metrics_fsync: bool
    metrics_retention_days: tuple[str, ...]
    metrics_chunk_gaps: bool
    metrics_prometheus: bool
    first_token_s: float
    stall_s: float
    default_model: str | None
    backends: tuple[BackendConfig, ...]
    alerts: tuple[AlertRule, ...]
    tokens: tuple[NamedToken, ...]
    file: Path
    sources: Mapping[str, str] = field(default_factory=dict)
    fallbacks: Mapping[str, tuple[Any, str]] = field(default_factory=dict)

    def described(self) -> list[dict[str, Any]]:
        """Return every setting as `{name, value, source}`; a token is shown as set or not."""
        rows = []
        for setting in SETTINGS:
            value = getattr(self, setting.field)
            if setting.key == "token":
                value = "set" if value else None
            if isinstance(value, Path):
                value = str(value)
            rows.append({"name": setting.key, "value": value, "source": self.sources[setting.key]})
        rows += [
            {"name": f"swap.{item.name}", "value": item.swap, "source": item.swap_source}
            for item in self.backends
        ]
        return rows


def load_config(
    *, flags: Mapping[str, object] | None = None, env: Mapping[str, str] | None = None
) -> Config:
    """Read the configuration.

    Args:
        flags: Values given on the command line, by setting key; `None` values are left out.
        env: Environment to read instead of the process's own.

    Raises:
        ConfigError: When a value cannot be used; names the file, line and key.
    """
    environment = os.environ if env is None else env
    given = {key: value for key, value in (flags or {}).items() if value is not None}
    data_dir, data_source = _data_dir(given, environment)
    named = environment.get("WORKBENCH_CONFIG")
    toml = TomlFile(Path(named or data_dir / "workbench.toml"), named=bool(named))
    changed = changed_settings(data_dir)
    values: dict[str, Any] = {"data_dir": data_dir}
    sources = {"data_dir": data_source}
    fallbacks: dict[str, tuple[Any, str]] = {}
    for setting in SETTINGS[1:]:
        value, source = _pick(setting, given, environment, changed, toml)
        values[setting.field] = value
        sources[setting.key] = source
        if source == "state":
            fallbacks[setting.key] = _pick(setting, given, environment, {}, toml)
    if values["engine_models_dir"] is None:
        values["engine_models_dir"] = data_dir / "models"
    toml.refuse_unknown()
    plain = read_backends(toml, environment)
    fallbacks |= {f"swap.{item.name}": (item.swap, item.swap_source) for item in plain}
    backends = tuple(_with_swap(item, changed) for item in plain)
    return Config(
        **values,
        backends=backends,
        alerts=read_alerts(toml, [item.name for item in backends]),
        tokens=read_tokens(toml),
        file=toml.path,
        sources=sources,
        fallbacks=fallbacks,
    )


_FLAG = "command line"


def _data_dir(flags: Mapping[str, object], env: Mapping[str, str]) -> tuple[Path, str]:
    setting = SETTINGS[0]
    source = "default"
    folder = Path(platformdirs.user_data_dir("workbench", appauthor=False))
    if "data_dir" in flags:
        source = "flag"
        folder = _convert(setting, str(flags["data_dir"]), where=_FLAG)
    elif env.get("WORKBENCH_DATA_DIR"):
        source = "environment WORKBENCH_DATA_DIR"
        folder = _convert(setting, env["WORKBENCH_DATA_DIR"], where=source)
    there = next((path for path in (folder, *folder.parents) if path.exists()), folder)
    if there.exists() and not there.is_dir():
        raise ConfigError(
            f"the data folder {folder} cannot be: {there} is a file.",
            key="data_dir",
            hint="Choose a folder: --data-dir or WORKBENCH_DATA_DIR.",
        )
    return folder, source


def changed_settings(data_dir: Path) -> dict[str, Any]:
    """Return what was changed at run time and is remembered in `state.json`, by setting key."""
    try:
        values = json.loads((data_dir / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        # None yet, or one that the server will put aside.
        return {}
    changed = values.get("settings") if isinstance(values, dict) else None
    return changed if isinstance(changed, dict) else {}


def _with_swap(backend: BackendConfig, changed: Mapping[str, Any]) -> BackendConfig:
    mode = changed.get(f"swap.{backend.name}")
    return replace(backend, swap=mode, swap_source="state") if mode in SWAP_MODES else backend


def _pick(
    setting: Setting,
    flags: Mapping[str, object],
    env: Mapping[str, str],
    changed: Mapping[str, Any],
    toml: TomlFile,
) -> tuple[Any, str]:
    if setting.key in flags:
        return _convert(setting, flags[setting.key], where=_FLAG), "flag"
    if setting.env and env.get(setting.env):
        where = f"environment {setting.env}"
        return _convert(setting, env[setting.env], where=where), where
    if setting.changeable and setting.key in changed:
        try:
            return convert_value(setting, changed[setting.key]), "state"
        except ValueError:
            # Written by another version: what the user's file says counts.
            pass
    if "." in setting.key:
        value = toml.get(setting.key)
        if value is not None:
            return toml.convert(setting, value), toml.path.name
    return setting.default, "default"


def _convert(setting: Setting, value: object, *, where: str) -> Any:
    try:
        return convert_value(setting, value)
    except ValueError as exc:
        raise ConfigError(f"{where}: {exc}", key=setting.key) from exc
