"""Files, images and variables as context of a question, with their size told before sending.

Text goes into the message between tags with a name, the form models know best; images travel beside
it.  Nothing of an attachment is executed or rendered.
"""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from workbench.errors import ConfigError
from workbench.units import sortable_id

Kind = Literal["text", "image", "data"]

LARGEST_FILE_BYTES = 20 * 1024 * 1024
ROWS_SHOWN = 200
_IMAGE_TYPES = ("image/png", "image/jpeg", "image/webp", "image/gif")
_HEAD = re.compile(r'\n\n<attachment name="([^"\n]*)" kind="(text|data)" bytes="(\d+)">\n')
_TAIL = "\n</attachment>"


@dataclass(frozen=True, slots=True)
class Attachment:
    """Something that goes with the next question.

    Attributes:
        text: What the model reads; empty for an image.
        image: Base64 text of an image.
        size_bytes: Size of the file, or of the text that is made of a variable.
    """

    aid: str
    name: str
    kind: Kind
    size_bytes: int
    text: str = ""
    image: str = ""


def from_file(name: str, mime: str, data: bytes) -> Attachment:
    """Return a dropped or pasted file as an attachment.

    Raises:
        ConfigError: When it is too large, or neither text nor an image that models read.
    """
    shown = _clean(name)
    if len(data) > LARGEST_FILE_BYTES:
        raise ConfigError(f"{shown} is larger than {LARGEST_FILE_BYTES} bytes.", key="attach")
    if mime in _IMAGE_TYPES:
        image = base64.b64encode(data).decode()
        return Attachment(sortable_id(), shown, "image", len(data), image=image)
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as exc:
        raise ConfigError(
            f"{shown} is neither text nor an image.",
            key="attach",
            hint="Attach UTF-8 text, or a PNG, JPEG, WebP or GIF image.",
        ) from exc
    return Attachment(sortable_id(), shown, "text", len(data), text=text)


def from_variable(name: str, namespace: Mapping[str, Any]) -> Attachment:
    """Return a variable of the notebook as an attachment.

    A DataFrame becomes its shape, its types and its first rows as CSV; anything else its text.

    Raises:
        ConfigError: When there is no such variable.
    """
    if name not in namespace:
        raise ConfigError(f"there is no variable {name!r} in this notebook.", key="attach_var")
    value = namespace[name]
    text = _frame_text(value) if hasattr(value, "to_csv") else str(value)
    size = len(text.encode("utf-8", "replace"))
    if size > LARGEST_FILE_BYTES:
        raise ConfigError(f"{name} is larger than {LARGEST_FILE_BYTES} bytes.", key="attach_var")
    return Attachment(sortable_id(), _clean(name), "data", size, text=text)


def _frame_text(frame: Any) -> str:
    shape = getattr(frame, "shape", ())
    rows = shape[0] if shape else 0
    head = frame.head(ROWS_SHOWN).to_csv()
    types = getattr(frame, "dtypes", None)
    lines = [f"shape: {shape}"]
    if types is not None and hasattr(types, "items"):
        lines.append("types: " + ", ".join(f"{column}: {kind}" for column, kind in types.items()))
    if rows > ROWS_SHOWN:
        lines.append(f"the first {ROWS_SHOWN} of {rows} rows:")
    return "\n".join([*lines, head.rstrip("\n")])


def _clean(name: str) -> str:
    return re.sub(r'["<>\x00-\x1f]', "_", name)[:120] or "unnamed"


def with_attachments(text: str, attachments: Sequence[Attachment]) -> str:
    """Return the text of a question with what is attached to it."""
    blocks = [
        f'\n\n<attachment name="{item.name}" kind="{item.kind}" bytes="{item.size_bytes}">\n'
        f"{item.text}\n</attachment>"
        for item in attachments
        if item.kind != "image"
    ]
    return text + "".join(blocks)


def attached_part(content: str) -> str:
    """Return what is attached to a question, as it stands in its content; an edit keeps it."""
    text, _ = split_attachments(content)
    return content[len(text) :] if content.startswith(text) else ""


def split_attachments(content: str) -> tuple[str, list[dict[str, Any]]]:
    """Return a question's own text, and `{name, kind, bytes}` of what is attached to it."""
    kept, found, at, begin = "", [], 0, 0
    while (head := _HEAD.search(content, at)) is not None:
        name, kind, size = head[1], head[2], int(head[3])
        # Its size says where it ends: a file may hold our own tags.
        data = content[head.end() :].encode("utf-8", "replace")[:size]
        end = head.end() + len(data.decode("utf-8", "replace"))
        at = head.end()
        if content.startswith(_TAIL, end):
            found.append({"name": name, "kind": kind, "bytes": size})
            kept += content[begin : head.start()]
            at = begin = end + len(_TAIL)
    return kept + content[begin:], found
