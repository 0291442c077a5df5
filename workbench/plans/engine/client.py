"""The outputs of cells: nbclient, with what it loses or reorders put right."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionComplete
from nbformat import NotebookNode

from workbench.plans.engine.kernels import RunningKernel
from workbench.plans.engine.notebook import node

# An answer can come long before the last of its outputs, when there are many.
_OUTPUTS_S = 60


class CellClient(NotebookClient):
    """Runs cells of one notebook in one kernel.

    - A stream is one output until something else comes between, whatever the timing of its parts;
      until the cell has ended, its text is the list of the parts.
    - A display of an earlier cell is updated also while another runs.
    - Nobody polls here whether the kernel lives: see `executor`.

    Attributes:
        traceback: Of the last cell.
        received: How many messages of outputs came, of all cells.
    """

    def __init__(self, notebook: NotebookNode, kernel: RunningKernel, **traits: Any) -> None:
        defaults = {"iopub_timeout": _OUTPUTS_S, "raise_on_iopub_timeout": True}
        super().__init__(notebook, km=kernel.manager, **{**defaults, **traits})
        self.kc = kernel.client
        self.on_output: Callable[[NotebookNode], None] | None = None
        self.received = 0
        self.traceback: tuple[str, ...] = ()

    def output(
        self,
        outs: list[NotebookNode],
        msg: dict[str, Any],
        display_id: str | None,
        cell_index: int,
    ) -> NotebookNode | None:
        stream = msg["msg_type"] == "stream"
        captured = self.output_hook_stack.get(msg["parent_header"].get("msg_id", ""))
        if stream and outs and not captured and not self.clear_before_next_output:
            last = outs[-1]
            if last.output_type == "stream" and last.name == msg["content"]["name"]:
                last.text.append(msg["content"]["text"])
                self._came(node(last, text=msg["content"]["text"]))
                return last
        out = super().output(outs, msg, display_id, cell_index)
        if out is not None:
            self._came(out)
            if stream:
                out.text = [out.text]
        return out

    def _came(self, out: NotebookNode) -> None:
        if self.on_output is not None:
            self.on_output(out)

    async def _async_poll_output_msg(
        self, parent_msg_id: str, cell: NotebookNode, cell_index: int
    ) -> None:
        assert self.kc is not None
        channel = self.kc.iopub_channel
        while True:
            msg = await channel.get_msg(timeout=None)
            self.received += 1
            if self.received % 100 == 0:
                # Messages that wait are read without a pause: let others of the loop in.
                await asyncio.sleep(0)
            if msg["parent_header"].get("msg_id") != parent_msg_id:
                self._late(msg)
                continue
            try:
                self.process_message(msg, cell, cell_index)
            except CellExecutionComplete:
                return

    def _late(self, msg: dict[str, Any]) -> None:
        if msg["msg_type"] == "update_display_data":
            display_id = (msg["content"].get("transient") or {}).get("display_id")
            if display_id:
                self._update_display_id(display_id, msg)

    async def _check_raise_for_error(
        self, cell: NotebookNode, cell_index: int, exec_reply: dict[str, Any] | None
    ) -> None:
        # The error that is raised quotes the streams.
        join_streams(cell)
        self.traceback = tuple(exec_reply["content"].get("traceback", ())) if exec_reply else ()
        await super()._check_raise_for_error(cell, cell_index, exec_reply)

    async def _async_poll_kernel_alive(self) -> None:
        """Do nothing: the executor sees a dead kernel sooner, and reads what it still sent."""


def join_streams(cell: NotebookNode) -> None:
    """Make the text of each stream one text again; see `CellClient`."""
    for out in cell.get("outputs", ()):
        if out.output_type == "stream" and not isinstance(out.text, str):
            out.text = "".join(out.text)
