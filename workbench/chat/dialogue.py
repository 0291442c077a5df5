"""`Dialogue`: several models that talk to each other, as a notebook holds it.

Every method that waits for a model has an async form of the same name with an `a` in front.
"""

from __future__ import annotations

import os
import secrets
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, TypedDict
from weakref import WeakValueDictionary

from workbench.chat.dialogue_core import Core, Ending, as_json, on_portal
from workbench.chat.dialogue_history import DialogueHistory
from workbench.chat.dialogue_log import (
    FOLDER,
    DialogueTranscript,
    Record,
    dialogue_path,
    read_dialogue,
)
from workbench.chat.dialogue_replay import Replay, areplay
from workbench.chat.dialogue_setup import (
    GUARD,
    Answers,
    Human,
    Schedule,
    Setup,
    make_setup,
)
from workbench.chat.dialogue_values import DialogueEvent, Turn
from workbench.chat.judge import Judge
from workbench.chat.orders import Moderator, OrderCall, check_order
from workbench.chat.participants import Participant, as_cast, check_name
from workbench.chat.recollection import Memory
from workbench.chat.staging import Staging
from workbench.chat.stops import Repetition, StopRule, stop_rules
from workbench.chat.store import ChatLog
from workbench.chat.viewers import bundle_of
from workbench.client.api import WorkbenchClient
from workbench.client.door import client_config, open_client
from workbench.errors import ConfigError, ConversationLocked, WorkbenchError
from workbench.portal import get_portal

OnError = Literal["raise", "return"]


class DialogueOptions(TypedDict, total=False):
    """What `Dialogue` takes by keyword beside the opening."""

    order: str | OrderCall
    turns: int | None
    stop: StopRule | Mapping[str, Any] | Sequence[StopRule]
    repetition: Repetition | None
    memory: Memory | Mapping[str, Any] | None
    human: Human
    judge: Judge | str | Mapping[str, Any] | None
    moderator: Moderator | str | Mapping[str, Any] | None
    seed: int | None
    schedule: Schedule
    swap: bool
    answers: Answers | str | Path | Sequence[Mapping[str, Any]] | None


class DialogueCode(TypedDict, total=False):
    """The parts of a dialogue that are code, and are not kept on disk."""

    order: OrderCall | None
    stop: StopRule | Sequence[StopRule]


