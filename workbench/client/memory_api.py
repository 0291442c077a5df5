"""Typed calls about models and memory: what is loaded, what fits, who waits, what is set."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from types import EllipsisType
from typing import Any
from urllib.parse import urlencode

from workbench.client.decode import as_object, as_table, convert, own
from workbench.client.http import HttpClient
from workbench.client.memory_values import (
    Fit,
    GpuStatus,
    LeaseInfo,
    PullProgress,
    QueueStatus,
    ServerEvent,
    SettingValue,
)
from workbench.client.values import DeleteResult, ModelInfo, RunningModel, Table, UnloadResult
from workbench.errors import ConfigError, StreamBroken
from workbench.messages import GenerateConfig, nearest_names
from workbench.wire.ollama import error_from_body

# Questions about the server and its models are answered from memory or by one short call.
QUICK_S = 60.0

PLAIN = GenerateConfig()


class MemoryClient(HttpClient):
    """The calls of `/workbench/v1` about models and memory."""

    async def models(self) -> Table[ModelInfo]:
        """Return every installed model of every backend."""
        return as_table(await self._get("models"), ModelInfo, empty="no models")

    async def loaded(self) -> Table[RunningModel]:
        """Return the models in memory."""
        return as_table(await self._get("models/loaded"), RunningModel, empty="nothing is loaded")

    async def load(
        self,
        model: str,
        *,
        config: GenerateConfig = PLAIN,
        swap: bool = False,
        force: bool = False,
    ) -> RunningModel:
        """Load a model and return it as it is in memory; takes as long as the load.

        The server goes on with it when this is cancelled.

        Args:
            config: Its `keep_alive` and runner options are used.
            swap: Whether others may leave for it where the server would not decide that alone.
            force: Whether pinned and leased ones may leave too, when they are idle.

        Raises:
            LoadFailed: When the engine could not load it.
            InsufficientMemory: When it does not fit.
            SwapRequired: When others would have to leave and `swap` is not given.
            UnloadFailed: When one that had to leave is still in memory.
        """
        body: dict[str, Any] = {"model": model}
        wire = config.to_wire()
        body.update({name: wire[name] for name in ("options", "keep_alive") if name in wire})
        body.update(_given(swap=swap or None, force=force or None))
        return convert(await self.request_json("POST", own("load"), body), RunningModel)

    async def unload(self, model: str, *, force: bool = False) -> UnloadResult:
        """Unload a model once its answers have ended, and return the verdict.

        Args:
            force: Cancel its answers in place of waiting for them.
        """
        body = {"model": model, **_given(force=force or None)}
        return convert(await self.request_json("POST", own("unload"), body), UnloadResult)

    async def pin(self, model: str, *, force: bool = False) -> ModelInfo:
        """Keep a model in memory whatever else is asked for, and return its row.

        Args:
            force: Pin it even where the pinned ones would no longer fit together.
        """
        body = {"model": model, **_given(force=force or None)}
        return convert(await self.request_json("POST", own("pin"), body), ModelInfo)

    async def unpin(self, model: str) -> ModelInfo:
        """Let a model leave memory again when room is needed, and return its row."""
        return convert(await self.request_json("POST", own("unpin"), {"model": model}), ModelInfo)

    async def prefer(
        self,
        model: str,
        *,
        priority: int | EllipsisType | None = ...,
        hot: bool | EllipsisType = ...,
        keep_alive: float | str | EllipsisType | None = ...,
        max_idle: float | str | EllipsisType | None = ...,
    ) -> ModelInfo:
        """Set how a model is treated, and return its row; what is not given stays.

        Args:
            priority: 0 to 9; 9 stays longest, `None` is the default 5.
            hot: Load it when the server starts, and again when memory allows.
            keep_alive: Seconds or a duration it stays without use; negative is for ever and
                `None` the default.
            max_idle: Seconds or a duration without use after which it is unloaded in any case.
        """
        wanted = {
            "priority": priority,
            "hot": hot,
            "keep_alive": keep_alive,
            "max_idle": max_idle,
        }
        body = {"model": model, **{k: v for k, v in wanted.items() if v is not ...}}
        return convert(await self.request_json("PATCH", own("models"), body), ModelInfo)

    async def fits(self, model: str, *, num_ctx: int | None = None) -> Fit:
        """Return whether a model fits into memory, alone and beside what is loaded."""
        query = urlencode(_given(model=model, num_ctx=num_ctx))
        return convert(await self._get(f"fit?{query}"), Fit)

    async def gpu(self) -> GpuStatus:
        """Return the memory of every device, and who uses it."""
        return convert(await self._get("gpu"), GpuStatus)

    async def queue(self) -> QueueStatus:
        """Return who is served, who waits, and the planned order."""
        return convert(await self._get("queue"), QueueStatus)

    async def settings(self) -> Table[SettingValue]:
        """Return every setting of the server, with where its value comes from."""
        return _settings(await self._get("settings"))

    async def set(self, name: str, value: object) -> SettingValue:
        """Change a setting while the server runs, and return it; it is remembered.

        Args:
            value: `None` goes back to the file or the default.

        Raises:
            ConfigError: When there is no such setting, or it cannot have that value.
        """
        listed = await self.settings()
        named_setting(listed, name)
        return named_setting(
            _settings(await self.request_json("PATCH", own("settings"), {name: value})), name
        )

    async def leases(self) -> Table[LeaseInfo]:
        """Return who keeps which models in memory."""
        body = as_object(await self._get("leases"))
        return Table(convert(body.get("leases"), list[LeaseInfo]), empty="no leases")

    async def acquire_lease(
        self, models: Sequence[str], *, ttl_s: float, holder: str | None = None
    ) -> LeaseInfo:
        """Keep models in memory for `ttl_s` seconds, and longer with each `renew_lease`."""
        body = {"models": list(models), "ttl_s": ttl_s, **_given(holder=holder)}
        return convert(await self.request_json("POST", own("leases"), body), LeaseInfo)

    async def renew_lease(self, lease_id: str, *, ttl_s: float | None = None) -> LeaseInfo:
        """Say that the models of a lease are still needed.

        Raises:
            ResponseError: With status 404 when it has expired.
        """
        body = _given(ttl_s=ttl_s)
        path = own(f"leases/{lease_id}")
        answer = await self.request_json("POST", path, body, timeout_s=QUICK_S)
        return convert(answer, LeaseInfo)

    async def release_lease(self, lease_id: str) -> None:
        """End a lease; one that has expired is no error."""
        await self.request_json("DELETE", own(f"leases/{lease_id}"), timeout_s=QUICK_S)

    async def pull(self, model: str) -> AsyncGenerator[PullProgress, None]:
        """Download a model and yield how far it is.

        Closing the iterator cancels the download; the next one goes on where it stopped.

        Raises:
            WorkbenchError: When it failed; the disk is checked before anything is fetched.
        """
        ended = False
        lines = self.lines("POST", own("pull"), {"model": model})
        async with contextlib.aclosing(lines):
            async for line in lines:
                if "error" in line:
                    raise error_from_body(None, line)
                progress = convert(line, PullProgress)
                ended = progress.status == "success"
                yield progress
        if not ended:
            raise StreamBroken("the download ended before its last line")

    async def delete(self, model: str) -> DeleteResult:
        """Unload a model, see that it is gone, and delete it from the disk."""
        return convert(
            await self.request_json("DELETE", own("models"), {"model": model}), DeleteResult
        )

    async def add_model(self, path: str | Path, *, name: str | None = None) -> ModelInfo:
        """Make a GGUF file a model of the embedded engine; the file stays where it is.

        Args:
            path: On the server's machine.
            name: `None` takes the name of the file.
        """
        body = {"path": _absolute(path), **_given(name=name)}
        return convert(await self.request_json("POST", own("models/add"), body), ModelInfo)

    async def events(self, *, recent: bool = False) -> AsyncGenerator[ServerEvent, None]:
        """Yield what the server does, until it ends or the iterator is closed.

        Args:
            recent: Begin with what happened before.

        Raises:
            StreamBroken: When the connection was lost.
        """
        lines = self.lines("GET", own(f"events?recent={int(recent)}"))
        async with contextlib.aclosing(lines):
            async for line in lines:
                known = {"ts": line.pop("ts", None), "event": line.pop("event", None)}
                yield convert({**known, "fields": line}, ServerEvent)

    async def recent_events(self, *, quiet_s: float) -> list[ServerEvent]:
        """Return what happened before, which ends where nothing arrives for `quiet_s` seconds."""
        found: list[ServerEvent] = []
        events = self.events(recent=True)
        async with contextlib.aclosing(events):
            with contextlib.suppress(TimeoutError):
                while True:
                    async with asyncio.timeout(quiet_s):
                        event = await anext(events, None)
                    if event is None:
                        break
                    found.append(event)
        return found

    async def _get(self, name: str) -> Any:
        return await self.request_json("GET", own(name), timeout_s=QUICK_S)


def _absolute(path: str | Path) -> str:
    # The server's folder is another one than the caller's.
    return os.path.abspath(os.path.expanduser(path))


def _given(**fields: object) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _settings(body: Any) -> Table[SettingValue]:
    return Table(convert(as_object(body).get("settings"), list[SettingValue]), empty="no settings")


def named_setting(settings: Sequence[SettingValue], name: str) -> SettingValue:
    """Return the setting of that name.

    Raises:
        ConfigError: When there is none; the hint names the nearest.
    """
    found = next((item for item in settings if item.name == name), None)
    if found is None:
        near = nearest_names(name, [item.name for item in settings])
        hint = "Did you mean " + " or ".join(map(repr, near)) + "?" if near else None
        hint = hint or "See them all: workbench settings."
        raise ConfigError(f"there is no setting {name!r}.", key=name, hint=hint)
    return found


def setting_value(setting: SettingValue, text: str) -> object:
    """Return a value that was typed as what the server takes for this setting.

    Raises:
        ConfigError: When it cannot be one.
    """
    words: Mapping[str, bool] = {
        "true": True,
        "yes": True,
        "on": True,
        "false": False,
        "no": False,
        "off": False,
    }
    if setting.kind == "bool":
        if text.lower() not in words:
            raise ConfigError(f"{setting.name} is true or false, not {text!r}.", key=setting.name)
        return words[text.lower()]
    if setting.kind == "list":
        return [part.strip() for part in text.split(",") if part.strip()]
    if setting.kind in ("int", "bytes", "seconds", "float"):
        # A size as 8GB and a duration as 10m are read by the server.
        with contextlib.suppress(ValueError):
            return int(text) if setting.kind in ("int", "bytes") else float(text)
    return text
