"""What the server remembers between its lives: `<data_dir>/state.json`, written by it alone."""

from __future__ import annotations

import contextlib
import json
import logging
import os
from pathlib import Path
from typing import Any

log = logging.getLogger("workbench")

_MOST_MEASURED = 500


class State:
    """Measured loads, wishes for models, changed settings, and the model used last.

    A file that cannot be read is put aside, not overwritten; a disk that is full costs only the
    memory of these values.
    """

    def __init__(self, data_dir: Path) -> None:
        self.path = data_dir / "state.json"
        self._values: dict[str, Any] = self._read()

    def _read(self) -> dict[str, Any]:
        try:
            values = json.loads(self.path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as exc:
            log.warning("state.json cannot be read and is put aside: %s", exc)
            try:
                os.replace(self.path, self.path.with_suffix(".broken.json"))
            except OSError:
                log.warning("state.json could not be put aside")
            return {}
        if not isinstance(values, dict):
            return {}
        for name in ("load_seconds", "memory", "models", "settings"):
            if not isinstance(values.get(name, {}), dict):
                del values[name]
        return values

    @property
    def last_model(self) -> str | None:
        """The model of the last interactive request, as `name@backend`."""
        value = self._values.get("last_model")
        return value if isinstance(value, str) else None

    def remember_model(self, name: str) -> None:
        """Keep the model of an interactive request."""
        if name != self.last_model:
            self._values["last_model"] = name
            self._write()

    def load_seconds(self, digest: str, context: int | None = None) -> float | None:
        """Return how long the model took to load last time; `None` when it never did.

        With another context it is the nearest there is: the weights are what takes the time.
        """
        values = self._values.get("load_seconds", {})
        value = values.get(_loaded_key(digest, context), values.get(digest))
        return float(value) if isinstance(value, int | float) else None

    def remember_load(
        self,
        digest: str,
        seconds: float,
        *,
        context: int | None = None,
    ) -> None:
        """Keep how long a load took."""
        loads = self._values.setdefault("load_seconds", {})
        loads[digest] = round(seconds, 3)
        if context is not None:
            loads[_loaded_key(digest, context)] = round(seconds, 3)
        self._write()

    def preferences(self) -> dict[str, dict[str, Any]]:
        """Return what was wished for models, by `backend/name`."""
        found = self._values.get("models", {})
        return {name: dict(row) for name, row in found.items() if isinstance(row, dict)}

    def remember_preferences(self, key: str, wishes: dict[str, Any]) -> None:
        """Keep what is wished for a model; nothing when there is no wish."""
        models = self._values.setdefault("models", {})
        models.pop(key, None)
        if wishes:
            models[key] = wishes
        self._write()

    def settings(self) -> dict[str, Any]:
        """Return the settings that were changed at run time."""
        return dict(self._values.get("settings", {}))

    def remember_setting(self, name: str, value: Any) -> None:
        """Keep a setting; `None` forgets it."""
        settings = self._values.setdefault("settings", {})
        settings.pop(name, None)
        if value is not None:
            settings[name] = value
        self._write()

    def measured_memory(
        self, digest: str, num_ctx: int, *, kv_type: str = "f16"
    ) -> tuple[int, int | None] | None:
        """Return the bytes a model took with this context, and of those on the GPU.

        `None` when it was never seen loaded so.
        """
        value = self._values.get("memory", {}).get(_memory_key(digest, num_ctx, kv_type))
        match value:
            case [int(size), int() | None as vram]:
                return size, vram
        return None

    def measured_contexts(self, digest: str) -> list[int]:
        """Return the contexts with which a model was seen loaded."""
        found = self._values.get("memory", {})
        tails = (key.removeprefix(f"{digest}@") for key in found if key.startswith(f"{digest}@"))
        return [int(tail) for tail in tails if tail.isdecimal()]

    def remember_memory(
        self,
        digest: str,
        num_ctx: int,
        size_bytes: int,
        vram_bytes: int | None,
        *,
        kv_type: str = "f16",
    ) -> None:
        """Keep what a loaded model takes; a change of less than one percent is none."""
        known = self.measured_memory(digest, num_ctx, kv_type=kv_type)
        if known and known[1] == vram_bytes and abs(known[0] - size_bytes) <= known[0] / 100:
            return
        memory = self._values.setdefault("memory", {})
        key = _memory_key(digest, num_ctx, kv_type)
        # The one that was measured longest ago makes room.
        memory.pop(key, None)
        while len(memory) >= _MOST_MEASURED:
            del memory[next(iter(memory))]
        memory[key] = [size_bytes, vram_bytes]
        self._write()

    def _write(self) -> None:
        temporary = self.path.with_suffix(".tmp")
        try:
            temporary.write_text(json.dumps(self._values, indent=1), encoding="utf-8")
            os.replace(temporary, self.path)
        except OSError as exc:
            log.warning("state.json could not be written: %s", exc)
            with contextlib.suppress(OSError):
                temporary.unlink()


def _loaded_key(digest: str, context: int | None) -> str:
    return digest if context is None else f"{digest}@{context}"


def _memory_key(digest: str, num_ctx: int, kv_type: str) -> str:
    return f"{digest}@{num_ctx}" + ("" if kv_type == "f16" else f"@{kv_type}")
