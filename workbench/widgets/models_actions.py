"""What a person does in the models panel, by the name of the message; all on the portal's loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol

from workbench.errors import SwapRequired, WorkbenchError
from workbench.widgets.feed import Door, ModelsFeed, own
from workbench.widgets.models_picture import Doings

Message = dict[str, Any]

_UNLOADED = {
    "verified": "ok",
    "absent": "info",
    "gone_unverified": "warn",
    "still_loaded": "error",
    "resurrected": "error",
}


class Panel(Protocol):
    """What an action needs of the panel it acts for; see `ModelsPanel`."""

    doings: Doings

    @property
    def door(self) -> Door:
        """Asks the server, and starts one where that is allowed."""

    @property
    def feed(self) -> ModelsFeed:
        """What is known about the server."""

    def note(self, key: str, note: Mapping[str, Any]) -> None:
        """Show how an action on a model ended."""

    def say(self, where: str, said: Mapping[str, Any]) -> None:
        """Show how an action that is not about one model ended."""

    def changed(self) -> None:
        """Tell the views soon."""


Action = Callable[[Panel, Message], Awaitable[None]]


async def load(panel: Panel, message: Message) -> None:
    """Load a model; where others would have to leave and nobody agreed, ask."""
    key = str(message["key"])
    body = {"model": key, **{name: True for name in ("swap", "force") if message.get(name)}}

    async def work() -> Mapping[str, Any]:
        try:
            row = await panel.door.request_json("POST", own("load"), body)
        except SwapRequired as exc:
            panel.doings.asks[key] = exc.plan
            return {}
        return {
            "kind": "loaded",
            "level": "warn" if row.get("warnings") else "ok",
            "seconds": row.get("load_s"),
            "size": row.get("size_bytes"),
            "vram": row.get("vram_bytes"),
            "context": row.get("context_length"),
        }

    await _act(panel, key, "load", work)


async def unload(panel: Panel, message: Message) -> None:
    """Unload a model and show the verdict."""
    key = str(message["key"])
    body = {"model": key, **({"force": True} if message.get("force") else {})}

    async def work() -> Mapping[str, Any]:
        row = await panel.door.request_json("POST", own("unload"), body)
        before, after = row.get("bytes_before"), row.get("bytes_after")
        return {
            "kind": "unloaded",
            "level": _UNLOADED.get(row.get("verdict"), "warn"),
            "verdict": row.get("verdict"),
            "seconds": row.get("seconds"),
            "freed": None if before is None or after is None else max(0, before - after),
        }

    await _act(panel, key, "unload", work)


async def pin(panel: Panel, message: Message) -> None:
    """Pin a model, or let it go again; the row itself shows the result."""
    key = str(message["key"])

    async def work() -> Mapping[str, Any]:
        name = "pin" if message.get("on") else "unpin"
        await panel.door.request_json("POST", own(name), {"model": key})
        return {}

    await _act(panel, key, "pin", work)


async def prefer(panel: Panel, message: Message) -> None:
    """Change how a model is treated; the row itself shows the result."""
    key = str(message["key"])
    body = {"model": key}
    body |= {name: message[name] for name in ("priority", "hot") if name in message}

    async def work() -> Mapping[str, Any]:
        await panel.door.request_json("PATCH", own("models"), body)
        return {}

    await _act(panel, key, "prefer", work)


async def delete(panel: Panel, message: Message) -> None:
    """Delete a model from the disk; the question was asked in the view."""
    key = str(message["key"])

    async def work() -> Mapping[str, Any]:
        row = await panel.door.request_json("DELETE", own("models"), {"model": key})
        done = {"kind": "deleted", "level": "ok", "model": row.get("model") or key}
        panel.say("panel", {**done, "freed": row.get("freed_bytes")})
        return {}

    await _act(panel, key, "delete", work)


async def _act(
    panel: Panel, key: str, act: str, work: Callable[[], Awaitable[Mapping[str, Any]]]
) -> None:
    """Do something with a model while its row says so, and show how it ended."""
    doings = panel.doings
    doings.asks.pop(key, None)
    doings.notes.pop(key, None)
    doings.acts[key] = act
    panel.changed()
    try:
        note = await work()
    except WorkbenchError as exc:
        note = {"kind": "failed", "level": "error", "text": exc.message, "hint": exc.hint}
    finally:
        doings.acts.pop(key, None)
        panel.feed.ask_soon()
        panel.changed()
    if note:
        panel.note(key, note)


async def dismiss(panel: Panel, message: Message) -> None:
    """Take a note or a question away."""
    key = str(message.get("key", ""))
    panel.doings.notes.pop(key, None)
    panel.doings.asks.pop(key, None)
    if not key:
        panel.doings.said = None
    panel.changed()


async def pull(panel: Panel, message: Message) -> None:
    """Begin a download."""
    panel.feed.pull(panel.door, str(message["model"]))


async def pull_cancel(panel: Panel, message: Message) -> None:
    """End a download; pulled again, it goes on where it stopped."""
    panel.feed.cancel_pull(str(message["model"]))


async def add(panel: Panel, message: Message) -> None:
    """Make a GGUF file on the server's machine a model."""
    body = {"path": str(message["path"])}
    if message.get("name"):
        body["name"] = str(message["name"])
    try:
        row = await panel.door.request_json("POST", own("models/add"), body)
    except WorkbenchError as exc:
        panel.say("get", {"level": "error", "text": exc.message, "hint": exc.hint})
        return
    panel.say("get", {"level": "ok", "text": f"Added {row.get('name')}."})
    panel.feed.ask_soon()


async def set_value(panel: Panel, message: Message) -> None:
    """Change a setting of the server."""
    name, value = str(message["name"]), message.get("value")
    try:
        body = await panel.door.request_json("PATCH", own("settings"), {name: value})
    except WorkbenchError as exc:
        panel.say("settings", {"level": "error", "text": exc.message, "hint": exc.hint})
        return
    panel.feed.put("settings", body)
    known = {item.get("name"): item.get("value") for item in body.get("settings") or ()}
    shown = known.get(name, value)
    text = f"{name} is not set now." if shown is None else f"{name} is {_shown(shown)} now."
    panel.say("settings", {"level": "ok", "text": text})


def _shown(value: Any) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)


async def refresh(panel: Panel, _: Message) -> None:
    """Ask the server for everything now."""
    panel.feed.ask_soon(rarely=True)


async def connect(panel: Panel, _: Message) -> None:
    """Find the server again, and start one where that is allowed."""
    try:
        await panel.door.request_json("GET", own("info"))
    except WorkbenchError as exc:
        panel.say("panel", {"level": "error", "text": exc.message, "hint": exc.hint})
    panel.feed.ask_soon(rarely=True)


ACTIONS: dict[str, Action] = {
    "load": load,
    "unload": unload,
    "pin": pin,
    "prefer": prefer,
    "delete": delete,
    "dismiss": dismiss,
    "pull": pull,
    "pull_cancel": pull_cancel,
    "add": add,
    "set": set_value,
    "refresh": refresh,
    "connect": connect,
}
