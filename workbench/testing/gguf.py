"""Write GGUF files: a small writer, and llama models with random weights for load tests.

Nothing here needs numpy or torch.
A random-weight model loads, fills memory and computes like a real model of its size; its text
is printable noise.
The tokenizer is one token per byte, so that every text of every language is representable.
"""

from __future__ import annotations

import random
import struct
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal

__all__ = [
    "BYTE_TOKENIZER",
    "CHAT_TEMPLATE",
    "CONTROL_TOKENS",
    "VOCAB_SIZE",
    "GGUFTensor",
    "MetadataValue",
    "TensorType",
    "byte_tokens",
    "llama_metadata",
    "make_gguf",
    "pack_f16",
    "pack_f32",
    "pack_q8_0",
    "write_gguf",
]

TensorType = Literal["f32", "f16", "q8_0"]
MetadataValue = str | bool | int | float | Sequence[str] | Sequence[int] | Sequence[float]

_ALIGNMENT = 32
_Q8_BLOCK = 32
_TYPE_ID: dict[TensorType, int] = {"f32": 0, "f16": 1, "q8_0": 8}
_FILE_TYPE: dict[TensorType, int] = {"f32": 0, "f16": 1, "q8_0": 7}

# Roles are single tokens: a turn costs two tokens beside its text.
CONTROL_TOKENS: Mapping[str, int] = {
    "<|bos|>": 257,
    "<|system|>": 258,
    "<|user|>": 259,
    "<|assistant|>": 260,
    "<|tool|>": 261,
    "<|end|>": 262,
}
# Shown in the text (type "user defined"), because tool calls are parsed from the text.
_TOOL_TOKENS: Mapping[str, int] = {"<tool_call>": 263, "</tool_call>": 264}
VOCAB_SIZE = 265

CHAT_TEMPLATE = """\
{%- set ns = namespace(system='') -%}
{%- for m in messages -%}
{%- if m.role == 'system' -%}{%- set ns.system = m.content -%}{%- endif -%}
{%- endfor -%}
{%- if tools or ns.system -%}
{{- '<|system|>' -}}
{{- ns.system -}}
{%- if tools -%}
{{- 'Tools: ' if not ns.system else '\\nTools: ' -}}
{%- for tool in tools -%}
{{- ', ' if not loop.first else '' -}}
{{- tool.function.name + '(' -}}
{%- for key in tool.function.parameters.properties -%}
{{- ', ' if not loop.first else '' -}}
{{- key -}}
{%- endfor -%}
{{- ')' -}}
{%- endfor -%}
{%- endif -%}
{{- '<|end|>' -}}
{%- endif -%}
{%- for m in messages -%}
{%- if m.role == 'user' -%}
{{- '<|user|>' + m.content + '<|end|>' -}}
{%- elif m.role == 'assistant' -%}
{{- '<|assistant|>' -}}
{%- if m.content -%}{{- m.content -}}{%- endif -%}
{%- if m.tool_calls -%}
{%- for call in m.tool_calls -%}
{{- '<tool_call>{"name": "' + call.function.name + '", "arguments": ' -}}
{{- call.function.arguments | tojson -}}
{{- '}</tool_call>' -}}
{%- endfor -%}
{%- endif -%}
{{- '<|end|>' -}}
{%- elif m.role == 'tool' -%}
{{- '<|tool|>' + m.content + '<|end|>' -}}
{%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}
"""


@dataclass(frozen=True, slots=True)
class GGUFTensor:
    """Name one tensor and hold its encoded bytes.

    Attributes:
        name: The tensor's name as llama.cpp expects it, such as `blk.0.attn_q.weight`.
        shape: Rows before columns (as numpy and torch write it); the file stores it reversed.
        dtype: How `chunks` are encoded.
        chunks: The encoded bytes in pieces; one piece may be named many times, which makes
            large files without large memory.
    """

    name: str
    shape: tuple[int, ...]
    dtype: TensorType
    chunks: Sequence[bytes]

    @property
    def size_bytes(self) -> int:
        """Return the encoded size that the shape and the type ask for, in bytes."""
        count = 1
        for length in self.shape:
            count *= length
        return _encoded_bytes(count, self.dtype)


