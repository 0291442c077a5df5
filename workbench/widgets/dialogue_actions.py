"""What a person does in the dialogue view, by the name of the message; all on the portal's loop."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from workbench.chat.dialogue import Dialogue
from workbench.chat.dialogue_calls import delete_stored, rename_stored
from workbench.chat.dialogue_log import list_dialogues
from workbench.errors import ConfigError, ConversationLocked
from workbench.units import rfc3339
from workbench.widgets.dialogue_draft import make
from workbench.widgets.dialogue_picture import OPENING, title
from workbench.widgets.lanes import Action

if TYPE_CHECKING:
    from workbench.widgets.dialogue import DialoguePanel

STATIC = Path(__file__).parent / "static"
"""Where the bundled front end lies."""

LAYOUTS = ("thread", "lanes")

_EXPORTS = {
    "markdown": ("md", "text/markdown"),
    "notebook": ("ipynb", "application/x-ipynb+json"),
    "json": ("json", "application/json"),
}

Message = dict[str, Any]


class DialogueActions:
    """The buttons of a `DialoguePanel`.

    Args:
        panel: The panel they belong to.
    """

    def __init__(self, panel: DialoguePanel) -> None:
        self._panel = panel

    @property
    def _dialogue(self) -> Dialogue:
        if self._panel.dialogue is None:
            raise ConfigError("The dialogue has not begun.", key="dialogue")
        return self._panel.dialogue

    def _changed(self) -> None:
        self._panel.views.changed()

    # --- running

    async def start(self, message: Message, _: bytes) -> None:
        """Begin the dialogue that was set up, or go on with the one that is shown."""
        panel = self._panel
        if panel.dialogue is None:
            panel.show(make(panel.client, panel.draft, panel.data_dir))
        dialogue, more = self._dialogue, message.get("turns")
        dialogue.start(turns=None if more is None else int(more))
        self._changed()

    async def pause(self, _: Message, __: bytes) -> None:
        """Pause when the turn that is being said has ended."""
        self._dialogue.pause()

    async def resume(self, _: Message, __: bytes) -> None:
        """Go on after a pause."""
        self._dialogue.resume()
        self._changed()

    async def stop(self, _: Message, __: bytes) -> None:
        """End the dialogue; what came is kept."""
        self._dialogue.stop("stopped by you")

    async def skip(self, _: Message, __: bytes) -> None:
        """Leave the turn that is being said, or that failed."""
        self._dialogue.skip()
        self._changed()

    async def retry(self, message: Message, _: bytes) -> None:
        """Say a turn that failed again; `swap` consents to what has to leave memory."""
        self._dialogue.retry(swap=bool(message.get("swap")))
        self._changed()

    # --- a person's part

    async def mute(self, message: Message, _: bytes) -> None:
        """Take a participant's word, or give it back."""
        self._dialogue.mute(str(message["name"]), on=bool(message["on"]))

    async def say(self, message: Message, _: bytes) -> None:
        """Say something; the next turn hears it."""
        self._dialogue.say(str(message["text"]))

    async def approve(self, message: Message, _: bytes) -> None:
        """Answer to the turn that waits."""
        text = message.get("text")
        self._dialogue.approve(bool(message["yes"]), None if text is None else str(text))

    async def adjust(self, message: Message, _: bytes) -> None:
        """Change a participant's parameters, in the set-up or for its next turns."""
        panel, name, fields = self._panel, str(message["name"]), dict(message["fields"])
        if panel.dialogue is not None:
            panel.dialogue.adjust(name, **fields)
            panel.foresee_soon()
            return
        people = [dict(item) for item in panel.draft["participants"]]
        for item in people:
            if item["name"] == name:
                item.update(fields)
        panel.change_draft({"participants": people})

    # --- going back

    async def rewind(self, message: Message, _: bytes) -> None:
        """Show a branch that ends before a turn."""
        branch = self._dialogue.rewind(int(message["index"]))
        self._branched(branch, int(message["index"]))

    async def continue_with(self, message: Message, _: bytes) -> None:
        """Go on from a turn with another model in its role, as a branch."""
        index, model = int(message["index"]), str(message["model"])
        branch = self._dialogue.continue_with(str(message["name"]), model, index)
        self._branched(branch, index)
        branch.start()
        self._changed()

    def _branched(self, branch: Dialogue, index: int) -> None:
        old = self._dialogue
        self._panel.show(branch)
        kept = "is kept" if old.data_dir is not None else "is unchanged in its variable"
        self._panel.views.notice(
            "info", f"A branch from turn {index + 1}. The first dialogue {kept}."
        )

    # --- the set-up and what is on disk

    async def draft(self, message: Message, _: bytes) -> None:
        """Change the set-up."""
        self._panel.change_draft(dict(message["set"]))

    async def foresee(self, _: Message, __: bytes) -> None:
        """Ask again what memory the dialogue needs, and whether its models are there."""
        self._panel.foresee_soon(0.0)

    async def new(self, _: Message, __: bytes) -> None:
        """Set up another dialogue, with what this one began with."""
        self._panel.show(None)

    async def layout(self, message: Message, _: bytes) -> None:
        """Choose between one thread and lanes."""
        layout = str(message["layout"])
        if layout not in LAYOUTS:
            raise ConfigError(f"unknown layout {layout!r}.", key="layout")
        self._panel.layout = layout
        self._changed()

    async def stored(self, message: Message, _: bytes) -> None:
        """List the dialogues on disk."""
        folder, query = self._panel.data_dir, str(message.get("query") or "")
        found = []
        if folder is not None:
            found = await asyncio.to_thread(list_dialogues, folder, search=query or None)
        items = [
            {
                "id": item.id,
                "title": item.title,
                "who": list(item.participants),
                "turns": item.turns,
                "state": item.state,
                "updated_at": rfc3339(item.updated_at),
            }
            for item in found
        ]
        self._panel.send({"t": "stored", "items": items, "query": query})

    @property
    def _folder(self) -> Path:
        if self._panel.data_dir is None:
            raise ConfigError("Dialogues are not kept on disk here.", key="data_dir")
        return self._panel.data_dir

    async def rename(self, message: Message, _: bytes) -> None:
        """Give a dialogue on disk a title."""
        wanted, text = str(message["id"]), str(message["title"]).strip()
        await asyncio.to_thread(rename_stored, self._folder, wanted, text)
        await self.stored(message, b"")

    async def remove(self, message: Message, _: bytes) -> None:
        """Delete a dialogue on disk; the one that is shown makes room for the set-up."""
        panel, wanted = self._panel, str(message["id"])
        await asyncio.to_thread(delete_stored, self._folder, wanted)
        if panel.dialogue is not None and panel.dialogue.id == wanted:
            panel.show(None)
        await self.stored(message, b"")

    async def open(self, message: Message, _: bytes) -> None:
        """Show a dialogue that is on disk; one that another kernel writes is shown read-only."""
        panel, wanted = self._panel, str(message["id"])
        if panel.dialogue is not None and panel.dialogue.id == wanted:
            return
        held = Dialogue.held(wanted, self._folder)
        if held is not None:
            panel.show(held)
            return
        how: Mapping[str, Any] = {"client": panel.client, "data_dir": self._folder}
        try:
            found = await asyncio.to_thread(Dialogue.open, wanted, **how)
        except ConversationLocked as exc:
            found = await asyncio.to_thread(Dialogue.open, wanted, read_only=True, **how)
            panel.views.notice("info", exc.message, hint=exc.hint)
        panel.show(found)

    # --- what goes out

    async def export(self, message: Message, _: bytes) -> None:
        """Send the transcript as a file."""
        dialogue, form = self._dialogue, str(message["fmt"])
        if form not in _EXPORTS:
            raise ConfigError(f"unknown format {form!r}.", key="fmt", hint=f"Known: {[*_EXPORTS]}.")
        made = getattr(dialogue, f"to_{form}")()
        text = made if isinstance(made, str) else json.dumps(made, ensure_ascii=False, indent=1)
        ending, mime = _EXPORTS[form]
        name = re.sub(r"[^\w.-]+", "-", title(dialogue))[:40].strip("-") or "dialogue"
        head = {"t": "file", "name": f"{name}.{ending}", "mime": mime, "view": message.get("view")}
        self._panel.send(head, [text.encode("utf-8", "replace")])

    async def insert(self, message: Message, _: bytes) -> None:
        """Give a turn, code of it, or the transcript to the view that asked."""
        dialogue, mid, source = self._dialogue, str(message["mid"]), message.get("source")
        kind = "markdown"
        if isinstance(source, str):
            text, kind = source.removesuffix("\n"), "code"
        elif mid == OPENING:
            text = dialogue.to_markdown()
        else:
            text = dialogue.transcript.turn(mid).text
        view = message.get("view")
        self._panel.send({"t": "clip", "text": text, "code": None, "kind": kind, "view": view})

    async def need(self, message: Message, _: bytes) -> None:
        """Send a part of the front end that is loaded late."""
        if message["mod"] != "math":
            raise ConfigError(f"unknown module {message['mod']!r}.", key="mod")
        source = await asyncio.to_thread((STATIC / "math.js").read_bytes)
        self._panel.send({"t": "mod", "mod": "math"}, [source])


_NAMES = (
    "start pause resume stop skip retry mute say approve adjust rewind draft foresee new layout "
    "stored open rename remove export insert need"
).split()


def actions_of(panel: DialoguePanel) -> dict[str, Action]:
    """Return what each message of a view does."""
    buttons = DialogueActions(panel)
    found: dict[str, Action] = {name: getattr(buttons, name) for name in _NAMES}
    return {**found, "continue": buttons.continue_with}
