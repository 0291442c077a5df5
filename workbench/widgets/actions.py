"""What a person does in the chat view, by the name of the message; all run on the portal's loop."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from workbench.chat.conversation import Job
from workbench.chat.session import ChatSession
from workbench.chat.store import delete_chat, list_chats, rename_chat
from workbench.chat.window import TokenMeter
from workbench.errors import ConfigError, ConversationLocked
from workbench.messages import RUNNER_OPTIONS, GenerateConfig
from workbench.units import rfc3339
from workbench.widgets import presets
from workbench.widgets.attachments import (
    Attachment,
    attached_part,
    from_file,
    from_variable,
    with_attachments,
)
from workbench.widgets.snapshot import context_limits

STATIC = Path(__file__).parent / "static"
"""Where the bundled front end lies."""

Message = dict[str, Any]


class Panel(Protocol):
    """What an action needs of the panel it acts for; see `ChatPanel`."""

    session: ChatSession
    attachments: list[Attachment]
    default: Mapping[str, Any] | None

    def send(self, content: Mapping[str, Any], buffers: Sequence[bytes] = ()) -> None:
        """Send a message to every view."""
        ...

    def state(self) -> Message:
        """Return what the view draws."""
        ...

    def state_changed(self) -> None:
        """Send the picture soon."""
        ...

    def notice(self, level: str, text: str, *, hint: str | None = None) -> None:
        """Show a line above the conversation."""
        ...

    def show_session(self, session: ChatSession) -> None:
        """Show another conversation."""
        ...


Action = Callable[[Panel, Message, bytes], Awaitable[None]]
_FENCE = re.compile(r"^(`{3,}|~{3,})[^\n]*\n(.*?)^\1[ \t]*$", re.DOTALL | re.MULTILINE)
_EXPORTS = {
    "markdown": ("md", "text/markdown"),
    "json": ("json", "application/json"),
    "jsonl": ("jsonl", "application/x-ndjson"),
    "notebook": ("ipynb", "application/x-ipynb+json"),
}


async def send(panel: Panel, message: Message, _: bytes) -> None:
    """Ask a question with what is attached."""
    images = [item.image for item in panel.attachments if item.kind == "image"]
    text = with_attachments(str(message["text"]), panel.attachments)
    if not text.strip() and not images:
        return
    job = panel.session.begin(text, images=images, kind="widget")
    panel.attachments.clear()
    await _tell(panel, job)


async def _tell(panel: Panel, job: Job) -> None:
    """Show what the conversation wants a person to know about an answer once it has ended."""
    await asyncio.wrap_future(job.future)
    for notice in job.notices:
        panel.notice("info", notice)


async def stop(panel: Panel, _: Message, __: bytes) -> None:
    """Stop the answer; its part stays."""
    panel.session.stop()


async def regenerate(panel: Panel, message: Message, _: bytes) -> None:
    """Ask again; the new answer stands beside the old one."""
    session = panel.session
    parent = session.transcript.node(str(message["mid"])).parent
    await _tell(panel, session.begin_again(parent, kind="widget"))


async def edit(panel: Panel, message: Message, _: bytes) -> None:
    """Ask another question in place of one; what was attached to it stays attached."""
    mid = str(message["mid"])
    kept = attached_part(panel.session.transcript.node(mid).message.content)
    job = panel.session.begin_edit(mid, str(message["text"]) + kept, kind="widget")
    await _tell(panel, job)


async def swap(panel: Panel, message: Message, _: bytes) -> None:
    """Load the model an answer waits for, with the consent that others leave, and ask again."""
    session = panel.session
    node = session.transcript.node(str(message["mid"]))
    plan = ((node.facts.error if node.facts else None) or {}).get("plan")
    if plan is None:
        raise ConfigError("this answer waits for no model.", key="swap")
    name = f"{plan['model']}@{plan['backend']}" if plan["backend"] else plan["model"]
    config = GenerateConfig(options=_runner_options(session.options))
    await session.client.load(name, config=config, swap=True)
    await _tell(panel, session.begin_again(node.parent, kind="widget"))


def _runner_options(options: Mapping[str, Any]) -> Message:
    # What the model is loaded with: another context would load it once more.
    return {name: options[name] for name in RUNNER_OPTIONS if name in options}


async def goto(panel: Panel, message: Message, _: bytes) -> None:
    """Show another version of a message."""
    panel.session.choose(str(message["mid"]))


async def delete(panel: Panel, message: Message, _: bytes) -> None:
    """Remove a turn and what follows it."""
    panel.session.delete(str(message["mid"]))


async def model(panel: Panel, message: Message, _: bytes) -> None:
    """Choose the model of the next answers."""
    panel.session.model = str(message["name"])


async def config(panel: Panel, message: Message, _: bytes) -> None:
    """Change system prompt, options and thinking of the next answers."""
    params = message.get("params") or {}
    panel.session.configure(
        system=str(message.get("system") or "") or None,
        options={name: value for name, value in params.items() if value is not None},
        think=message.get("think"),
    )


async def preset(panel: Panel, message: Message, _: bytes) -> None:
    """Use, save or delete a preset."""
    session, name = panel.session, str(message["name"])
    folder = _data_dir(panel)
    if message["op"] == "save":
        made = presets.Preset(name, session.system or "", session.options, session.think)
        await asyncio.to_thread(presets.save_preset, folder, made)
        _use(session, made)
    elif message["op"] == "delete":
        await asyncio.to_thread(presets.delete_preset, folder, name)
        if (session.preset or {}).get("name") == name:
            session.configure(system=session.system, options=session.options, think=session.think)
    else:
        known = await asyncio.to_thread(presets.list_presets, folder)
        found = next((item for item in known if item.name == name), None)
        if found is None:
            raise ConfigError(f"there is no preset {name!r}.", key="preset")
        _use(session, found)
    panel.state_changed()


def _use(session: ChatSession, chosen: presets.Preset) -> None:
    session.configure(
        system=chosen.system or None,
        options=chosen.options,
        think=chosen.think,
        preset={"name": chosen.name, "digest": chosen.digest},
    )


def preset_rows(panel: Panel) -> list[Message]:
    """Return the presets for the drawer."""
    if panel.session.data_dir is None:
        return []
    return [
        {
            "name": item.name,
            "system": item.system,
            "params": dict(item.options),
            "think": item.think,
        }
        for item in presets.list_presets(panel.session.data_dir)
    ]


def _data_dir(panel: Panel) -> Path:
    if panel.session.data_dir is None:
        raise ConfigError("This conversation is in memory only.", key="data_dir")
    return panel.session.data_dir


def _held(panel: Panel, cid: str) -> ChatSession | None:
    """Return the session of this kernel that writes a conversation, if there is one."""
    folder = panel.session.data_dir
    return None if folder is None else ChatSession.held(cid, folder)


async def attach(panel: Panel, message: Message, data: bytes) -> None:
    """Attach a file that was dropped, pasted or chosen."""
    item = from_file(str(message["name"]), str(message.get("mime") or ""), data)
    if item.kind == "image":
        row = panel.state()["model"] or {}
        if not row.get("vision", True):
            raise ConfigError(
                f"{row['name']} does not read images.", key="attach", hint="Choose a vision model."
            )
    panel.attachments.append(item)
    panel.state_changed()


async def attach_var(panel: Panel, message: Message, _: bytes) -> None:
    """Attach a variable of the notebook."""
    from IPython import get_ipython

    shell = get_ipython()
    namespace = shell.user_ns if shell is not None else {}
    name = str(message["name"])
    panel.attachments.append(await asyncio.to_thread(from_variable, name, namespace))
    panel.state_changed()


async def detach(panel: Panel, message: Message, _: bytes) -> None:
    """Take an attachment away."""
    panel.attachments[:] = [item for item in panel.attachments if item.aid != message["aid"]]
    panel.state_changed()


def attachment_rows(panel: Panel) -> list[Message]:
    """Return what is attached to the next question, with sizes."""
    ratio = _meter(panel).bytes_per_token
    return [
        {
            "aid": item.aid,
            "name": item.name,
            "kind": item.kind,
            "bytes": item.size_bytes,
            "tokens_est": None
            if item.kind == "image"
            else round(len(item.text.encode("utf-8", "replace")) / ratio),
        }
        for item in panel.attachments
    ]


def _meter(panel: Panel) -> TokenMeter:
    return panel.session.meter(panel.session.model or (panel.default or {}).get("name"))


async def measure(panel: Panel, message: Message, _: bytes) -> None:
    """Tell whether the draft fits the context, with numbers, before it is sent."""
    state = panel.state()
    limit = context_limits(panel.session, state["model"])["ctx"]
    meter = _meter(panel)
    rows = attachment_rows(panel)
    draft = round(int(message["text_len"]) / meter.bytes_per_token)
    draft += sum(row["tokens_est"] or 0 for row in rows)
    history = meter.estimate(panel.session.messages)
    panel.send(
        {
            "t": "ctx",
            "tokens_est": draft,
            "history_est": history,
            "ctx": limit,
            "fits": limit is None or draft < limit,
            "drops": limit is not None and draft + history >= limit,
            "items": rows,
        }
    )


async def insert(panel: Panel, message: Message, _: bytes) -> None:
    """Give an answer, or one of its code blocks, to the view that asked: as a cell, or to copy."""
    answer = panel.session.transcript.node(str(message["mid"])).message.content
    number, source = message.get("code"), message.get("source")
    if isinstance(source, str):
        # The view says which code it drew: fences in lists are not found by counting lines.
        text, kind = source, "code"
    elif number is not None:
        blocks = [match[1] for match in _FENCE.findall(answer)]
        found = 0 <= int(number) < len(blocks)
        text, kind = (blocks[int(number)], "code") if found else (answer, "markdown")
    else:
        text, kind = answer, "markdown"
    view = message.get("view")
    text = text.removesuffix("\n")
    panel.send({"t": "clip", "text": text, "code": number, "kind": kind, "view": view})


async def export(panel: Panel, message: Message, _: bytes) -> None:
    """Send the conversation as a file."""
    session, form = panel.session, str(message["fmt"])
    if form not in _EXPORTS:
        raise ConfigError(f"unknown format {form!r}.", key="fmt", hint=f"Known: {[*_EXPORTS]}.")
    made = getattr(session, f"to_{form}")()
    text = made if isinstance(made, str) else json.dumps(made, ensure_ascii=False, indent=1)
    ending, mime = _EXPORTS[form]
    name = re.sub(r"[^\w.-]+", "-", session.title)[:40].strip("-") or "chat"
    head = {"t": "file", "name": f"{name}.{ending}", "mime": mime, "view": message.get("view")}
    panel.send(head, buffers=[text.encode("utf-8", "replace")])


async def chats(panel: Panel, message: Message, _: bytes) -> None:
    """List conversations."""
    query = str(message.get("query") or "")
    found = await asyncio.to_thread(list_chats, _data_dir(panel), search=query or None)
    items = [
        {
            "cid": item.id,
            "title": item.title,
            "updated_at": rfc3339(item.updated_at),
            "turns": item.turns,
            "model": item.model,
        }
        for item in found
    ]
    panel.send({"t": "chats", "items": items, "query": query})


async def open_chat(panel: Panel, message: Message, _: bytes) -> None:
    """Show another conversation; one that another kernel writes is shown read-only."""
    old, cid = panel.session, str(message["cid"])
    if cid == old.id:
        return
    held = _held(panel, cid)
    if held is not None:
        panel.show_session(held)
        return
    how: Message = {"client": old.client, "data_dir": _data_dir(panel)}
    how["default_model"] = old.default_model
    try:
        session = await asyncio.to_thread(ChatSession.open, cid, **how)
    except ConversationLocked as exc:
        session = await asyncio.to_thread(ChatSession.open, cid, read_only=True, **how)
        panel.notice("info", exc.message, hint=exc.hint)
    panel.show_session(session)


async def new_chat(panel: Panel, _: Message, __: bytes) -> None:
    """Begin a new conversation with the same model and parameters."""
    panel.show_session(panel.session.fresh())


async def rename(panel: Panel, message: Message, _: bytes) -> None:
    """Give a conversation a title."""
    cid, title = str(message["cid"]), str(message["title"]).strip()
    held = _held(panel, cid)
    if held is not None:
        held.rename(title)
    else:
        await asyncio.to_thread(rename_chat, _data_dir(panel), cid, title)
    await chats(panel, message, b"")


async def remove(panel: Panel, message: Message, _: bytes) -> None:
    """Delete a conversation; the one that is shown makes room for a new one."""
    cid = str(message["cid"])
    held = _held(panel, cid)
    if cid == panel.session.id:
        held = panel.session
        await new_chat(panel, message, b"")
    if held is not None:
        await asyncio.to_thread(held.close)
    await asyncio.to_thread(delete_chat, _data_dir(panel), cid)
    await chats(panel, message, b"")


async def need(panel: Panel, message: Message, _: bytes) -> None:
    """Send a part of the front end that is loaded late."""
    if message["mod"] != "math":
        raise ConfigError(f"unknown module {message['mod']!r}.", key="mod")
    source = await asyncio.to_thread((STATIC / "math.js").read_bytes)
    panel.send({"t": "mod", "mod": "math"}, buffers=[source])


ACTIONS: dict[str, Action] = {
    "send": send,
    "stop": stop,
    "regen": regenerate,
    "edit": edit,
    "swap": swap,
    "goto": goto,
    "delete": delete,
    "model": model,
    "config": config,
    "preset": preset,
    "attach": attach,
    "attach_var": attach_var,
    "detach": detach,
    "measure": measure,
    "insert": insert,
    "export": export,
    "chats": chats,
    "open": open_chat,
    "new": new_chat,
    "rename": rename,
    "remove": remove,
    "need": need,
}
