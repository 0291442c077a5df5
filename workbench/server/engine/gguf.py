"""Read the header of a GGUF file: what a model is, without loading it and without a dependency.

A file is foreign input: every length is checked against the bytes that are left before anything is
read or allocated, so a hostile count costs nothing.  Reading is by `read`, not `mmap`, because a
file that another process truncates would end a process that maps it (SIGBUS).
"""

from __future__ import annotations

import math
import os
import re
import stat
import struct
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, Final, NoReturn, TypeAlias

from workbench.errors import BadModelFile
from workbench.server.engine.gguf_types import (
    ARRAY,
    EMBEDDING_ARCHITECTURES,
    FILE_TYPES,
    SCALARS,
    STRING,
    TENSOR_TYPES,
)

MAGIC: Final = b"GGUF"
SHORT_ARRAY: Final = 64
MAX_KEYS: Final = 65_536
MAX_TENSORS: Final = 131_072
MAX_NAME_BYTES: Final = 4_096
MAX_STRING_BYTES: Final = 16 * 2**20
# The largest vocabularies have 0.3 million tokens and 0.5 million merges.
MAX_STRINGS: Final = 2 * 2**20
MAX_KEPT_BYTES: Final = 128 * 2**20
MAX_DIMS: Final = 4

_THINKING = re.compile(r"enable_thinking|<think>|reasoning_effort|<\|channel\|?>")
_TOOLS = re.compile(r"\btools\b")


@dataclass(frozen=True, slots=True)
class ArraySummary:
    """Stands for an array that was left out because it is long.

    Attributes:
        length: Number of elements.
        element_type: GGUF value type of the elements.
    """

    length: int
    element_type: int


Scalar: TypeAlias = bool | int | float | str
Value: TypeAlias = Scalar | list[Scalar] | ArraySummary


@dataclass(frozen=True, slots=True)
class TensorInfo:
    """One tensor of a file.

    Attributes:
        shape: Elements per dimension, the fastest running first (as GGUF stores it).
        type: Name of the type, "type 99" when unknown.
        offset: Bytes from the start of the data section.
        size_bytes: Bytes of data, `None` when the type is unknown.
    """

    name: str
    shape: tuple[int, ...]
    type: str
    offset: int
    size_bytes: int | None

    @property
    def elements(self) -> int:
        return math.prod(self.shape)


