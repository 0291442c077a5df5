"""The header reader tells what a model is, and survives every file."""

from __future__ import annotations

import struct
import tracemalloc
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.engine.files import good_bytes, tiny_llama
from workbench.errors import BadModelFile
from workbench.resources import models_dir
from workbench.server.engine import gguf
from workbench.server.engine.gguf import (
    ArraySummary,
    human_number,
    merge_shards,
    read_header,
    shard_paths,
)


def text(value: str) -> bytes:
    """Return a string as GGUF stores it."""
    data = value.encode()
    return struct.pack("<Q", len(data)) + data


def raw(tmp_path: Path, *keys: bytes, tensors: bytes = b"", count: int = 0) -> Path:
    """Write a file of the given keys and tensor list."""
    path = tmp_path / "raw.gguf"
    path.write_bytes(b"GGUF" + struct.pack("<IQQ", 3, count, len(keys)) + b"".join(keys) + tensors)
    return path


def test_golden_values(tmp_path: Path) -> None:
    """Of a known file every value is the known one."""
    header = read_header(tiny_llama(tmp_path / "a.gguf", general__name="Tiny"))
    parameters = 2 * 265 * 32 + 3 * 32 + 7 * 32 * 32
    assert {
        "version": 3,
        "architecture": "llama",
        "name": "Tiny",
        "description": None,
        "context_length": 128,
        "embedding_length": 32,
        "file_type": "F32",
        "parameter_count": parameters,
        "parameter_size": "24K",
        "pooling_type": None,
        "missing_bytes": 0,
        "data_offset": header.data_offset,
        "file_bytes": (tmp_path / "a.gguf").stat().st_size,
    } == {
        name: getattr(header, name)
        for name in (
            *("version", "architecture", "name", "description", "context_length"),
            *("embedding_length", "file_type", "parameter_count", "parameter_size"),
            *("pooling_type", "missing_bytes", "data_offset", "file_bytes"),
        )
    }
    assert header.data_offset % 32 == 0


def test_tensors_in_order(tmp_path: Path) -> None:
    """Tensors have their name, their shape with the fastest dimension first, and their size."""
    tensors = read_header(tiny_llama(tmp_path / "a.gguf")).tensors
    first = tensors[0]
    assert ("token_embd.weight", (32, 265), "F32", 0, 265 * 32 * 4) == (
        *(first.name, first.shape, first.type, first.offset, first.size_bytes),
    )
    assert first.size_bytes == tensors[1].offset


@pytest.mark.parametrize("name", ["toy-nano", "toy-tiny"])
def test_bundled_models(name: str) -> None:
    """The bundled models are whole, quantized to Q8_0, and can chat."""
    path = models_dir() / f"{name}.gguf"
    if not path.exists():
        pytest.skip("the toy models are not trained yet")
    header = read_header(path)
    assert ("Q8_0", "llama", 0) == (header.file_type, header.architecture, header.missing_bytes)
    assert "completion" in header.capabilities()


def test_long_arrays_are_counted(tmp_path: Path) -> None:
    """Long arrays are a count, short ones are kept, `verbose` keeps all."""
    path = tiny_llama(tmp_path / "a.gguf")
    tokens = "tokenizer.ggml.tokens"
    assert read_header(path).metadata[tokens] == ArraySummary(length=265, element_type=8)
    assert read_header(path).metadata["tokenizer.ggml.merges"] != ArraySummary(1, 8)
    verbose = read_header(path, verbose=True)
    kept = verbose.metadata[tokens]
    assert isinstance(kept, list)
    assert len(kept) == 265
    kinds = verbose.metadata["tokenizer.ggml.token_type"]
    assert isinstance(kinds, list)
    assert kinds[:2] == [1, 1]


