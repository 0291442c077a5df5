"""The part of `Workbench` that is about dialogues."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from workbench.client.api import WorkbenchClient
from workbench.client.values import Table
from workbench.config import Config

if TYPE_CHECKING:
    from workbench.chat.dialogue import Dialogue, DialogueCode, DialogueOptions
    from workbench.chat.dialogue_log import DialogueInfo, DialogueTranscript
    from workbench.chat.dialogue_replay import Replay
    from workbench.chat.participants import Participant


class DialogueCalls:
    """What a notebook asks about dialogues.

    Attributes:
        client: The door to the server.
        config: The client's configuration.
    """

    client: WorkbenchClient
    config: Config

    @property
    def _unattended(self) -> bool:
        """Whether nobody looks; the layer that knows of notebooks says so."""
        return False

    def dialogue(
        self,
        participants: Sequence[Participant | Mapping[str, Any]],
        *,
        opening: str,
        record: bool = True,
        **how: Unpack[DialogueOptions],
    ) -> Dialogue:
        """Set up a dialogue between models; `run()` or `start()` begins it.

        Args:
            participants: Who talks: `Participant` objects, or mappings with `name` and `model`.
            opening: What it is about; everybody hears it.
            record: Keep it in a file of the data folder.
            **how: See `Dialogue`: `order`, `turns`, `stop`, `memory`, `human`, `judge`,
                `moderator`, `seed` and so on.
        """
        from workbench.chat.dialogue import Dialogue

        return Dialogue(
            self.client,
            participants,
            opening=opening,
            data_dir=self.config.data_dir if record else None,
            unattended=self._unattended,
            **how,
        )

    def open_dialogue(
        self, dialogue_id: str, *, read_only: bool = False, **code: Unpack[DialogueCode]
    ) -> Dialogue:
        """Open a dialogue that is on disk, or the one this process has; see `Dialogue.open`.

        Args:
            dialogue_id: Its id.
            read_only: Do not write; works while another process does.
            **code: `order` and `stop`, where they were callables.
        """
        from workbench.chat.dialogue import Dialogue

        held = Dialogue.held(dialogue_id, self.config.data_dir)
        if held is not None and not read_only:
            return held
        return Dialogue.open(
            dialogue_id,
            client=self.client,
            data_dir=self.config.data_dir,
            read_only=read_only,
            unattended=self._unattended,
            **code,
        )

    def dialogues(self, search: str | None = None) -> Table[DialogueInfo]:
        """Return the dialogues on disk, the last changed first.

        Args:
            search: Only those that contain this text.
        """
        from workbench.chat.dialogue_log import list_dialogues

        return Table(list_dialogues(self.config.data_dir, search=search), empty="no dialogues")

    def rename_dialogue(self, dialogue_id: str, title: str) -> None:
        """Give a dialogue another title, also one that is open in this process.

        Raises:
            ConversationLocked: When another process writes it.
            StoreError: When there is none of that id, or the disk refuses.
        """
        rename_stored(self.config.data_dir, dialogue_id, title)

    def delete_dialogue(self, dialogue_id: str) -> None:
        """Remove a dialogue for good; one that is open in this process is closed first.

        Raises:
            ConversationLocked: When another process writes it.
            StoreError: When there is none of that id.
        """
        delete_stored(self.config.data_dir, dialogue_id)

    def replay(self, transcript: DialogueTranscript | Mapping[str, Any] | str | Path) -> Replay:
        """Ask every turn of a dialogue's transcript again, and say where the first one differs.

        Args:
            transcript: As an object, as JSON, or as the path of a file of it.
        """
        from workbench.chat.dialogue import Dialogue

        return Dialogue.replay(transcript, self.client)


def rename_stored(data_dir: Path, dialogue_id: str, title: str) -> None:
    """Do what `DialogueCalls.rename_dialogue` does, in a data folder."""
    from workbench.chat.dialogue import Dialogue
    from workbench.chat.dialogue_log import rename_dialogue

    held = Dialogue.held(dialogue_id, data_dir)
    if held is not None:
        held.rename(title)
    else:
        rename_dialogue(data_dir, dialogue_id, title)


def delete_stored(data_dir: Path, dialogue_id: str) -> None:
    """Do what `DialogueCalls.delete_dialogue` does, in a data folder."""
    from workbench.chat.dialogue import Dialogue
    from workbench.chat.dialogue_log import delete_dialogue

    held = Dialogue.held(dialogue_id, data_dir)
    if held is not None:
        held.close()
    delete_dialogue(data_dir, dialogue_id)
