"""Model files for the tests: small ones that load, and thirty kinds that must not."""

from __future__ import annotations

import os
import random
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from workbench.server.engine.gguf import read_header
from workbench.testing.gguf import GGUFTensor, llama_metadata, make_gguf, pack_f32, write_gguf

PARAMS = 60_000


@cache
def good_bytes() -> bytes:
    """Return the bytes of a small model that loads."""
    with TemporaryDirectory() as folder:
        return make_gguf(Path(folder, "good.gguf"), params=PARAMS, context_length=256).read_bytes()


def tiny_llama(
    path: Path, *, drop: str | None = None, tall: str | None = None, **keys: Any
) -> Path:
    """Write a llama model of 16 values of width, with some of its keys replaced.

    Args:
        drop: A tensor that is left out.
        tall: A tensor that gets one row too many.
        keys: Metadata by name, with "__" for each dot; `None` leaves a key out.
    """
    width, vocabulary, inner = 32, 265, 32
    metadata: dict[str, Any] = dict(
        llama_metadata(
            name="tiny",
            description="",
            quant="f32",
            context_length=128,
            width=width,
            layers=1,
            heads=2,
            feed_forward=inner,
        )
    )
    for name, value in keys.items():
        key = name.replace("__", ".")
        metadata[key] = value
        if value is None:
            del metadata[key]
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd.weight": (vocabulary, width),
        "output_norm.weight": (width,),
        "output.weight": (vocabulary, width),
        "blk.0.attn_norm.weight": (width,),
        "blk.0.attn_q.weight": (width, width),
        "blk.0.attn_k.weight": (width, width),
        "blk.0.attn_v.weight": (width, width),
        "blk.0.attn_output.weight": (width, width),
        "blk.0.ffn_norm.weight": (width,),
        "blk.0.ffn_gate.weight": (inner, width),
        "blk.0.ffn_up.weight": (inner, width),
        "blk.0.ffn_down.weight": (width, inner),
    }
    shapes = {n: (s[0] + (n == tall), *s[1:]) for n, s in shapes.items() if n != drop}
    rng = random.Random(0)
    tensors = []
    for name, shape in shapes.items():
        rows = shape[0] * (shape[1] if len(shape) > 1 else 1)
        values = [1.0] * rows if len(shape) == 1 else [rng.uniform(-0.1, 0.1) for _ in range(rows)]
        tensors.append(GGUFTensor(name, shape, "f32", [pack_f32(values)]))
    return write_gguf(path, metadata=metadata, tensors=tensors)


def _edited(at: int, data: bytes) -> Callable[[Path], object]:
    def write(path: Path) -> object:
        good = bytearray(good_bytes())
        good[at : at + len(data)] = data
        return path.write_bytes(good)

    return write


def _cut(length: int) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(good_bytes()[:length])


def _cut_in_tensors(path: Path) -> None:
    path.write_bytes(good_bytes())
    os.truncate(path, read_header(path).data_offset - 60)


def _cut_data(path: Path) -> None:
    path.write_bytes(good_bytes())
    os.truncate(path, path.stat().st_size - 64)


def _tiny(**keys: Any) -> Callable[[Path], object]:
    return lambda path: tiny_llama(path, **keys)


def _random(prefix: bytes) -> Callable[[Path], object]:
    return lambda path: path.write_bytes(prefix + random.Random(1).randbytes(5000))


def _missing(path: Path) -> object:
    return path


BROKEN: dict[str, Callable[[Path], object]] = {
    "empty": _cut(0),
    "magic-only": _cut(4),
    "cut-in-counts": _cut(20),
    "cut-in-keys": _cut(600),
    "cut-in-tensor-list": _cut_in_tensors,
    "cut-in-half": lambda path: path.write_bytes(good_bytes()[: len(good_bytes()) // 2]),
    "last-bytes-missing": _cut_data,
    "random": _random(b""),
    "random-after-magic": _random(b"GGUF"),
    "random-after-version": _random(b"GGUF\x03\0\0\0"),
    "text": lambda path: path.write_text("This is not a model.\n" * 50),
    "version-1": _edited(4, struct.pack("<I", 1)),
    "version-999": _edited(4, struct.pack("<I", 999)),
    "big-endian": _edited(4, struct.pack(">I", 3)),
    "huge-tensor-count": _edited(8, struct.pack("<Q", 2**40)),
    "huge-key-count": _edited(16, struct.pack("<Q", 2**60)),
    "huge-key-length": _edited(24, struct.pack("<Q", 2**63)),
    "unknown-value-type": _edited(24 + 8 + len("general.architecture"), struct.pack("<I", 77)),
    "unknown-architecture": _tiny(general__architecture="no-such-thing"),
    "architecture-without-its-keys": _tiny(general__architecture="bert"),
    "no-architecture": _tiny(general__architecture=None),
    "no-width": _tiny(llama__embedding_length=None),
    "no-tokenizer": _tiny(tokenizer__ggml__model=None),
    "short-vocabulary": _tiny(tokenizer__ggml__tokens=["a", "b", "c"]),
    "no-heads": _tiny(llama__attention__head_count=0),
    "seven-heads": _tiny(llama__attention__head_count=7),
    "more-layers-than-tensors": _tiny(llama__block_count=9),
    "no-context": _tiny(llama__context_length=0),
    "missing-tensor": _tiny(drop="output_norm.weight"),
    "wrong-shape": _tiny(tall="blk.0.ffn_up.weight"),
    "odd-alignment": _tiny(general__alignment=7),
    "broken-template": _tiny(tokenizer__chat_template="{% for m in %}{{"),
    "folder": lambda path: path.mkdir(),
    "missing": _missing,
}
"""Kind -> writer of such a file at a path."""
