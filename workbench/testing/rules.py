"""The rules of Ollama's scheduler as functions of values (``server/sched.go``, v0.33)."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Iterable, Mapping
from typing import Any

from workbench.testing.ollama_shapes import ApiError, Resident, context_of
from workbench.testing.scripts import FakeModel

_GIB = 1024**3
# Total memory of the GPUs in bytes -> num_ctx of a request that names none.
_CONTEXT_TIERS = ((47 * _GIB, 262144), (23 * _GIB, 32768), (0, 4096))
_VISION_MIN_CONTEXT = 2048
_FIT_SHARE = 0.8
# Families whose context is not shifted unless a request asks for it.
_NO_SHIFT = {"deepseek2"}
_TYPES: Mapping[str, tuple[type, str]] = {
    "num_batch": (int, "integer"),
    "num_gpu": (int, "integer"),
    "main_gpu": (int, "integer"),
    "use_mmap": (bool, "boolean"),
    "num_thread": (int, "integer"),
    "draft_num_predict": (int, "integer"),
}


@dataclasses.dataclass(frozen=True)
class RunnerOptions:
    """What a runner is started with; a ``num_ctx`` of ``None`` is automatic."""

    num_ctx: int | None = None
    num_batch: int = 512
    num_gpu: int = -1
    main_gpu: int = 0
    use_mmap: bool | None = None
    num_thread: int = 0
    draft_num_predict: int = 0
    shift: bool = True


@dataclasses.dataclass
class Runner(Resident):
    """A model in memory, or on its way there, with what the scheduler knows of it."""

    options: RunnerOptions = RunnerOptions()
    number: int = 0
    # Why it leaves as soon as it is idle; empty while it is to stay.
    leaving: str = ""
    # Who may compute at once; None is everybody.
    slots: asyncio.Semaphore | None = None

    @property
    def blob(self) -> str:
        """The model file, by which Ollama knows a runner."""
        return self.model.full_blob


def runner_options(body: Mapping[str, Any], model: FakeModel) -> RunnerOptions:
    """Return the runner options of a request over those of its model.

    Raises ApiError for a value of the wrong type.
    """
    asked = body.get("options") or {}
    num_ctx = context_of(body, model)
    found = _of_model(model)
    if num_ctx is None and "num_ctx" in found:
        num_ctx = context_of({"options": {"num_ctx": int(found["num_ctx"])}}, model)
    if num_ctx is not None and "vision" in model.capabilities:
        num_ctx = max(num_ctx, _VISION_MIN_CONTEXT)
    given: dict[str, Any] = {}
    for name, (kind, word) in _TYPES.items():
        if name in found:
            given[name] = found[name] == "true" if kind is bool else int(found[name])
        value = asked.get(name)
        if value is None:
            continue
        if kind is bool and not isinstance(value, bool):
            raise ApiError(500, f'option "{name}" must be of type {word}')
        if kind is int and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise ApiError(500, f'option "{name}" must be of type {word}')
        given[name] = kind(value)
    shift = body.get("shift")
    given["shift"] = model.family not in _NO_SHIFT if shift is None else bool(shift)
    return RunnerOptions(num_ctx=num_ctx, **given)


def _of_model(model: FakeModel) -> dict[str, str]:
    """Return the parameters of a model's Modelfile, as ``/api/show`` prints them."""
    lines = (line.split(None, 1) for line in model.parameters.splitlines())
    return {parts[0]: parts[1].strip() for parts in lines if len(parts) == 2}


def default_context(memory_bytes: int | None) -> int:
    """Return the automatic num_ctx on GPUs with so much memory; ``None`` is no GPU."""
    return next(context for least, context in _CONTEXT_TIERS if (memory_bytes or 0) >= least)


def reduced_context(context: int) -> int | None:
    """Return the automatic num_ctx tried after a load ran out of memory, if there is one."""
    return next((tier for _, tier in _CONTEXT_TIERS if tier < context), None)


def reload_reason(runner: Runner, asked: RunnerOptions, context: int) -> str:
    """Return the option for which a loaded model has to be loaded again, or nothing.

    Two automatic contexts are equal, a ``num_gpu`` below zero takes what is there.

    Args:
        runner: The loaded model.
        asked: The options of the request.
        context: The context that these options come to.
    """
    loaded = runner.options
    automatic = asked.num_ctx is None and loaded.num_ctx is None
    if not automatic and context != runner.context_length:
        return "num_ctx"
    if asked.num_gpu >= 0 and asked.num_gpu != loaded.num_gpu:
        return "num_gpu"
    rest = ("num_batch", "main_gpu", "use_mmap", "num_thread", "draft_num_predict", "shift")
    differing = (name for name in rest if getattr(asked, name) != getattr(loaded, name))
    return next(differing, "")


def victim_of(runners: Iterable[Runner]) -> Runner:
    """Return who has to leave first: idle, shortest keep_alive, then by model file."""
    return min(runners, key=lambda item: (item.in_flight > 0, item.keep_alive_s, item.blob))


def fits_beside(predicted_bytes: int, free_bytes: int) -> bool:
    """Say whether a model is loaded beside others without evicting one."""
    return predicted_bytes <= _FIT_SHARE * free_bytes


def bytes_on_gpu(model: FakeModel, needed_bytes: int, free_bytes: int, margin_bytes: int) -> int:
    """Return what of a model goes to the GPU when it may; the rest is computed on the CPU."""
    most = needed_bytes if model.size_vram_bytes is None else model.size_vram_bytes
    return min(needed_bytes, most, max(0, free_bytes - margin_bytes))
