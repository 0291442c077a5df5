"""What each layer of a model keeps in memory while it runs, from the metadata of its file.

Keys and names are GGUF's.  Which layers look back only a window, and which keep a state of fixed
size instead of keys and values, is partly in the file and partly in llama.cpp's code
(`src/models/*.cpp`, `llama-hparams.cpp`, read at build b11351); the tables here repeat the second.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from workbench.server.engine.gguf_types import EMBEDDING_ARCHITECTURES

_STATE_ELEMENT_BYTES: Final = 4


@dataclass(frozen=True, slots=True)
class Layer:
    """What one layer keeps for one request.

    Attributes:
        elements: Elements of keys and values per token of context.
        most_elements: The same for an engine that keeps more of them.
        window: Tokens it looks back; `None` is the whole context.
        state_bytes: A state that does not grow with the context.
    """

    elements: int = 0
    most_elements: int = 0
    window: int | None = None
    state_bytes: int = 0


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What the memory of a model follows from.

    Attributes:
        weights_bytes: Size of its files.
        layers: Its layers; none for a model that keeps nothing between tokens.
        encoder: Whether it reads a whole text at once, as embedding models do.
        vocabulary: Number of tokens; `None` when the metadata do not tell.
        context_length: The longest context it was made for.
        heads: Attention heads of its widest layer.
        least_kv_heads: Heads of keys in the layer with the fewest, at least 1, as Ollama counts.
        blocks: Number of layers as the file counts them.
        doubts: Why an estimate from these facts may be off.
    """

    architecture: str
    weights_bytes: int
    layers: tuple[Layer, ...]
    encoder: bool
    embedding_length: int
    feed_forward_length: int
    vocabulary: int | None
    context_length: int | None
    heads: int
    least_kv_heads: int
    blocks: int
    doubts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Sliding:
    """How an architecture mixes layers with a window and layers without.

    Attributes:
        period: Of so many layers in a row, one looks back all the way.
        first_is_whole: Whether that is the first of them instead of the last.
        window: Tokens, where the file does not say; `None`: no window then.
        fixed_window: Tokens, whatever the file says.
        only_blocks: Only the model with so many layers has windows.
    """

    period: int
    first_is_whole: bool = False
    window: int | None = None
    fixed_window: int | None = None
    only_blocks: int | None = None


_SLIDING: Final[Mapping[str, _Sliding]] = {
    "afmoe": _Sliding(4),
    "cohere2": _Sliding(4),
    "cohere2moe": _Sliding(4, first_is_whole=True),
    "exaone-moe": _Sliding(4, window=128),
    "exaone4": _Sliding(4, window=4096, only_blocks=64),
    "gemma2": _Sliding(2, window=4096),
    "gemma3": _Sliding(6),
    "gemma3n": _Sliding(5),
    "gpt-oss": _Sliding(2),
    "llama4": _Sliding(4, fixed_window=8192),
    "olmo2": _Sliding(4),
    "plamo3": _Sliding(8),
    "smallthinker": _Sliding(4, first_is_whole=True, fixed_window=4096),
}
# Read a whole text or a whole block at once and keep nothing.
_WITHOUT_CACHE: Final = EMBEDDING_ARCHITECTURES | {"dream", "llada", "llada-moe"}
_ONLY_STATE: Final = frozenset({"arwkv7", "mamba", "mamba2", "rwkv6", "rwkv6qwen2", "rwkv7"})
_STATE_AND_KEYS: Final = frozenset({"falcon-h1"})
# Every so many layers one has keys; the file may say another number.
_INTERVAL: Final[Mapping[str, int]] = {"qwen3next": 4, "qwen35": 4, "qwen35moe": 4}
# Only the first so many layers have keys of their own.
_FIRST_WITH_KEYS: Final[Mapping[str, int]] = {"gemma3n": 20}


