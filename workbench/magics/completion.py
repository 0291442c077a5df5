"""Tab completion in the cells of the magics: options, models, and the fields of a head."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, get_args

from workbench.chat.dialogue_setup import Human, Schedule
from workbench.chat.orders import ORDERS
from workbench.client.api import WorkbenchClient
from workbench.client.door import client_config, open_client
from workbench.errors import WorkbenchError
from workbench.magics import chat, compare, dialogue, metrics
from workbench.magics.head import RULE
from workbench.magics.line import Line, held_workbench
from workbench.messages import OPTION_TYPES
from workbench.portal import get_portal

LINES: Mapping[str, Line] = {
    one.magic: one for one in (chat.LINE, compare.LINE, dialogue.LINE, metrics.LINE)
}
"""The line of each magic by its name with the percent signs."""

_IDENTIFIER = "workbench"
_ASK_S = 2.0
_FRESH_S = 5.0
_CHOICES: Mapping[str, Sequence[str]] = {
    "order": ORDERS,
    "human": get_args(Human),
    "schedule": get_args(Schedule),
    "repetition": ("off", "on"),
    "sees": ("all", "opening"),
    "think": ("true", "false", "low", "medium", "high"),
    "share_thinking": ("true", "false"),
    "swap": ("true", "false"),
}
_ASK_MODEL = ("model", "judge", "moderator", "summary")
_KEY = re.compile(r"^(?P<indent>\s*)(?:-\s+)?(?:.*[{,]\s*)?(?P<word>[\w-]*)$")
_VALUE = re.compile(r"(?P<key>[\w .-]+?)['\"]?\s*:\s+(?P<word>[^\s,}]*)$")
_ITEM = re.compile(r"(?:^\s*-\s+|[\[,]\s*)(?P<word>[^\s,\]{}:]*)$")

Names = Callable[[], Sequence[str]]


def complete_for(shell: Any) -> None:
    """Let a shell complete our cells; IPython before 8.6 has no place for it."""
    matchers = getattr(getattr(shell, "Completer", None), "custom_matchers", None)
    if matchers is None:
        return
    matchers[:] = [one for one in matchers if getattr(one, "matcher_identifier", "") != _IDENTIFIER]
    matchers.append(_matcher(_Models(shell)))


def _matcher(models: Names) -> Any:
    from IPython.core.completer import SimpleCompletion, context_matcher

    @context_matcher(identifier=_IDENTIFIER)  # type: ignore[untyped-decorator]
    def matcher(context: Any) -> dict[str, Any]:
        lines = context.full_text.split("\n")
        before = lines[: context.cursor_line]
        found = completions([*before, context.text_until_cursor], models)
        if found is None:
            return {"completions": [], "suppress": False}
        fragment, words = found
        return {
            "completions": [SimpleCompletion(text=word, type="workbench") for word in words],
            "matched_fragment": fragment,
            "suppress": bool(words),
        }

    return matcher


class _Models:
    """Names of the installed models; asked once in a while, and no server is started for it."""

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._names: list[str] = []
        self._asked = float("-inf")
        self._client: WorkbenchClient | None = None

    def __call__(self) -> Sequence[str]:
        if time.monotonic() - self._asked > _FRESH_S:
            wb = held_workbench(self._shell)
            if wb is None and self._client is None:
                self._client = open_client(client_config(), spawn=False)
            client = self._client if wb is None else wb.client
            assert client is not None
            try:
                self._names = get_portal().run(_names(client))
            except (WorkbenchError, TimeoutError):
                # Nothing can be shown between two keys: what was known stays.
                return self._names
            self._asked = time.monotonic()
        return self._names


async def _names(client: WorkbenchClient) -> list[str]:
    async with asyncio.timeout(_ASK_S):
        return [info.name.removesuffix(":latest") for info in await client.models()]


def completions(lines: Sequence[str], models: Names) -> tuple[str, list[str]] | None:
    """Return what is being typed at the end of a cell and how it may go on.

    Args:
        lines: The cell up to the cursor.
        models: Returns the names of the models.

    Returns:
        `None` where the cell is none of ours, or the cursor stands where everything may.
    """
    magic = lines[0].split(None, 1)[0] if lines and lines[0].strip() else ""
    line = LINES.get(magic)
    if line is None:
        return None
    if len(lines) == 1:
        return _on_line(line, lines[0][len(magic) :], models)
    headless = any(text.rstrip() == RULE for text in lines[1:-1])
    takes_head = magic == dialogue.LINE.magic or (
        magic == compare.LINE.magic and not _has_models(lines[0][len(magic) :], line)
    )
    return None if headless or not takes_head else _in_head(magic, lines[1:], models)


def _starting(fragment: str, words: Iterable[str]) -> tuple[str, list[str]]:
    return fragment, [word for word in words if word.startswith(fragment)]


def _on_line(line: Line, text: str, models: Names) -> tuple[str, list[str]] | None:
    if not text[:1].isspace():
        return None
    words = text.split()
    fragment = "" if text[-1].isspace() else words.pop()
    last = words[-1] if words else ""
    if fragment.startswith("-"):
        used = set(words)
        return _starting(fragment, (name for name in line.names if name not in used))
    if _takes_value(last, line):
        key = last.lstrip("-")
        return _starting(fragment, _CHOICES[key]) if key in _CHOICES else None
    return _starting(fragment, models()) if line.takes_models else None


def _takes_value(word: str, line: Line) -> bool:
    options = (*line.options, *line.model_options)
    return bool(word) and any(
        o.metavar and word in (o.name, o.short, f"--{o.field}") for o in options
    )


def _has_models(text: str, line: Line) -> bool:
    words = text.split()
    before = ["", *words]
    return any(
        not word.startswith("-") and not _takes_value(before[index], line)
        for index, word in enumerate(words)
    )


def _in_head(magic: str, lines: Sequence[str], models: Names) -> tuple[str, list[str]] | None:
    text, top = lines[-1], _top_field(lines)
    value = _VALUE.search(text)
    if value is not None:
        key, fragment = value["key"].strip(" {-"), value["word"]
        plays = top == "participants" and key not in dialogue.PARTICIPANT
        if key in _ASK_MODEL or (plays and key not in OPTION_TYPES):
            return _starting(fragment, models())
        return _starting(fragment, _CHOICES[key]) if key in _CHOICES else None
    item = _ITEM.search(text)
    if item is not None and top == "models":
        return _starting(item["word"], models())
    name = _KEY.match(text)
    if name is None:
        return None
    fields: Iterable[str] = compare.FIELDS if magic == compare.LINE.magic else dialogue.FIELDS
    if text[:1].isspace() or "{" in text:
        inner = dialogue.PARTICIPANT if top == "participants" else compare.MODEL_FIELDS
        fields = (*inner, *OPTION_TYPES) if top in ("participants", "models") else ()
    return _starting(name["word"], (f"{field}: " for field in fields))


def _top_field(lines: Sequence[str]) -> str:
    """Return the field of the head the last line belongs to."""
    for line in reversed(lines):
        if line[:1].strip() and line[0] != "-" and ":" in line:
            return line.partition(":")[0].strip()
    return ""
