"""What a dialogue holds besides running: turns, lanes, verdicts, exports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from workbench.chat import dialogue_export as export
from workbench.chat.dialogue_core import Core, Observer, as_json, on_portal
from workbench.chat.dialogue_log import DialogueTranscript
from workbench.chat.dialogue_setup import Setup
from workbench.chat.dialogue_values import Aside, DialogueEvent, LaneState, State, Turn
from workbench.chat.judge import Judge, Verdict, ajudge_pair, as_judge
from workbench.chat.participants import Participant
from workbench.chat.staging import Staging
from workbench.client.api import WorkbenchClient
from workbench.errors import ConfigError, ConversationLocked, StoreError, WorkbenchError
from workbench.portal import Portal, PortalFuture, get_portal

if TYPE_CHECKING:
    import pandas as pd
    from nbformat import NotebookNode


class DialogueHistory:
    """A dialogue that can be read, judged and exported; see `Dialogue`."""

    _core: Core
    _data_dir: Path | None
    _read_only: bool
    _damaged_lines: int

    def __repr__(self) -> str:
        names = ", ".join(f"{p.name} ({p.model})" for p in self.participants)
        reason = f": {self.stop_reason}" if self.stop_reason else ""
        return f"<Dialogue {self.id} of {names}; {len(self.turns)} turns, {self.state}{reason}>"

    # --- what it holds

    @property
    def id(self) -> str:
        """Id of the dialogue, for `Dialogue.open`."""
        return self._core.transcript.id

    @property
    def client(self) -> WorkbenchClient:
        """The door to the server."""
        return self._core.client

    @property
    def data_dir(self) -> Path | None:
        """The data folder it is kept in, or `None`."""
        return self._data_dir

    @property
    def setup(self) -> Setup:
        """How it was set up."""
        return self._core.setup

    @property
    def participants(self) -> tuple[Participant, ...]:
        """Who talks."""
        return self._core.setup.cast

    @property
    def turns(self) -> list[Turn]:
        """Every turn in order, one that arrives with its text so far."""
        return on_portal(lambda: self._core.transcript.turns)

    @property
    def asides(self) -> list[Aside]:
        """Side requests in order: choices of a moderator, summaries, judgements."""
        return on_portal(lambda: list(self._core.transcript.asides))

    @property
    def transcript(self) -> DialogueTranscript:
        """The whole record; change it through the dialogue."""
        return self._core.transcript

    @property
    def state(self) -> State:
        """What it does: `ready`, `running`, `paused`, `waiting`, `failed` or `done`."""
        return self._core.transcript.state

    @property
    def stop_reason(self) -> str:
        """Why it ended, failed or waits; empty while it runs."""
        return self._core.transcript.stop_reason

    @property
    def error(self) -> WorkbenchError | None:
        """What it failed with outside of a turn, such as a model that is missing."""
        return self._core.error

    @property
    def pausing(self) -> bool:
        """Whether it pauses, or will when the turn that is being said has ended."""
        return self._core.pausing

    @property
    def waiting_for(self) -> str | None:
        """Id of the turn that waits for `approve`, or `None`."""
        return self._core.waiting_for

    @property
    def lanes(self) -> dict[str, LaneState]:
        """What each participant's model does."""
        return dict(self._core.lanes)

    @property
    def muted(self) -> frozenset[str]:
        """Names of those who may not speak."""
        return frozenset(self._core.transcript.muted)

    @property
    def staging(self) -> Staging:
        """What it needs of memory; empty before `prepare` or the first turn."""
        return self._core.stage.staging

    @property
    def swap_seconds(self) -> tuple[float | None, float]:
        """Seconds of all swaps: foreseen before each turn (`None` is unknown), and measured."""
        return export.swap_seconds(self._now())

    @property
    def done(self) -> bool:
        """Whether nothing runs in the background."""
        return self._core.future is None or self._core.future.done()

    @property
    def future(self) -> PortalFuture[None] | None:
        """Is done when what `start` began has ended in whatever way."""
        return self._core.future

    @property
    def read_only(self) -> bool:
        """Whether it cannot go on: opened so, or closed."""
        return self._read_only

    @property
    def warnings(self) -> list[StoreError]:
        """What is wrong with the record on disk; empty when all is written."""
        log = self._core.log
        found = [log.error] if log is not None and log.error is not None else []
        if self._damaged_lines:
            found.append(StoreError(f"{self._damaged_lines} damaged lines were skipped."))
        return found

    def observe(self, observer: Observer) -> Callable[[], None]:
        """Tell `observer` of every change, on the portal's thread; it must be quick.

        Returns:
            A function that ends it.
        """
        self._core.observers.append(observer)

        def unobserve() -> None:
            if observer in self._core.observers:
                self._core.observers.remove(observer)

        return unobserve

    # --- judging

    def decide(
        self,
        a: str | None = None,
        b: str | None = None,
        *,
        judge: Judge | str | None = None,
    ) -> Verdict:
        """Let a judge say whose contributions are better; see `chat.judge`.

        Args:
            a: A participant; `None` takes the first.
            b: Another one; `None` takes the second.
            judge: `None` takes the dialogue's own.

        Raises:
            ConfigError: When there is no judge, or one of them said nothing.
        """
        return self._portal.run(self._decide(a, b, judge))

    async def adecide(
        self,
        a: str | None = None,
        b: str | None = None,
        *,
        judge: Judge | str | None = None,
    ) -> Verdict:
        """Await what `decide` returns."""
        return await self._portal.arun(self._decide(a, b, judge))

    async def _decide(self, a: str | None, b: str | None, by: Judge | str | None) -> Verdict:
        core, judge = self._core, as_judge(by) or self._core.setup.judge
        names = [item.name for item in self.participants]
        if judge is None or len(names) < 2:
            raise ConfigError("deciding needs a judge and two participants.", key="judge")
        pair = export.pair_of(core.transcript, a or names[0], b or names[1])
        index = core.transcript.next_index
        asked = replace(
            pair,
            context={"conversation": self.id, "turn": index},
            seed=core.setup.seed_of(index),
            digest=await core.stage.digest_of(judge.model),
            context_tokens=core.context_tokens(judge.model, judge.options.get("num_ctx")),
        )
        try:
            await core.stage.before(judge.model)
            verdict, choices = await ajudge_pair(
                core.client,
                judge,
                asked,
                meter=core.meter(judge.model),
                recover=core.stage.recover,
            )
        finally:
            if self.done:
                await core.stage.close()
        for choice in choices:
            core.note(core.aside_of("judge", judge.model, choice, digest=asked.digest))
        core.change(core.transcript.judge(as_json(verdict.to_wire())))
        core.emit(DialogueEvent("state"))
        return verdict

    def rename(self, title: str) -> None:
        """Give the dialogue a title; the beginning of its opening stands for one until then.

        Raises:
            ConversationLocked: When it is read-only.
        """
        if self._read_only:
            raise ConversationLocked(self.id)
        core = self._core

        def change() -> None:
            # No file before the first turn.
            core.change(core.transcript.rename(title), flush=bool(core.transcript.turns))
            core.emit(DialogueEvent("state"))

        on_portal(change)

    # --- exports

    def to_text(self) -> str:
        """Return what was said as plain text, without control characters."""
        return export.to_text(self._now())

    def to_markdown(self) -> str:
        """Return what was said as markdown; show it only where markdown is sanitised."""
        return export.to_markdown(self._now())

    def to_json(self) -> str:
        """Return one JSON document with every request's parameters, seeds and digests."""
        return export.to_json(self._now())

    def to_notebook(self) -> NotebookNode:
        """Return a notebook that sets the same dialogue up, with its turns as plain outputs."""
        return export.to_notebook(self._now())

    def to_frame(self) -> pd.DataFrame:
        """Return one row per turn; columns are `chat.dialogue_export.COLUMNS`."""
        return export.to_frame(self._now())

    def _now(self) -> DialogueTranscript:
        return on_portal(self._core.transcript.copy)

    @property
    def _portal(self) -> Portal:
        # Asked each time: a forked process has another one.
        return get_portal()