def test_long_string_array_is_walked_exactly(tmp_path: Path) -> None:
    """What follows a vocabulary larger than any buffer is read from the right place."""
    words = b"".join(text("x" * (number % 257)) for number in range(9000))
    array = text("a") + struct.pack("<IIQ", 9, 8, 9000) + words
    path = raw(tmp_path, array, text("b") + struct.pack("<II", 4, 7))
    for verbose in (False, True):
        assert read_header(path, verbose=verbose).metadata["b"] == 7


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ({}, ("completion",)),
        ({"tokenizer.chat_template": "{% if tools %}x{% endif %}"}, ("completion", "tools")),
        ({"tokenizer.chat_template": "{{ enable_thinking }}"}, ("completion", "thinking")),
        ({"tokenizer.chat_template": "<think>"}, ("completion", "thinking")),
        ({"tokenizer.chat_template": "my toolset"}, ("completion",)),
        ({"tokenizer.ggml.fim_pre_token_id": 3}, ("completion", "insert")),
        ({"llama.pooling_type": 1}, ("embedding",)),
        ({"general.architecture": "bert"}, ("embedding",)),
        ({"general.architecture": "clip"}, ()),
    ],
)
def test_capabilities(keys: dict[str, Any], expected: tuple[str, ...]) -> None:
    """What a model can do is read from its template, its architecture and its tokens."""
    metadata = {"general.architecture": "llama", **keys}
    assert expected == gguf.GGUFHeader(3, metadata, (), 0, 0, 0).capabilities()


def test_capabilities_with_parts() -> None:
    """A projector adds vision, and another template replaces the file's."""
    header = gguf.GGUFHeader(3, {"tokenizer.chat_template": "{{ tools }}"}, (), 0, 0, 0)
    assert ("completion", "vision") == header.capabilities(has_projector=True, template="{{ x }}")


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (0, "0"),
        (999, "999"),
        (1000, "1K"),
        (383_040, "383K"),
        (10**6, "1M"),
        (22_566_000, "22.57M"),
        (500_500_000, "500.50M"),
        (10**9, "1B"),
        (7_615_616_512, "7.6B"),
        (10**12, "1000B"),
    ],
)
def test_human_number(count: int, expected: str) -> None:
    """Parameter counts are printed as Ollama prints them."""
    assert expected == human_number(count)


@pytest.mark.parametrize(
    ("number", "expected"), [(15, "Q4_K_M"), (7, "Q8_0"), (1, "F16"), (9999, "F32"), (None, "F32")]
)
def test_file_type(number: int | None, expected: str, tmp_path: Path) -> None:
    """The quantization is the one named, else the type of most bytes."""
    path = tiny_llama(tmp_path / "a.gguf", general__file_type=number)
    assert expected == read_header(path).file_type


def test_errors_say_where(tmp_path: Path) -> None:
    """An error has the offset of the byte that could not be read."""
    path = tmp_path / "a.gguf"
    path.write_bytes(good_bytes()[:600])
    with pytest.raises(BadModelFile, match="truncated") as caught:
        read_header(path)
    assert 500 < (caught.value.offset or 0) <= 600


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (text("a") + struct.pack("<IIQ", 9, 8, 2**61), "claims .* strings"),
        (text("a") + struct.pack("<IIQ", 9, 4, 2**61), "truncated"),
        (text("a") + struct.pack("<IIQ", 9, 9, 1), "elements of the type 9"),
        (text("a") + struct.pack("<IQ", 8, 2**40), "claims"),
        (text("a") + struct.pack("<I", 99), "unknown type 99"),
        (struct.pack("<Q", 5000) + b"x" * 5000, "claims 5000 bytes"),
        (text("general.alignment") + struct.pack("<II", 4, 0), "alignment"),
        (text("general.alignment") + struct.pack("<I", 8) + text("x"), "alignment"),
    ],
    ids=[
        *("strings", "numbers", "nested", "string", "type"),
        *("name", "no-alignment", "alignment-text"),
    ],
)
def test_hostile_key(key: bytes, reason: str, tmp_path: Path) -> None:
    """A key that claims more than there is, or what cannot be, is refused with a reason."""
    with pytest.raises(BadModelFile, match=reason):
        read_header(raw(tmp_path, key, tensors=bytes(64)))