@dataclass(frozen=True)
class GGUFHeader:
    """What the header of a GGUF file says.

    Attributes:
        version: GGUF version, 2 or 3.
        metadata: Key -> value in the order of the file; long arrays are an `ArraySummary`.
        data_offset: Bytes from the start of the file to the tensor data.
        file_bytes: Size of the file.
        missing_bytes: Bytes of tensor data that the file should have and has not.
    """

    version: int
    metadata: Mapping[str, Value]
    tensors: tuple[TensorInfo, ...]
    data_offset: int
    file_bytes: int
    missing_bytes: int

    def text(self, key: str) -> str | None:
        """Return the value of `key` when it is a string that is not empty."""
        value = self.metadata.get(key)
        return value if isinstance(value, str) and value else None

    def integer(self, key: str) -> int | None:
        """Return the value of `key` when it is a whole number."""
        value = self.metadata.get(key)
        return value if isinstance(value, int) and not isinstance(value, bool) else None

    @property
    def architecture(self) -> str:
        """The value of `general.architecture`, "unknown" without one."""
        return self.text("general.architecture") or "unknown"

    @property
    def context_length(self) -> int | None:
        """Trained context in tokens; 0 is returned as it stands, because it breaks the engine."""
        return self.integer(f"{self.architecture}.context_length")

    @property
    def embedding_length(self) -> int | None:
        return self.integer(f"{self.architecture}.embedding_length")

    @property
    def chat_template(self) -> str | None:
        return self.text("tokenizer.chat_template")

    @property
    def name(self) -> str | None:
        return self.text("general.name")

    @property
    def description(self) -> str | None:
        return self.text("general.description")

    @cached_property
    def parameter_count(self) -> int:
        return sum(tensor.elements for tensor in self.tensors)

    @property
    def parameter_size(self) -> str:
        """The parameter count as Ollama prints it: "383K", "22.57M", "7.6B"."""
        return human_number(self.parameter_count)

    @cached_property
    def file_type(self) -> str:
        """Quantization such as "Q4_K_M"; the type of most bytes when the file does not say."""
        number = self.integer("general.file_type")
        if number is not None and number in FILE_TYPES:
            return FILE_TYPES[number]
        weights: Counter[str] = Counter()
        for tensor in self.tensors:
            weights[tensor.type] += tensor.size_bytes or 0
        return weights.most_common(1)[0][0] if weights else "unknown"

    @property
    def pooling_type(self) -> int | None:
        """How an embedding model pools (0 none, 1 mean, 2 cls, 3 last, 4 rank), else `None`."""
        return self.integer(f"{self.architecture}.pooling_type")

    @property
    def is_projector(self) -> bool:
        """Whether the file is the image or audio half of another model."""
        return self.architecture == "clip" or self.text("general.type") == "mmproj"

    @property
    def is_embedding(self) -> bool:
        return self.architecture in EMBEDDING_ARCHITECTURES or self.pooling_type is not None

    def capabilities(
        self, *, has_projector: bool = False, template: str | None = None
    ) -> tuple[str, ...]:
        """Guess what the model can do, in Ollama's words.

        Args:
            has_projector: Whether an image projector is loaded with it.
            template: A template that replaces the one in the file.
        """
        if self.is_projector:
            return ()
        if self.is_embedding:
            return ("embedding",)
        text = template or self.chat_template or ""
        found = ["completion"]
        if _TOOLS.search(text):
            found.append("tools")
        if self.integer("tokenizer.ggml.fim_pre_token_id") is not None:
            found.append("insert")
        if has_projector:
            found.append("vision")
        if _THINKING.search(text):
            found.append("thinking")
        return tuple(found)


def human_number(count: int) -> str:
    """Return a count as Ollama's `format.HumanNumber` prints it."""
    for size, suffix, digits in ((10**9, "B", 1), (10**6, "M", 2), (10**3, "K", 0)):
        if count >= size:
            number = count / size
            return f"{number:.{0 if number == int(number) else digits}f}{suffix}"
    return str(count)


def read_header(path: str | os.PathLike[str], *, verbose: bool = False) -> GGUFHeader:
    """Read the header of the GGUF file at `path`.

    Args:
        verbose: Keep long arrays (tokens, merges) too.

    Raises:
        BadModelFile: When the file cannot be read or is not GGUF; nothing else is raised.
    """
    name = os.fspath(path)
    try:
        found = os.stat(name)
        if not stat.S_ISREG(found.st_mode):
            raise BadModelFile(name, "it is not a regular file")
        with open(name, "rb", buffering=2**20) as file:
            return _Reader(name, file, found.st_size, verbose=verbose).header()
    except OSError as exc:
        raise BadModelFile(name, exc.strerror or type(exc).__name__) from exc
    except ValueError as exc:
        raise BadModelFile(repr(name), str(exc)) from exc


def merge_shards(headers: Sequence[GGUFHeader]) -> GGUFHeader:
    """Return one header for a model that is split over several files, the first shard first."""
    first = headers[0]
    if len(headers) == 1:
        return first
    return GGUFHeader(
        version=first.version,
        metadata=first.metadata,
        tensors=tuple(tensor for header in headers for tensor in header.tensors),
        data_offset=first.data_offset,
        file_bytes=sum(header.file_bytes for header in headers),
        missing_bytes=sum(header.missing_bytes for header in headers),
    )