def _encoded_bytes(count: int, dtype: TensorType) -> int:
    if dtype == "q8_0":
        return count // _Q8_BLOCK * (_Q8_BLOCK + 2)
    return count * (4 if dtype == "f32" else 2)


def pack_f32(values: Sequence[float]) -> bytes:
    """Encode values as little-endian 32-bit floats."""
    return struct.pack(f"<{len(values)}f", *values)


def pack_f16(values: Sequence[float]) -> bytes:
    """Encode values as little-endian 16-bit floats.

    Raises:
        OverflowError: A value is beyond the range of a 16-bit float.
    """
    return struct.pack(f"<{len(values)}e", *values)


def pack_q8_0(values: Sequence[float]) -> bytes:
    """Encode values in blocks of 32 signed bytes with one 16-bit scale each (ggml's q8_0).

    Raises:
        ValueError: The number of values is not a multiple of 32.
    """
    if len(values) % _Q8_BLOCK:
        raise ValueError(f"q8_0 needs a multiple of {_Q8_BLOCK} values, not {len(values)}")
    out = bytearray()
    for start in range(0, len(values), _Q8_BLOCK):
        block = values[start : start + _Q8_BLOCK]
        scale = max(abs(value) for value in block) / 127
        inverse = 1 / scale if scale else 0.0
        rounded = (round(value * inverse) for value in block)
        out += struct.pack(f"<e{_Q8_BLOCK}b", scale, *rounded)
    return bytes(out)


def _pack_string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _pack_scalar(value: str | bool | float) -> tuple[int, bytes]:
    # bool before int: True is an int in Python and a type of its own in GGUF.
    if isinstance(value, bool):
        return 7, struct.pack("<?", value)
    if isinstance(value, int):
        return (4, struct.pack("<I", value)) if value < 2**32 else (10, struct.pack("<Q", value))
    if isinstance(value, float):
        return 6, struct.pack("<f", value)
    return 8, _pack_string(value)


def _pack_array(values: Sequence[str] | Sequence[int] | Sequence[float]) -> bytes:
    if all(isinstance(value, str) for value in values):
        kind, body = 8, b"".join(_pack_string(str(value)) for value in values)
    elif all(isinstance(value, int) for value in values):
        kind, body = 5, struct.pack(f"<{len(values)}i", *values)
    else:
        kind, body = 6, struct.pack(f"<{len(values)}f", *values)
    return struct.pack("<IQ", kind, len(values)) + body


def _pack_metadata(metadata: Mapping[str, MetadataValue]) -> bytes:
    out = bytearray()
    for key, value in metadata.items():
        if isinstance(value, (str, bool, int, float)):
            kind, body = _pack_scalar(value)
        else:
            kind, body = 9, _pack_array(value)
        out += _pack_string(key) + struct.pack("<I", kind) + body
    return bytes(out)


def _pad(stream: IO[bytes]) -> None:
    stream.write(bytes(-stream.tell() % _ALIGNMENT))


def write_gguf(
    path: str | Path,
    *,
    metadata: Mapping[str, MetadataValue],
    tensors: Iterable[GGUFTensor],
) -> Path:
    """Write one GGUF v3 file with 32-byte alignment, and return its path.

    A non-negative `int` becomes uint32 (uint64 from 2**32 on), a list of `int` int32,
    `float` float32.

    Raises:
        ValueError: A tensor's bytes do not have the length that its shape and type ask for.
        OSError: The file cannot be written.
    """
    path = Path(path)
    items = list(tensors)
    infos, offset = bytearray(), 0
    for item in items:
        given = sum(len(chunk) for chunk in item.chunks)
        if given != item.size_bytes:
            raise ValueError(f"{item.name}: {given} bytes given, {item.size_bytes} expected")
        infos += _pack_string(item.name) + struct.pack("<I", len(item.shape))
        infos += struct.pack(f"<{len(item.shape)}Q", *reversed(item.shape))
        infos += struct.pack("<IQ", _TYPE_ID[item.dtype], offset)
        offset += given + -given % _ALIGNMENT
    with path.open("wb") as stream:
        stream.write(b"GGUF" + struct.pack("<IQQ", 3, len(items), len(metadata)))
        stream.write(_pack_metadata(metadata))
        stream.write(infos)
        for item in items:
            _pad(stream)
            stream.writelines(item.chunks)
        _pad(stream)
    return path