def test_key_twice(tmp_path: Path) -> None:
    """A key that is there twice is refused, as the engine does."""
    key = text("a") + struct.pack("<II", 4, 1)
    with pytest.raises(BadModelFile, match="there twice"):
        read_header(raw(tmp_path, key, key))


@pytest.mark.parametrize(
    ("dims", "kind", "reason"),
    [((1,) * 5, 0, "5 dimensions"), ((2**40, 2**40), 0, "impossible"), ((2**63,), 1, "impossible")],
)
def test_hostile_tensor(dims: tuple[int, ...], kind: int, reason: str, tmp_path: Path) -> None:
    """A tensor that cannot be is refused."""
    shape = struct.pack(f"<I{len(dims)}Q", len(dims), *dims)
    entry = text("t") + shape + struct.pack("<IQ", kind, 0)
    with pytest.raises(BadModelFile, match=reason):
        read_header(raw(tmp_path, tensors=entry, count=1))


def test_unknown_tensor_type_is_kept(tmp_path: Path) -> None:
    """A tensor of a type younger than this reader is listed without a size."""
    entry = text("t") + struct.pack("<IQIQ", 1, 32, 4000, 0)
    (tensor,) = read_header(raw(tmp_path, tensors=entry, count=1)).tensors
    assert ("type 4000", None) == (tensor.type, tensor.size_bytes)


@pytest.mark.parametrize("verbose", [False, True])
def test_memory_is_bounded(verbose: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Metadata that would take more memory than the limit are refused before they do."""
    monkeypatch.setattr(gguf, "MAX_KEPT_BYTES", 2**20)
    numbers = text("n") + struct.pack("<IIQ", 9, 0, 2**19) + bytes(2**19)
    path = raw(tmp_path, *(text(f"k{i}") + numbers[9:] for i in range(4)))
    tracemalloc.start()
    try:
        if verbose:
            with pytest.raises(BadModelFile, match="larger than"):
                read_header(path, verbose=True)
        else:
            read_header(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 4 * 2**20


def test_shards(tmp_path: Path) -> None:
    """A split model is the sum of its files, with the keys of the first."""
    first = tiny_llama(tmp_path / "m-00001-of-00002.gguf")
    second = tiny_llama(tmp_path / "m-00002-of-00002.gguf")
    assert (first, second) == shard_paths(first)
    one, two = read_header(first), read_header(second)
    whole = merge_shards([one, two])
    assert 2 * one.parameter_count == whole.parameter_count
    assert one.file_bytes + two.file_bytes == whole.file_bytes
    assert one.metadata is whole.metadata


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """Return a good file with some bytes changed and some of its end missing."""
    data = bytearray(good_bytes())
    # Most of a file is weights; damage there shows nothing.
    for at in draw(st.lists(st.integers(0, 7000), max_size=8)):
        width = draw(st.sampled_from([1, 4, 8]))
        data[at : at + width] = draw(st.binary(min_size=width, max_size=width))
    return bytes(data[: draw(st.integers(0, len(data)))])


@settings(max_examples=300, deadline=None)
@given(
    data=st.binary(max_size=300) | st.binary(max_size=300).map(b"GGUF\3\0\0\0".__add__) | damaged()
)
def test_nothing_but_the_typed_error(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever the bytes are, the reader gives a header or its own error."""
    path = tmp_path_factory.getbasetemp() / "fuzz.gguf"
    path.write_bytes(data)
    for verbose in (False, True):
        try:
            header = read_header(path, verbose=verbose)
        except BadModelFile:
            continue
        assert header.capabilities() is not None
        assert header.parameter_size
        assert header.file_type
