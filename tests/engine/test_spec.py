"""Numbers that would kill or hang the engine are clamped or refused before it starts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workbench.errors import ConfigError, LoadFailed
from workbench.server.engine.gguf import GGUFHeader
from workbench.server.engine.spec import MAX_CONTEXT, EngineSpec

SPEC = EngineSpec(model_path=Path("m.gguf"), alias="m")


def header(context: int | None = 4096, **metadata: Any) -> GGUFHeader:
    """Return the header of a llama model with that trained context."""
    values: dict[str, Any] = {"general.architecture": "llama"}
    if context is not None:
        values["llama.context_length"] = context
    return GGUFHeader(3, {**values, **metadata}, (), 0, 0, 0)


@pytest.mark.parametrize(
    ("field", "given_value", "expected"),
    [
        ("n_batch", 0, 2),
        ("n_batch", -5, 2),
        ("n_batch", 10**9, 16_384),
        ("n_threads", -1, 1),
        ("n_threads", 0, 1),
        ("n_threads", 10_000, 8),
        ("n_parallel", 0, 1),
        ("n_parallel", 1000, 64),
        ("n_ctx", 0, 4096),
        ("n_ctx", -1, 4096),
        ("n_ctx", 1, 256),
        ("n_ctx", 257, 512),
        ("n_ctx", 2_000_000_000, 4096),
        ("n_gpu_layers", None, None),
        ("n_gpu_layers", -1, None),
        ("n_gpu_layers", 0, 0),
        ("n_gpu_layers", 10**6, 9999),
        ("main_gpu", -1, 0),
        ("main_gpu", 99, 15),
    ],
)
def test_number_is_clamped(field: str, given_value: int | None, expected: int | None) -> None:
    """Each number outside of what the engine survives becomes the nearest one inside."""
    asked = replace(SPEC, **{field: given_value})  # type: ignore[arg-type]
    assert expected == getattr(asked.clamped(header(), file_bytes=1, cores=8), field)


@given(
    numbers=st.fixed_dictionaries(
        {
            name: st.integers(-(2**70), 2**70)
            for name in ("n_ctx", "n_batch", "n_threads", "n_parallel", "n_gpu_layers", "main_gpu")
        }
    ),
    trained=st.none() | st.integers(1, 2**40),
    embedding=st.booleans(),
    size=st.integers(0, 2**50),
    cores=st.integers(1, 512),
)
def test_clamped_is_always_inside(
    numbers: dict[str, int], trained: int | None, embedding: bool, size: int, cores: int
) -> None:
    """Whatever numbers come in, those that go out are inside, and clamp to themselves."""
    asked = replace(SPEC, embedding=embedding, **numbers)  # type: ignore[arg-type]
    try:
        spec = asked.clamped(header(trained), file_bytes=size, cores=cores)
    except LoadFailed:
        return
    assert 0 <= spec.n_ctx * spec.n_parallel <= MAX_CONTEXT
    assert spec.n_ctx <= (trained or MAX_CONTEXT)
    assert 2 <= spec.n_ubatch <= spec.n_batch <= 16_384
    assert spec.n_parallel <= spec.n_ubatch
    assert 1 <= spec.n_threads <= cores
    assert 1 <= spec.n_parallel <= 64
    assert spec == spec.clamped(header(trained), file_bytes=size, cores=cores)


@pytest.mark.parametrize(
    ("asked", "trained"), [(20_000_000, None), (0, 2_000_000_000), (2_000_000_000, 2**40)]
)
def test_huge_context_is_refused(asked: int, trained: int | None) -> None:
    """A context over ten million tokens is refused, whoever asks for it; it would hang."""
    with pytest.raises(LoadFailed, match="too large"):
        replace(SPEC, n_ctx=asked).clamped(header(trained), file_bytes=1)


@pytest.mark.parametrize("context", [0, -1])
def test_context_of_nothing_is_refused(context: int) -> None:
    """A file whose context is 0 tokens is refused; the engine would abort on its first request."""
    with pytest.raises(LoadFailed, match=f"{context} tokens"):
        SPEC.clamped(header(context), file_bytes=1)


@pytest.mark.parametrize(
    ("size", "cores", "threads"),
    [(63_999_999, 32, 1), (64_000_000, 32, 16), (10**9, 2, 1), (10**9, 1, 1), (10**9, 7, 3)],
)
def test_threads_by_size(size: int, cores: int, threads: int) -> None:
    """Small files get one thread, others half of the cores."""
    assert threads == SPEC.clamped(header(), file_bytes=size, cores=cores).n_threads


@pytest.mark.parametrize(
    ("asked", "in_file", "expected"),
    [(None, None, "mean"), (None, 0, "mean"), (None, 2, None), ("last", 2, "last")],
)
def test_pooling(asked: Any, in_file: int | None, expected: str | None) -> None:
    """Vectors are pooled as asked, else as the file says, else by their mean."""
    metadata = {} if in_file is None else {"llama.pooling_type": in_file}
    spec = replace(SPEC, embedding=True, pooling=asked)
    assert expected == spec.clamped(header(**metadata), file_bytes=1).pooling


def test_embedding_reads_its_text_in_one_step() -> None:
    """A process for vectors takes a text as long as its context in one batch."""
    spec = replace(SPEC, embedding=True, n_batch=64).clamped(header(2048), file_bytes=1)
    assert (2048, 2048) == (spec.n_batch, spec.n_ubatch)


def test_llama_server_needs_a_path() -> None:
    """Choosing llama-server without its path is an error of the configuration, with a hint."""
    with pytest.raises(ConfigError, match="PATH"):
        replace(SPEC, engine="llama-server").clamped(header(), file_bytes=1)