class _Info:
    """The metadata of one model, without the architecture in front of each key."""

    def __init__(self, info: Mapping[str, Any], architecture: str) -> None:
        self._info = info
        self._prefix = architecture + "."

    def number(self, key: str) -> int | None:
        value = self._info.get(self._prefix + key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    def numbers(self, key: str) -> list[int] | None:
        """Return an array of numbers or flags, `None` when it is none or not told."""
        value = self._info.get(self._prefix + key)
        if not isinstance(value, Sequence) or isinstance(value, str):
            return None
        return [int(item) for item in value if isinstance(item, int)]

    def withheld(self, key: str) -> bool:
        """Whether the key is there and its array was left out, as Ollama's short answer does."""
        name = self._prefix + key
        return name in self._info and self.number(key) is None and self.numbers(key) is None

    def per_layer(self, key: str, blocks: int) -> list[int] | None:
        """Return a value for each layer, of one number for all or of an array."""
        one = self.number(key)
        if one is not None:
            return [one] * blocks
        many = self.numbers(key)
        if not many:
            return None
        return (many + [many[-1]] * blocks)[:blocks]


def facts_of(info: Mapping[str, Any], *, weights_bytes: int) -> ModelFacts | None:
    """Return what the metadata of a model say about its memory.

    Args:
        info: Ollama's `model_info`, or the metadata of a GGUF header; with arrays.
        weights_bytes: Size of the model's files.

    Returns:
        `None` when the metadata do not describe a model.
    """
    architecture = info.get("general.architecture")
    if not isinstance(architecture, str):
        return None
    keys = _Info(info, architecture)
    blocks, width = keys.number("block_count"), keys.number("embedding_length")
    if not blocks or not width or blocks > 10_000:
        return None
    doubts: list[str] = []
    encoder = architecture in _WITHOUT_CACHE
    heads = max(keys.per_layer("attention.head_count", blocks) or [0])
    least = min(keys.per_layer("attention.head_count_kv", blocks) or [1])
    vocabulary = _vocabulary(info, keys)
    if vocabulary is None:
        doubts.append("the size of its vocabulary is not told")
    if encoder:
        doubts.append("the buffers of a model that reads a whole text at once are a rough guess")
    layers = () if encoder else tuple(_layers(keys, architecture, blocks, heads, doubts))
    return ModelFacts(
        architecture=architecture,
        weights_bytes=weights_bytes,
        layers=layers,
        encoder=encoder,
        embedding_length=width,
        feed_forward_length=max(keys.per_layer("feed_forward_length", blocks) or [4 * width]),
        vocabulary=vocabulary,
        context_length=keys.number("context_length"),
        heads=max(heads, 1),
        least_kv_heads=max(least, 1),
        blocks=blocks,
        doubts=tuple(doubts),
    )


def _vocabulary(info: Mapping[str, Any], keys: _Info) -> int | None:
    told = keys.number("vocab_size")
    if told:
        return told
    tokens = info.get("tokenizer.ggml.tokens")
    # A header read for its facts keeps only the length of a long array.
    length = getattr(tokens, "length", None)
    if isinstance(length, int):
        return length
    return len(tokens) if isinstance(tokens, list) and tokens else None


def _layers(
    keys: _Info, architecture: str, blocks: int, heads: int, doubts: list[str]
) -> list[Layer]:
    # Layers that guess the tokens after the next are loaded only for that.
    count = max(1, blocks - (keys.number("nextn_predict_layers") or 0))
    kv_heads = keys.per_layer("attention.head_count_kv", blocks)
    if kv_heads is None:
        if keys.withheld("attention.head_count_kv"):
            doubts.append("how many heads of keys each layer has is not told")
        kv_heads = [heads] * blocks
    states, besides = _states(keys, architecture, count, kv_heads)
    if besides and architecture not in _STATE_AND_KEYS:
        doubts.append("which of its layers have keys is not told: all are counted")
    windows = _windows(keys, architecture, count)
    shared_from = _shared_from(keys, architecture, count)
    found = []
    for number in range(count):
        state = states[number]
        if (state and not besides) or number >= shared_from:
            found.append(Layer(state_bytes=state))
            continue
        window = windows[number]
        least, most = _elements(keys, heads, kv_heads[number], window is not None)
        found.append(Layer(least, most, window, state))
    if any(layer.elements != layer.most_elements for layer in found):
        doubts.append("engines differ in how they keep its compressed keys")
    return found


def _elements(keys: _Info, heads: int, kv_heads: int, sliding: bool) -> tuple[int, int]:
    """Return the elements per token of one layer, as engines of today and as others keep them."""
    rank = keys.number("attention.kv_lora_rank")
    if rank and keys.number("attention.key_length_mla"):
        # MLA: one compressed vector and the part with positions; older engines keep the first
        # twice, as keys and as values.
        keys_only = rank + (keys.number("rope.dimension_count") or 0)
        return keys_only, keys_only + rank
    default = (keys.number("embedding_length") or 0) // max(heads, 1)
    lengths = []
    for name in ("attention.key_length", "attention.value_length"):
        own = keys.number(f"{name}_swa") if sliding else None
        lengths.append(own or keys.number(name) or default)
    elements = kv_heads * sum(lengths)
    return elements, elements


def _windows(keys: _Info, architecture: str, count: int) -> list[int | None]:
    """Return for each layer how far it looks back."""
    known = _SLIDING.get(architecture)
    told = keys.number("attention.sliding_window")
    pattern = keys.numbers("attention.sliding_window_pattern")
    whole: list[int | None] = [None] * count
    # Other architectures name a window that llama.cpp does not use (phi3, mistral).
    if known is None and not (pattern and len(pattern) > 1):
        return whole
    if told == 0 or (known and known.only_blocks not in (None, count)):
        return whole
    window = told or (known.window if known else None)
    if known and known.fixed_window:
        window = known.fixed_window
    if not window:
        return whole
    if pattern and len(pattern) > 1:
        flags = (pattern + [0] * count)[:count]
        return [window if flag else None for flag in flags]
    period = keys.number("attention.sliding_window_pattern") or (known.period if known else 1)
    place = 0 if known and known.first_is_whole else period - 1
    return [None if number % period == place else window for number in range(count)]


def _shared_from(keys: _Info, architecture: str, count: int) -> int:
    """Return the first layer that uses the keys of an earlier one."""
    shared = keys.number("attention.shared_kv_layers")
    if shared:
        return max(0, count - shared)
    return min(count, _FIRST_WITH_KEYS.get(architecture, count))


def _states(
    keys: _Info, architecture: str, count: int, kv_heads: list[int]
) -> tuple[list[int], bool]:
    """Return the bytes of state of each layer, and whether those layers have keys besides."""
    size = _state_elements(keys, architecture) * _STATE_ELEMENT_BYTES
    if not size:
        return [0] * count, False
    if architecture in _ONLY_STATE | _STATE_AND_KEYS:
        return [size] * count, architecture in _STATE_AND_KEYS
    recurrent = _recurrent(keys, architecture, count, kv_heads)
    if recurrent is None:
        return [size] * count, True
    return [size if flag else 0 for flag in recurrent], False


def _recurrent(
    keys: _Info, architecture: str, count: int, kv_heads: list[int]
) -> list[bool] | None:
    """Return which layers of a mixed model keep a state; `None` when it is not told."""
    flags = keys.numbers("attention.recurrent_layers")
    if flags and len(flags) > 1:
        return [bool(flag) for flag in (flags + [0] * count)[:count]]
    interval = keys.number("full_attention_interval") or _INTERVAL.get(architecture)
    if interval:
        return [(number + 1) % interval != 0 for number in range(count)]
    if 0 in kv_heads:
        # Nemotron-H has layers that are neither: they have a feed-forward part.
        forward = keys.per_layer("feed_forward_length", count) or [0] * count
        mixed = len(set(forward)) > 1
        return [kv == 0 and not (mixed and forward[i]) for i, kv in enumerate(kv_heads[:count])]
    return None


def _state_elements(keys: _Info, architecture: str) -> int:
    """Return the elements that a recurrent layer keeps (`n_embd_r` + `n_embd_s` in llama.cpp)."""
    width = keys.number("embedding_length") or 0
    head = keys.number("wkv.head_size")
    if head:
        shifts = keys.number("token_shift_count") or (1 if "qwen2" in architecture else 2)
        return width * (shifts + head)
    convolution = keys.number("shortconv.l_cache")
    if convolution:
        return width * (convolution - 1)
    inner, state = keys.number("ssm.inner_size") or 0, keys.number("ssm.state_size") or 0
    kernel, groups = keys.number("ssm.conv_kernel") or 0, keys.number("ssm.group_count") or 0
    return max(0, kernel - 1) * (inner + 2 * groups * state) + state * inner
