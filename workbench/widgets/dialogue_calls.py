"""The part of `Workbench` that shows dialogues."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from workbench.client.api import WorkbenchClient
from workbench.config import Config

if TYPE_CHECKING:
    from workbench.chat.dialogue import Dialogue
    from workbench.widgets.dialogue import DialoguePanel


class DialoguePanelCalls:
    """What a notebook asks to be shown of dialogues.

    Attributes:
        client: The door to the server.
        config: The client's configuration.
    """

    client: WorkbenchClient
    config: Config

    if TYPE_CHECKING:

        def open_dialogue(self, dialogue_id: str) -> Dialogue:
            """Open a dialogue that is on disk."""

    def dialogue_panel(self, dialogue: Dialogue | str | None = None) -> DialoguePanel:
        """Show a dialogue in the notebook, or how one is set up.

        Args:
            dialogue: The dialogue, or the id of one on disk; `None` begins with two bundled models.
        """
        from workbench.widgets.dialogue import DialoguePanel

        if dialogue is None:
            return DialoguePanel(self.client, data_dir=self.config.data_dir)
        if isinstance(dialogue, str):
            dialogue = self.open_dialogue(dialogue)
        return dialogue_panel_of(dialogue)


def dialogue_panel_of(dialogue: Dialogue) -> DialoguePanel:
    """Return the panel of a dialogue; there is one however often it is displayed."""
    from workbench.widgets.dialogue import DialoguePanel

    panel = _PANELS.get(dialogue)
    if panel is None:
        panel = DialoguePanel(dialogue.client, dialogue, data_dir=dialogue.data_dir)
        _PANELS[dialogue] = panel
    return panel


_PANELS: WeakKeyDictionary[Dialogue, DialoguePanel] = WeakKeyDictionary()
