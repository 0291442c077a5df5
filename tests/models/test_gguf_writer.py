"""The GGUF writer and the random-weight maker."""

from __future__ import annotations

import random
import struct
import subprocess
import sys
from pathlib import Path

import pytest
from toy_engine import running_engine

from workbench.server.engine.gguf import read_header
from workbench.testing.gguf import GGUFTensor, make_gguf, pack_q8_0, write_gguf


def test_metadata_survives(tmp_path: Path) -> None:
    """Values of every kind are read back as they were written."""
    metadata = {
        "general.architecture": "llama",
        "a.flag": True,
        "a.count": 7,
        "a.big": 2**40,
        "a.share": 0.5,
        "a.words": ["x", "ж"],
        "a.numbers": [1, -2],
    }
    tensor = GGUFTensor("t", (2, 32), "f32", [bytes(128), bytes(128)])
    path = write_gguf(tmp_path / "a.gguf", metadata=metadata, tensors=[tensor])
    header = read_header(path)
    assert metadata == {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in header.metadata.items()
    }
    assert 64 == header.parameter_count


def test_wrong_length_is_refused(tmp_path: Path) -> None:
    """A tensor whose bytes do not fill its shape is an error, and no file is written."""
    tensor = GGUFTensor("t", (2, 32), "f16", [bytes(10)])
    with pytest.raises(ValueError, match="10 bytes given, 128 expected"):
        write_gguf(tmp_path / "a.gguf", metadata={}, tensors=[tensor])
    assert not (tmp_path / "a.gguf").exists()


def test_q8_0_stays_within_half_a_step() -> None:
    """Encoding a block loses at most half of one of its 127 steps, and a little by the scale."""
    rng = random.Random(0)
    values = [rng.uniform(-3, 3) for _ in range(32)]
    scale, *steps = struct.unpack("<e32b", pack_q8_0(values))
    assert all(
        abs(step * scale - value) <= 0.6 * 3 / 127
        for step, value in zip(steps, values, strict=True)
    )


def test_q8_0_wants_whole_blocks() -> None:
    """A number of values that fills no block is an error."""
    with pytest.raises(ValueError, match="multiple of 32"):
        pack_q8_0([0.0] * 33)


@pytest.mark.parametrize("params", [100_000, 1_000_000, 20_000_000])
def test_size_is_about_what_was_asked(tmp_path: Path, params: int) -> None:
    """The model has the asked number of parameters to within a tenth."""
    path = make_gguf(tmp_path / "r.gguf", params=params, quant="q8_0")
    assert params == pytest.approx(read_header(path).parameter_count, rel=0.1)


def test_the_same_seed_gives_the_same_file(tmp_path: Path) -> None:
    """A file is a function of the arguments, and another seed gives another file."""
    files = [
        make_gguf(tmp_path / f"{n}.gguf", params=50_000, seed=seed).read_bytes()
        for n, seed in enumerate((1, 1, 2))
    ]
    assert files[0] == files[1] != files[2]


@pytest.mark.parametrize("quant", ["f16", "q8_0"])
def test_random_model_writes_until_the_limit(tmp_path: Path, quant: str) -> None:
    """llama.cpp loads the model, and its text is printable and lasts to the token limit."""
    path = make_gguf(tmp_path / "r.gguf", params=300_000, quant=quant)  # type: ignore[arg-type]
    with running_engine(path) as engine:
        messages = [{"role": "user", "content": "Hello"}]
        answer = engine.post(
            "/v1/chat/completions", messages=messages, max_tokens=200, temperature=1.0, seed=1
        )
    choice = answer["choices"][0]
    assert "length" == choice["finish_reason"]
    assert 200 == len(choice["message"]["content"]) and choice["message"]["content"].isprintable()


def test_import_needs_no_numpy() -> None:
    """Importing the writer imports neither numpy nor torch."""
    code = "import sys, workbench.testing.gguf; print({'numpy', 'torch'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "set()" == done.stdout.strip()