class Dialogue(DialogueHistory):
    """Models that talk to each other, kept in a file of its own from its first turn on.

    Get one from `wb.dialogue(...)`, or `Dialogue.open(id)` after a kernel restart.
    `run()` takes it to its end; `start()` does so in the background, and `pause`, `skip`, `say`
    and their kin may be called meanwhile, from any thread.

    Args:
        client: The door to the server.
        participants: Who talks: `Participant` objects, or mappings of their fields.
        opening: What the dialogue is about; everybody hears it.
        order: `round_robin`; `broadcast`, where everybody answers and hears the others after the
            round; `debate`, with opening statements, answers and closing statements;
            `moderated`, where a model picks who speaks next; or a callable that gets a `View`
            and returns a name, several names, or `None` for the end.
        turns: How many turns the models take; `None` is not limited.
        stop: More rules, see `chat.stops`: objects, callables, or a mapping such as
            `{"phrase": "agreed", "tokens": 2000}`.
        repetition: The guard against models that repeat themselves; `None` takes it away.
        memory: `Window(12)`, `Summary("model")`, or everything that fits the context.
        human: `interject` lets a person `say` something; `approve` also asks after each turn
            whether it stands.
        judge: Who answers questions of stop rules and decides: a `Judge` or the name of a model.
        moderator: Who picks in a moderated dialogue: a `Moderator` or the name of a model.
        seed: Turns without a seed of their own get `seed + index`; drawn and kept unless given.
        data_dir: Where `dialogues/` lies; `None` keeps it in memory only.
        schedule: `memory` groups the turns of a round by model, and lets models that fit together
            answer at once; `sequential` takes one turn after the other; `parallel` asks all of a
            round at once.
        swap: Consent to what would have to leave memory, where the server asks for it.
        answers: What a person says, for where nobody looks: a YAML or JSON file, or its entries.
        unattended: Whether nobody can be asked; a dialogue with a person then needs `answers`.

    Raises:
        ConfigError: When something is not as it must be; nothing is sent then.
    """

    """Makes the widget that shows a dialogue displayed bare; set by the layer that has widgets."""

    def __init__(
        self,
        client: WorkbenchClient,
        participants: Sequence[Participant | Mapping[str, Any]],
        *,
        opening: str,
        order: str | OrderCall = "round_robin",
        turns: int | None = 8,
        stop: StopRule | Mapping[str, Any] | Sequence[StopRule] = (),
        repetition: Repetition | None = GUARD,
        memory: Memory | Mapping[str, Any] | None = None,
        human: Human = "off",
        judge: Judge | str | Mapping[str, Any] | None = None,
        moderator: Moderator | str | Mapping[str, Any] | None = None,
        seed: int | None = None,
        data_dir: str | Path | None = None,
        schedule: Schedule = "memory",
        swap: bool = False,
        answers: Answers | str | Path | Sequence[Mapping[str, Any]] | None = None,
        unattended: bool = False,
    ) -> None:
        setup = make_setup(
            participants,
            opening=opening,
            order=order,
            turns=turns,
            stop=stop,
            repetition=repetition,
            memory=memory,
            human=human,
            judge=judge,
            moderator=moderator,
            seed=secrets.randbelow(2**31) if seed is None else seed,
            schedule=schedule,
            swap=swap,
            answers=answers,
            unattended=unattended,
        )
        transcript = DialogueTranscript()
        transcript.setup = as_json(setup.to_wire())
        self._begin(client, setup, transcript, data_dir)

    def _begin(
        self,
        client: WorkbenchClient,
        setup: Setup,
        transcript: DialogueTranscript,
        data_dir: str | Path | None,
    ) -> None:
        folder = None if data_dir is None else Path(data_dir)
        log = None if folder is None else ChatLog(folder, transcript.id, folder=FOLDER)
        if log is not None:
            # No file before the first turn: a dialogue that was only set up leaves no trace.
            log.append(*transcript.records(), flush=bool(transcript.turns))
        self._set_up(client, setup, transcript, log, folder)

    def _set_up(
        self,
        client: WorkbenchClient,
        setup: Setup,
        transcript: DialogueTranscript,
        log: ChatLog | None,
        data_dir: Path | None,
    ) -> None:
        self._core = Core(client, setup, transcript, log=log)
        self._data_dir = data_dir
        self._read_only = False
        self._own_client = False
        self._damaged_lines = 0
        if log is not None:
            _HELD[os.getpid(), log.path] = self

    @classmethod
    def open(
        cls,
        dialogue_id: str,
        *,
        client: WorkbenchClient | None = None,
        data_dir: str | Path | None = None,
        read_only: bool = False,
        order: OrderCall | None = None,
        stop: StopRule | Sequence[StopRule] = (),
        unattended: bool = False,
    ) -> Dialogue:
        """Open a dialogue that is on disk; `start` goes on with it.

        Args:
            dialogue_id: Its `id`.
            client: `None` finds the server as `workbench.connect()` does, at the first request.
            data_dir: `None` takes the configured one.
            read_only: Do not write; works while another process does.
            order: The rule, when it was a callable: code is not kept on disk.
            stop: Stop rules that were callables.
            unattended: Whether nobody can be asked.

        Raises:
            ConversationLocked: When another process writes it and `read_only` is false.
            SchemaTooNew: When a newer version wrote it.
            StoreError: When there is none of that id.
        """
        own_client = client is None
        if client is None or data_dir is None:
            config = client_config(data_dir=data_dir)
            client, data_dir = client or open_client(config), config.data_dir
        path, log = dialogue_path(Path(data_dir), dialogue_id), None
        if not read_only and path.is_file():
            log = ChatLog(Path(data_dir), dialogue_id, folder=FOLDER)
            log.take()
        try:
            transcript, damaged = read_dialogue(path)
            setup = Setup.from_wire(transcript.setup)
        except WorkbenchError:
            if log is not None:
                log.close()
            raise
        if order is not None:
            setup = replace(setup, order=check_order(order))
        rules = (*setup.stop, *stop_rules(stop))
        setup = replace(setup, stop=rules, unattended=unattended)
        found = cls.__new__(cls)
        found._set_up(client, setup, transcript, log, Path(data_dir))
        found._read_only, found._own_client = read_only, own_client
        found._damaged_lines = damaged
        return found

    @classmethod
    def held(cls, dialogue_id: str, data_dir: str | Path) -> Dialogue | None:
        """Return the dialogue of this process that is written to a file, or `None`."""
        found = _HELD.get((os.getpid(), dialogue_path(Path(data_dir), dialogue_id)))
        return None if found is None or found.read_only else found

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return bundle_of("dialogue", self, Dialogue.to_text, **kwargs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """End it where it is, write what waits, and let others write its file."""
        if not self.done:
            self.stop("closed")
            future = self._core.future
            if future is not None and not self._portal.here:
                self._portal.wait(future)
        if self._core.log is not None:
            self._core.log.close()
        if self._own_client and not self._portal.here:
            self._portal.run(self._core.client.aclose())
        self._read_only = True

    # --- running

    def prepare(self) -> Staging:
        """Ask what memory the dialogue needs, and whether its models are there.

        Raises:
            ModelNotFound: When one is not installed.
            InsufficientMemory: When one does not fit even alone.
        """
        return self._portal.run(self._core.prepare())

    async def aprepare(self) -> Staging:
        """Await what `prepare` returns."""
        return await self._portal.arun(self._core.prepare())

    def start(self, *, turns: int | None = None) -> None:
        """Begin, or go on, in the background.

        Args:
            turns: So many turns more than were taken; `None` leaves the limit as it is.

        Raises:
            ConfigError: When it runs already, stands at a failed turn, or a person takes part and
                nobody can be asked.
        """
        self._may_run()
        if self._core.failed_turn() is not None and self.state == "failed":
            raise ConfigError("A turn failed.", hint="retry() it, or skip() it.")
        if turns is not None:
            self._extend(turns)
        self._core.start()

    def run(self, *, turns: int | None = None, on_error: OnError = "raise") -> Self:
        """Begin, or go on, and wait for the end.

        Interrupting the kernel stops it; what was said is kept.

        Args:
            turns: So many turns more than were taken; `None` leaves the limit as it is.
            on_error: `return` gives the dialogue also when a turn failed.

        Raises:
            WorkbenchError: What a turn failed with, or what kept the first one from being taken.
        """
        self._portal.refuse_here()
        try:
            self.start(turns=turns)
            return self.wait(on_error=on_error)
        except KeyboardInterrupt:
            # It may have fallen before the wait, which would have stopped it.
            self._stop("interrupted", True)
            raise

    async def arun(self, *, turns: int | None = None, on_error: OnError = "raise") -> Self:
        """Await what `run` returns, on any event loop; cancelling it stops the dialogue."""
        self.start(turns=turns)
        return await self.await_(on_error=on_error)

    def wait(self, *, on_error: OnError = "raise") -> Self:
        """Wait until it ends, fails or was stopped; see `run`."""
        future = self._core.future
        if future is not None:
            self._portal.wait(future, on_interrupt=lambda: self._stop("interrupted", True))
        return self._checked(on_error)

    async def await_(self, *, on_error: OnError = "raise") -> Self:
        """Await what `wait` returns."""
        future = self._core.future
        if future is not None:
            await self._portal.await_(future, on_cancel=lambda: self._stop("cancelled", True))
        return self._checked(on_error)

    def _checked(self, on_error: OnError) -> Self:
        if on_error == "raise" and self.state == "failed":
            if self._core.error is not None:
                raise self._core.error
            failed = self._core.failed_turn()
            if failed is not None and failed.error is not None:
                raise self._core.failures.get(failed.id) or WorkbenchError(failed.error["message"])
        return self

    def _may_run(self) -> None:
        if self._read_only:
            raise ConversationLocked(self.id)
        if not self.done:
            raise ConfigError("The dialogue runs.", hint="Wait for it, or stop() it.")
        setup = self._core.setup
        if setup.human != "off" and setup.unattended and setup.answers is None:
            raise ConfigError(
                f"a person takes part (human={setup.human!r}), and nobody can be asked here.",
                key="human",
                hint="Give answers='answers.yaml', or human='off'.",
            )

    def _extend(self, turns: int) -> None:
        limit = len(self._core.view().spoken) + turns
        self._core.setup = replace(self._core.setup, turns=limit)
        self._core.change(
            self._core.transcript.configure(as_json(self._core.setup.to_wire())), flush=False
        )

    # --- a person's controls, from any thread

    def pause(self) -> None:
        """Let the turn that is being said end, and then wait for `resume`."""
        self._set_pausing(True)

    def resume(self) -> None:
        """Go on after `pause`; also one that was opened from disk."""
        if self.done:
            self.start()
        else:
            self._set_pausing(False)

    def _set_pausing(self, on: bool) -> None:
        def change() -> None:
            self._core.pausing = on
            self._core.ring()
            self._core.emit(DialogueEvent("state"))

        on_portal(change)

    def stop(self, reason: str = "stopped") -> None:
        """End it; the turn that is being said keeps what came.

        Args:
            reason: Kept as its `stop_reason`.
        """
        self._stop(reason, False)

    def _stop(self, reason: str, interrupted: bool) -> None:
        cut = "interrupted" if interrupted else "cancelled"
        if not self.done:
            on_portal(lambda: self._core.stop(Ending(reason), cut))

    def skip(self) -> None:
        """Leave the turn that is being said, or that failed, and go on with the next speaker."""
        if self.done:
            failed = self._core.failed_turn()
            if failed is None:
                raise ConfigError("No turn is being said.", key="skip")
            self._may_run()
            self._change(replace(failed, status="skipped"))
            self._core.start()
            return

        def cut() -> None:
            for speaking in list(self._core.speaking.values()):
                speaking.stop("skipped")

        on_portal(cut)

    def mute(self, name: str, *, on: bool = True) -> None:
        """Take a participant's word, or give it back with `on=False`."""
        self._core.setup.participant(name)
        self._writable()
        core = self._core

        def change() -> None:
            core.change(core.transcript.mute(name, on=on))
            core.emit(DialogueEvent("state"))

        on_portal(change)

    def adjust(self, name: str, **fields: Any) -> None:
        """Change how a participant is asked, from its next turn on.

        Args:
            name: The participant.
            **fields: Fields of `Participant` beside its name; its model only before the first turn.

        Raises:
            ConfigError: When a field is unknown or cannot be changed any more.
        """
        self._writable()
        if "model" in fields and self.turns:
            hint = "continue_with() makes a branch with another model."
            raise ConfigError(f"{name} has a model already.", key="model", hint=hint)
        core = self._core
        old = core.setup.participant(name).to_wire()
        new = Participant.from_wire({**old, **fields, "name": name})
        cast = as_cast(new if p.name == name else p for p in core.setup.cast)

        def change() -> None:
            core.setup = replace(core.setup, cast=cast)
            core.change(core.transcript.configure(as_json(core.setup.to_wire())), flush=False)
            core.unprepare()
            core.emit(DialogueEvent("state"))

        on_portal(change)

    def say(self, text: str, as_: str = "you") -> Turn:
        """Say something as a person; the next turn hears it.

        Args:
            text: What is said.
            as_: Who says it; with a participant's name it is put into its mouth.

        Raises:
            ConfigError: When `human` is `off`.
        """
        self._writable()
        if self._core.setup.human == "off":
            raise ConfigError(
                "No person takes part in this dialogue.", key="human", hint="human='interject'."
            )
        if not text.strip():
            raise ConfigError("there is nothing to say.", key="text")
        check_name(as_)
        return on_portal(lambda: self._core.say(text, as_))

    def approve(self, yes: bool = True, text: str | None = None) -> None:
        """Answer to the turn that waits for it.

        Args:
            yes: Whether it stands; one that does not is heard by nobody.
            text: What is put in its place; the model's own text is kept beside it.

        Raises:
            ConfigError: When no turn waits.
        """

        def answer() -> None:
            if self._core.waiting_for is None:
                raise ConfigError("No turn waits for an answer.", key="approve")
            self._core.approvals[self._core.waiting_for] = (yes, text)
            self._core.ring()

        on_portal(answer)

    def retry(self, *, swap: bool = False) -> None:
        """Say a turn that failed again, in the background; what it was is kept in `discarded`.

        Args:
            swap: Consent to what would have to leave memory for it.

        Raises:
            ConfigError: When nothing failed.
        """
        self._may_run()
        if self.state != "failed":
            raise ConfigError("Nothing failed.", key="retry")
        core = self._core
        core.consenting = swap
        failed = core.failed_turn()
        if failed is not None:
            on_portal(lambda: core.change(core.transcript.discard(failed.id)))
        core.start()

    def rewind(self, turn: int | Turn, *, seed: int | None = None) -> Dialogue:
        """Return a new dialogue with what was said before a turn, to say that one anew.

        Args:
            turn: The turn, or its index.
            seed: Another seed; unless given, turns get the seeds they had.
        """
        setup = self._core.setup
        return self._branch(turn, setup if seed is None else replace(setup, seed=seed))

    def continue_with(self, name: str, model: str, from_turn: int | Turn) -> Dialogue:
        """Return a new dialogue that goes on from a turn with another model in a role.

        Args:
            name: The participant.
            model: Its model from now on; seeds stay as they were.
            from_turn: The first turn that is said anew.
        """
        return self._branch(from_turn, self._core.setup.with_model(name, model))

    def _branch(self, turn: int | Turn, setup: Setup) -> Dialogue:
        index = turn.index if isinstance(turn, Turn) else turn
        known = [item.index for item in self.turns]
        if index < 0:
            index += len(known)
        if not 0 <= index <= len(known):
            raise ConfigError(f"no turn {turn!r}; there are {len(known)}.", key="turn")
        wire: Record = as_json(setup.to_wire())
        other = type(self).__new__(type(self))
        transcript = on_portal(lambda: self._core.transcript.until(index, wire))
        other._begin(self._core.client, setup, transcript, self._data_dir)
        return other

    def _change(self, turn: Turn) -> None:
        core = self._core

        def change() -> None:
            core.change(core.transcript.change(turn))
            core.tell_turn(turn.id)

        on_portal(change)

    def _writable(self) -> None:
        if self._read_only:
            raise ConversationLocked(self.id)

    # --- replay

    @staticmethod
    def replay(
        transcript: DialogueTranscript | Mapping[str, Any] | str | Path, client: WorkbenchClient
    ) -> Replay:
        """Ask every turn of a transcript again, and compare; see `chat.dialogue_replay`.

        Args:
            transcript: Of a dialogue, as an object, as JSON, or as the path of a file of it.
            client: The door to the server.
        """
        return get_portal().run(areplay(transcript, client))

    @staticmethod
    async def areplay(
        transcript: DialogueTranscript | Mapping[str, Any] | str | Path, client: WorkbenchClient
    ) -> Replay:
        """Await what `replay` returns."""
        return await get_portal().arun(areplay(transcript, client))


_HELD: WeakValueDictionary[tuple[int, Path], Dialogue] = WeakValueDictionary()