def shard_paths(path: Path) -> tuple[Path, ...]:
    """Return all files of the model whose first file is `path`; just `path` when it is whole."""
    match = re.fullmatch(r"(.*)-(\d{5})-of-(\d{5})\.gguf", path.name, re.IGNORECASE)
    if match is None:
        return (path,)
    stem, _, total = match.groups()
    suffix = path.name[-5:]
    return tuple(
        path.with_name(f"{stem}-{number:05d}-of-{total}{suffix}")
        for number in range(1, max(1, int(total)) + 1)
    )


class _Reader:
    """Walks one header; knows the offset, so that an error can say where."""

    def __init__(self, path: str, file: BinaryIO, size: int, *, verbose: bool) -> None:
        self._path = path
        self._file = file
        self._size = size
        self._verbose = verbose
        self._offset = 0
        self._strings = 0
        self._kept = 0

    def header(self) -> GGUFHeader:
        version, tensor_count, key_count = self._preamble()
        metadata: dict[str, Value] = {}
        for _ in range(key_count):
            key = self._string(MAX_NAME_BYTES, "the name of a key")
            if key in metadata:
                self._fail(f"the key {key!r} is there twice")
            metadata[key] = self._value(key)
        tensors = tuple(self._tensor() for _ in range(tensor_count))
        alignment = metadata.get("general.alignment", 32)
        if not isinstance(alignment, int) or alignment <= 0 or alignment & (alignment - 1):
            self._fail(f"general.alignment is {alignment!r}, not a power of two")
        data_offset = -(-self._offset // alignment) * alignment
        ends = [t.offset + (t.size_bytes or 0) for t in tensors]
        end = data_offset + max(ends) if ends else self._offset
        return GGUFHeader(
            version=version,
            metadata=metadata,
            tensors=tensors,
            data_offset=data_offset,
            file_bytes=self._size,
            missing_bytes=max(0, end - self._size),
        )

    def _preamble(self) -> tuple[int, int, int]:
        if self._size == 0:
            self._fail("the file is empty")
        magic = self._take(4, "the magic number")
        if magic != MAGIC:
            self._fail(f"it starts with {magic!r} instead of {MAGIC!r}", offset=0)
        (version,) = struct.unpack("<I", self._take(4, "the version"))
        if version and version & 0xFFFF == 0:
            self._fail("it is big-endian; the engine reads little-endian files", offset=4)
        if version not in (2, 3):
            self._fail(f"version {version} is not supported (2 and 3 are)", offset=4)
        tensors, keys = struct.unpack("<QQ", self._take(16, "the counts"))
        # A key needs at least 13 bytes and a tensor 24, so a false count is found before the walk.
        if keys > min(MAX_KEYS, self._left // 13):
            self._fail(f"it claims {keys} keys in {self._size} bytes", offset=16)
        if tensors > min(MAX_TENSORS, self._left // 24):
            self._fail(f"it claims {tensors} tensors in {self._size} bytes", offset=8)
        return version, tensors, keys

    @property
    def _left(self) -> int:
        return self._size - self._offset

    def _fail(self, reason: str, *, offset: int | None = None) -> NoReturn:
        raise BadModelFile(self._path, reason, offset=self._offset if offset is None else offset)

    def _take(self, count: int, what: str) -> bytes:
        if count > self._left:
            self._fail(f"it is truncated: {what} needs {count} bytes, {self._left} are left")
        data = self._file.read(count)
        if len(data) != count:
            self._fail(f"it became shorter while {what} was read")
        self._offset += count
        return data

    def _skip(self, count: int, what: str) -> None:
        if count > self._left:
            self._fail(f"it is truncated: {what} needs {count} bytes, {self._left} are left")
        self._file.seek(count, os.SEEK_CUR)
        self._offset += count

    def _length(self, limit: int, what: str) -> int:
        length: int = struct.unpack("<Q", self._take(8, f"the length of {what}"))[0]
        if length > limit:
            self._fail(f"{what} claims {length} bytes (at most {limit} are read)")
        return length

    def _string(self, limit: int, what: str) -> str:
        length = self._length(limit, what)
        self._keep(length)
        return self._take(length, what).decode("utf-8", "replace")

    def _keep(self, count: int) -> None:
        self._kept += count
        if self._kept > MAX_KEPT_BYTES:
            self._fail(f"its metadata are larger than {MAX_KEPT_BYTES} bytes")

    def _value(self, key: str) -> Value:
        (kind,) = struct.unpack("<I", self._take(4, f"the type of {key!r}"))
        if kind == ARRAY:
            return self._array(key)
        return self._scalar(kind, key)

    def _scalar(self, kind: int, key: str) -> Scalar:
        if kind == STRING:
            return self._string(MAX_STRING_BYTES, f"the value of {key!r}")
        if kind not in SCALARS:
            self._fail(f"{key!r} has the unknown type {kind}")
        code, size = SCALARS[kind]
        value: Scalar = struct.unpack("<" + code, self._take(size, f"the value of {key!r}"))[0]
        return value

    def _array(self, key: str) -> Value:
        kind, count = struct.unpack("<IQ", self._take(12, f"the array of {key!r}"))
        if kind == STRING:
            return self._string_array(key, count)
        if kind not in SCALARS:
            self._fail(f"the array {key!r} has elements of the type {kind}, which cannot be read")
        code, size = SCALARS[kind]
        what = f"the array of {key!r}"
        if count > SHORT_ARRAY and not self._verbose:
            self._skip(count * size, what)
            return ArraySummary(length=count, element_type=kind)
        # A Python number in a list takes about 40 bytes, whatever the file spends on it.
        self._keep(min(count, self._left) * 40)
        return list(struct.unpack(f"<{count}{code}", self._take(count * size, what)))

    def _string_array(self, key: str, count: int) -> Value:
        if count > self._left // 8:
            self._fail(f"it is truncated: {key!r} claims {count} strings, {self._left} bytes left")
        self._strings += count
        if self._strings > MAX_STRINGS:
            self._fail(f"it holds more than {MAX_STRINGS} strings")
        what = f"an element of {key!r}"
        if count > SHORT_ARRAY and not self._verbose:
            self._skip_strings(count, what)
            return ArraySummary(length=count, element_type=STRING)
        self._keep(count * 60)
        return [self._string(MAX_STRING_BYTES, what) for _ in range(count)]

    def _skip_strings(self, count: int, what: str) -> None:
        """Walk over strings in one loop: a vocabulary has a million of them."""
        chunk, begin, at = b"", self._offset, self._offset
        unpack = struct.Struct("<Q").unpack_from
        for _ in range(count):
            if at + 8 > begin + len(chunk):
                self._file.seek(at)
                chunk, begin = self._file.read(2**18), at
            if len(chunk) < 8:
                self._fail(f"it is truncated in {what}", offset=at)
            (length,) = unpack(chunk, at - begin)
            if length > min(MAX_STRING_BYTES, self._size - at - 8):
                self._fail(f"{what} claims {length} bytes", offset=at)
            at += 8 + length
        self._file.seek(at)
        self._offset = at

    def _tensor(self) -> TensorInfo:
        name = self._string(MAX_NAME_BYTES, "the name of a tensor")
        what = f"the tensor {name!r}"
        (dims,) = struct.unpack("<I", self._take(4, what))
        if dims > MAX_DIMS:
            self._fail(f"{what} has {dims} dimensions (at most {MAX_DIMS} are possible)")
        shape = struct.unpack(f"<{dims}Q", self._take(8 * dims, what))
        kind, offset = struct.unpack("<IQ", self._take(12, what))
        elements = math.prod(shape)
        if elements >= 2**62 or offset >= 2**62:
            self._fail(f"{what} has an impossible size")
        if kind not in TENSOR_TYPES:
            return TensorInfo(name, shape, f"type {kind}", offset, None)
        label, block, block_bytes = TENSOR_TYPES[kind]
        return TensorInfo(name, shape, label, offset, -(-elements // block) * block_bytes)