def byte_tokens() -> list[str]:
    """Return the vocabulary: 256 bytes in GPT-2's printable spelling, then the special tokens."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    spelling = {byte: chr(byte) for byte in printable}
    for byte in range(256):
        if byte not in spelling:
            spelling[byte] = chr(256 + len(spelling) - len(printable))
    merged = spelling[0xFE] + spelling[0xFF]
    return [*(spelling[byte] for byte in range(256)), merged, *CONTROL_TOKENS, *_TOOL_TOKENS]


def _tokenizer() -> dict[str, MetadataValue]:
    tokens = byte_tokens()
    return {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": [1] * 257 + [3] * len(CONTROL_TOKENS) + [4, 4],
        # llama.cpp wants a merge; the bytes FE FF never stand in UTF-8.
        "tokenizer.ggml.merges": [f"{tokens[0xFE]} {tokens[0xFF]}"],
        "tokenizer.ggml.bos_token_id": CONTROL_TOKENS["<|bos|>"],
        "tokenizer.ggml.eos_token_id": CONTROL_TOKENS["<|end|>"],
        "tokenizer.ggml.eot_token_id": CONTROL_TOKENS["<|end|>"],
        "tokenizer.ggml.add_bos_token": True,
        "tokenizer.chat_template": CHAT_TEMPLATE,
    }


BYTE_TOKENIZER: Mapping[str, MetadataValue] = _tokenizer()


def llama_metadata(
    *,
    name: str,
    description: str,
    quant: TensorType,
    context_length: int,
    width: int,
    layers: int,
    heads: int,
    feed_forward: int,
    rope_base: float = 10000.0,
) -> dict[str, MetadataValue]:
    """Return the header of a llama model with the byte tokenizer.

    Args:
        name: Shown as `general.name`.
        description: Shown as `general.description`.
        quant: The type of most tensors.
        context_length: The trained length, in tokens (here: bytes).
        width: The embedding length, a multiple of `2 * heads`.
        layers: The number of blocks.
        heads: The number of attention heads, keys and values alike.
        feed_forward: The inner length of the feed-forward part.
        rope_base: The base of the rotary positions' frequencies.
    """
    return {
        "general.architecture": "llama",
        "general.name": name,
        "general.description": description,
        "general.license": "BSD-3-Clause",
        "general.file_type": _FILE_TYPE[quant],
        "general.quantization_version": 2,
        "llama.context_length": context_length,
        "llama.embedding_length": width,
        "llama.block_count": layers,
        "llama.feed_forward_length": feed_forward,
        "llama.attention.head_count": heads,
        "llama.attention.head_count_kv": heads,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": width // heads,
        "llama.rope.freq_base": rope_base,
        "llama.vocab_size": VOCAB_SIZE,
        **BYTE_TOKENIZER,
    }


def _shape_for(params: int) -> tuple[int, int, int]:
    """Choose width, layers and feed-forward length for about `params` parameters."""
    # Width is about 72 times the depth, as in small published llamas.
    width = max(32, round((params * 72 / 16) ** (1 / 3) / 32) * 32)
    body = max(params - 2 * VOCAB_SIZE * width, 16 * width)
    layers = max(1, round(body / (16 * width * width)))
    inner = (body / layers - 4 * width * width) / (3 * width)
    return width, layers, max(32, round(inner / 32) * 32)


def _noise(rng: random.Random, quant: Literal["f16", "q8_0"], scale: float) -> bytes:
    """Return about 130 kB of encoded uniform noise between -scale and scale."""
    if quant == "q8_0":
        step = struct.pack("<e", scale / 127)
        return b"".join(step + rng.randbytes(_Q8_BLOCK) for _ in range(3853))
    # An odd count shifts the pattern from row to row of the matrices.
    return pack_f16([scale * (2 * rng.random() - 1) for _ in range(65537)])


def _repeat(block: bytes, size: int) -> list[bytes]:
    whole, rest = divmod(size, len(block))
    return [block] * whole + [block[:rest]]


def _steered_rows(
    rng: random.Random, width: int, scale: float, first: Sequence[float]
) -> list[float]:
    """Return one random row per token whose first entry is given."""
    values: list[float] = []
    for head in first:
        values.append(head)
        values.extend(scale * (2 * rng.random() - 1) for _ in range(width - 1))
    return values


def _random_tensors(
    rng: random.Random,
    quant: Literal["f16", "q8_0"],
    *,
    width: int,
    layers: int,
    inner: int,
) -> list[GGUFTensor]:
    block = _noise(rng, quant, 0.6 / width**0.5)
    pack = pack_q8_0 if quant == "q8_0" else pack_f16

    def matrix(label: str, rows: int, columns: int) -> GGUFTensor:
        size = _encoded_bytes(rows * columns, quant)
        return GGUFTensor(label, (rows, columns), quant, _repeat(block, size))

    def norm(label: str) -> GGUFTensor:
        return GGUFTensor(label, (width,), "f32", [pack_f32([1.0] * width)])

    # Every embedding has a large first entry, and the output rows of all tokens but the
    # printable ones answer it with a large negative score: the end token is never drawn.
    embedding = _steered_rows(rng, width, 0.5, [0.1 * width**0.5 + 0.5] * VOCAB_SIZE)
    heads = [0.0 if 0x20 <= token < 0x7F else -40.0 for token in range(VOCAB_SIZE)]
    output = _steered_rows(rng, width, 4.0 / width**0.5, heads)
    tensors = [
        GGUFTensor("token_embd.weight", (VOCAB_SIZE, width), quant, [pack(embedding)]),
        norm("output_norm.weight"),
        GGUFTensor("output.weight", (VOCAB_SIZE, width), quant, [pack(output)]),
    ]
    for layer in range(layers):
        prefix = f"blk.{layer}."
        tensors += [norm(f"{prefix}{part}_norm.weight") for part in ("attn", "ffn")]
        tensors += [matrix(f"{prefix}attn_{part}.weight", width, width) for part in "qkv"]
        tensors += [
            matrix(f"{prefix}attn_output.weight", width, width),
            matrix(f"{prefix}ffn_gate.weight", inner, width),
            matrix(f"{prefix}ffn_up.weight", inner, width),
            matrix(f"{prefix}ffn_down.weight", width, inner),
        ]
    return tensors


def make_gguf(
    path: str | Path,
    *,
    params: int = 150_000_000,
    context_length: int = 4096,
    quant: Literal["f16", "q8_0"] = "f16",
    seed: int = 0,
    name: str | None = None,
) -> Path:
    """Write a llama model with random weights that llama.cpp loads, and return its path.

    The model loads, occupies memory and computes like a real one of its size.
    Its text is printable ASCII noise; it practically never ends by itself, so a generation
    lasts until the requested number of tokens.
    The same arguments give the same bytes.

    Args:
        path: The file to write; an existing one is replaced.
        params: About how many parameters the model has; the smallest model has some 30,000.
        context_length: The context that the header promises, in tokens (one token per byte).
        quant: `f16` takes two bytes per parameter, `q8_0` about 1.06.
        seed: The seed of the weights.
        name: Shown as `general.name`; a name that says "random weights" by default.

    Raises:
        ValueError: `params` or `context_length` is not positive.
        OSError: The file cannot be written.
    """
    if params < 1 or context_length < 1:
        raise ValueError("params and context_length must be positive")
    width, layers, inner = _shape_for(params)
    tensors = _random_tensors(random.Random(seed), quant, width=width, layers=layers, inner=inner)
    metadata = llama_metadata(
        name=name or f"Random weights, {params:,} parameters",
        description="Random weights for load tests; its text is noise.",
        quant=quant,
        context_length=context_length,
        width=width,
        layers=layers,
        heads=width // 32,
        feed_forward=inner,
    )
    return write_gguf(path, metadata=metadata, tensors=tensors)
