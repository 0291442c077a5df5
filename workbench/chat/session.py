"""`ChatSession`: one conversation as a notebook holds it.

Every method that waits for a model has an async form of the same name with an `a` in front; both
run the same coroutine on the portal.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self, Unpack
from weakref import WeakValueDictionary

from workbench.chat.conversation import Ask, Job
from workbench.chat.history import History
from workbench.chat.show import PlainPrinter
from workbench.chat.store import ChatLog, chat_path, read_chat
from workbench.chat.transcript import ROOT, Node, Record, Transcript
from workbench.chat.viewers import bundle_of
from workbench.client.api import Image, WorkbenchClient, encode_images
from workbench.client.door import client_config, open_client
from workbench.errors import ConfigError, StoreError, WorkbenchError
from workbench.messages import AnswerOptions, GenerateConfig, Generation, Message, StreamEvent

# Two interrupts within this many seconds mean the loop around the answers, not one answer.
_DOUBLE_INTERRUPT_S = 2.0


class AskOptions(AnswerOptions, total=False):
    """What `ask` and its kin take by keyword; unset values are those of the session."""

    tools: Sequence[Mapping[str, Any]]
    model: str


OnError = Literal["raise", "return"]


class ChatSession(History):
    """A conversation with a model, kept in a file of its own from its first message on.

    Get one from `wb.session(...)`, or `ChatSession.open(id)` after a kernel restart.

    `ask` and its kin raise what ended an answer; whatever had arrived is in the transcript.
    Interrupting the kernel stops the answer: the part that came is kept and returned with the
    stop_reason `interrupted`; a second interrupt within 2 s raises KeyboardInterrupt.

    Args:
        client: The door to the server.
        data_dir: Where `chats/` lies; `None` keeps the conversation in memory only.
        model: `None` takes the server's default.
        system: The system prompt.
        options: Ollama options for every answer.
        think: Whether or how hard to think; `None` leaves it to the model.
        default_model: What the configuration names, when `model` is `None`.
    """

    """Makes the widget that shows a session displayed bare; set by the layer that has widgets."""

    def __init__(
        self,
        client: WorkbenchClient,
        *,
        data_dir: Path | None = None,
        model: str | None = None,
        system: str | None = None,
        options: Mapping[str, Any] | None = None,
        think: bool | str | None = None,
        default_model: str | None = None,
    ) -> None:
        transcript = Transcript()
        log = None if data_dir is None else ChatLog(data_dir, transcript.id)
        self._set_up(client, transcript, log, data_dir, default_model)
        self._hold()
        if log is not None:
            # No file before the first message: an empty conversation leaves no trace.
            log.append(transcript.header(), flush=False)
        config = GenerateConfig(options=options or {}, think=think)
        self._configure(flush=False, model=model, system=system, config=config.to_wire())

    @classmethod
    def open(
        cls,
        chat_id: str,
        *,
        client: WorkbenchClient | None = None,
        data_dir: str | Path | None = None,
        read_only: bool = False,
        default_model: str | None = None,
    ) -> ChatSession:
        """Open a conversation that is on disk.

        Args:
            chat_id: Its `id`.
            client: `None` finds the server as `workbench.connect()` does, at the first question.
            data_dir: `None` takes the configured one.
            read_only: Do not write; works while another process does.

        Raises:
            ConversationLocked: When another process writes it and `read_only` is false.
            SchemaTooNew: When a newer version wrote it.
            StoreError: When there is none of that id.
        """
        own_client = client is None
        if client is None or data_dir is None:
            config = client_config(data_dir=data_dir)
            client, data_dir = client or open_client(config), config.data_dir
            default_model = default_model or config.default_model
        folder = Path(data_dir)
        log: ChatLog | None = None
        if not read_only and chat_path(folder, chat_id).is_file():
            log = ChatLog(folder, chat_id)
            log.take()
        try:
            loaded = read_chat(chat_path(folder, chat_id))
        except StoreError:
            if log is not None:
                log.close()
            raise
        session = cls.__new__(cls)
        session._set_up(client, loaded.transcript, log, folder, default_model)
        session._read_only = read_only
        session._damaged_lines = loaded.damaged_lines
        session._own_client = own_client
        session._hold()
        return session

    @classmethod
    def held(cls, chat_id: str, data_dir: str | Path) -> ChatSession | None:
        """Return the session of this process that writes a conversation, or `None`.

        A conversation has one writer: who wants it twice in a process takes the same session.
        """
        found = _HELD.get((os.getpid(), chat_path(Path(data_dir), chat_id)))
        return None if found is None or found.read_only else found

    def _hold(self) -> None:
        if self._data_dir is not None and not self._read_only:
            _HELD[os.getpid(), chat_path(self._data_dir, self.id)] = self

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        return bundle_of("session", self, repr, **kwargs)

    def close(self) -> None:
        """Stop an arriving answer, write what waits, and let others write the conversation."""
        job = self._core.job
        if job is not None:
            job.stop()
            if not self._portal.here:
                with contextlib.suppress(WorkbenchError):
                    self._portal.wait(job.future)
        if self._core.log is not None:
            self._core.log.close()
        if self._own_client and not self._portal.here:
            self._portal.run(self._client.aclose())
        self._read_only = True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        value: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # --- asking

    def ask(
        self,
        text: str | None = None,
        *,
        images: Sequence[Image] = (),
        show: bool = False,
        on_error: OnError = "raise",
        **how: Unpack[AskOptions],
    ) -> Generation:
        """Ask and return the whole answer.

        Args:
            text: The question; `None` asks again after the last message, e.g. a tool result.
            images: Bytes, paths or base64 texts.
            show: Print the answer as it arrives, as plain text.
            on_error: `return` gives an answer that broke off, with its `error`.
            **how: See `AskOptions`; for this answer only.

        Raises:
            ModelError: When the answer could not be had or broke off; see `on_error`.
            ConfigError: When an option is unknown; nothing is sent then.
        """
        return self._finish(
            lambda: self.begin(text, images=images, listened=show, **how), show, on_error
        )

    async def aask(
        self,
        text: str | None = None,
        *,
        images: Sequence[Image] = (),
        show: bool = False,
        on_error: OnError = "raise",
        **how: Unpack[AskOptions],
    ) -> Generation:
        """Await what `ask` returns, on any event loop; cancelling it stops the answer."""
        job = self.begin(text, images=images, listened=show, **how)
        return await self._afinish(job, show, on_error)

    def stream(
        self,
        text: str | None = None,
        *,
        images: Sequence[Image] = (),
        **how: Unpack[AskOptions],
    ) -> Iterator[StreamEvent]:
        """Ask and yield the events of the answer; the last is `Finished` or `Failed`.

        Leaving the loop stops the answer.
        """
        self._portal.refuse_here()
        job = self.begin(text, images=images, listened=True, **how)
        assert job.relay is not None
        try:
            while events := job.relay.take():
                yield from events
        except KeyboardInterrupt:
            job.stop("interrupted")
            raise
        finally:
            job.stop()
            if not self._portal.here:  # a forgotten iterator may be collected on any thread
                self._portal.wait(job.future)

    async def astream(
        self,
        text: str | None = None,
        *,
        images: Sequence[Image] = (),
        **how: Unpack[AskOptions],
    ) -> AsyncIterator[StreamEvent]:
        """Yield what `stream` yields, on any event loop."""
        job = self.begin(text, images=images, listened=True, **how)
        assert job.relay is not None
        try:
            while events := await job.relay.atake():
                for event in events:
                    yield event
        finally:
            job.stop()
            await self._portal.await_(job.future, on_cancel=job.stop)

    def stop(self) -> None:
        """Stop the arriving answer, from any thread; what came is kept as `cancelled`."""
        job = self._core.job
        if job is not None:
            job.stop("cancelled")

    def regenerate(
        self,
        turn: int | str = -1,
        *,
        show: bool = False,
        on_error: OnError = "raise",
        **how: Unpack[AskOptions],
    ) -> Generation:
        """Ask the question of a turn again; the new answer stands beside the old one."""
        return self._finish(lambda: self.begin_again(turn, listened=show, **how), show, on_error)

    async def aregenerate(
        self,
        turn: int | str = -1,
        *,
        show: bool = False,
        on_error: OnError = "raise",
        **how: Unpack[AskOptions],
    ) -> Generation:
        """Await what `regenerate` returns."""
        return await self._afinish(self.begin_again(turn, listened=show, **how), show, on_error)

    def edit(
        self,
        turn: int | str,
        text: str,
        *,
        show: bool = False,
        on_error: OnError = "raise",
        **how: Unpack[AskOptions],
    ) -> Generation:
        """Ask another question in place of a turn's; both stay, each with its branch."""
        return self._finish(
            lambda: self.begin_edit(turn, text, listened=show, **how), show, on_error
        )

    async def aedit(
        self,
        turn: int | str,
        text: str,
        *,
        show: bool = False,
        on_error: OnError = "raise",
        **how: Unpack[AskOptions],
    ) -> Generation:
        """Await what `edit` returns."""
        return await self._afinish(
            self.begin_edit(turn, text, listened=show, **how), show, on_error
        )

    def branch(self, turn: int | str | None = None, *, new: bool = False) -> ChatSession:
        """Go on after a turn without what followed it; that stays as another branch.

        Args:
            turn: Index or id; `None` is the last one.
            new: Begin a new conversation with a copy of the path; a session that is read-only
                always does.

        Returns:
            This session, or the new one.
        """
        end = self._turn(-1 if turn is None else turn)
        last = end.replies[-1].id if end.replies else end.id
        if not new and not self._read_only:
            self._idle()
            self._core.change(lambda tree: tree.branch(last))
            return self
        other = self.fresh()
        for node in list(self._core.transcript.ancestors(last))[::-1]:
            other._add(node.message, node)
        return other

    def _add(self, message: Message, copied: Node) -> None:
        self._core.change(lambda tree: tree.append(message, facts=copied.facts))

    def fresh(self) -> ChatSession:
        """Return a new, empty conversation with the settings of this one."""
        other = ChatSession(
            self._client, data_dir=self._data_dir, default_model=self._default_model
        )
        other._configure(flush=False, **self._core.transcript.settings)
        return other

    # --- doors for views: they begin an answer and watch it, from any thread, without waiting

    def begin(
        self,
        text: str | None = None,
        *,
        images: Sequence[Image] = (),
        listened: bool = False,
        kind: str | None = None,
        **how: Unpack[AskOptions],
    ) -> Job:
        """Begin what `ask` waits for; the job's `future` is done when the answer has ended.

        Args:
            text: The question; `None` asks again after the last message.
            images: Bytes, paths or base64 texts.
            listened: Whether the job's `relay` is read; then it must be, to its end.
            kind: What asks, for the record: `widget` for a view; `None` is the client itself.
            **how: See `AskOptions`; for this answer only.

        Raises:
            ConfigError: When an answer is arriving, or an option is unknown.
        """
        self._idle()
        ask = self._ask(how, kind)
        if text is not None:
            message = Message("user", text, images=encode_images(images))
            self._record(lambda tree: tree.append(message))
        return self._core.start(self._leaf(), ask, listened=listened)

    def begin_again(
        self,
        turn: int | str = -1,
        *,
        listened: bool = False,
        kind: str | None = None,
        **how: Unpack[AskOptions],
    ) -> Job:
        """Begin what `regenerate` waits for; see `begin`."""
        self._idle()
        return self._core.start(self._turn(turn).id, self._ask(how, kind), listened=listened)

    def begin_edit(
        self,
        turn: int | str,
        text: str,
        *,
        listened: bool = False,
        kind: str | None = None,
        **how: Unpack[AskOptions],
    ) -> Job:
        """Begin what `edit` waits for; see `begin`."""
        self._idle()
        ask, node_id = self._ask(how, kind), self._turn(turn).id
        record = self._record(lambda tree: tree.edit(node_id, text))
        return self._core.start(record["id"], ask, listened=listened)

    # --- inside

    def _leaf(self) -> str:
        leaf = self._core.transcript.leaf
        if leaf == ROOT:
            raise ConfigError("There is nothing to answer yet.", key="text")
        return leaf

    def _record(self, operation: Any) -> Record:
        return self._core.change(operation)

    def _ask(self, how: AskOptions, kind: str | None) -> Ask:
        options: dict[str, Any] = dict(how)
        tools = tuple(dict(tool) for tool in options.pop("tools", ()))
        model = options.pop("model", None) or self.model
        changes = {name: options.pop(name, None) for name in ("think", "format", "keep_alive")}
        config = self._config.merged(options=options, **changes)
        # An answer asked for in another way than the preset's is not one of the preset.
        preset = self.preset if config == self._config else None
        digest = None if preset is None else preset["digest"]
        return Ask(model, self.system or "", config, tools, preset=digest, kind=kind)

    def _finish(self, begin: Any, show: bool, on_error: OnError) -> Generation:
        self._portal.refuse_here()
        try:
            job: Job = begin()
        except KeyboardInterrupt:
            self.stop()
            raise
        printer = PlainPrinter(_print) if show else None
        try:
            self._print(job, printer)
            # Told before the wait would cancel it, so that the answer says why it ended.
            generation = self._portal.wait(job.future, on_interrupt=lambda: job.stop("interrupted"))
        except KeyboardInterrupt:
            job.stop("interrupted")
            self._print(job, printer)
            generation = self._portal.wait(job.future)
        if job.stop_reason == "interrupted":
            twice = time.monotonic() - self._interrupted_at < _DOUBLE_INTERRUPT_S
            self._interrupted_at = time.monotonic()
            if twice:
                raise KeyboardInterrupt
        self._print_warnings(printer)
        return _checked(generation, on_error)

    async def _afinish(self, job: Job, show: bool, on_error: OnError) -> Generation:
        printer = PlainPrinter(_print) if show else None
        if printer is not None and job.relay is not None:
            try:
                while events := await job.relay.atake():
                    _print_events(job, printer, events)
            finally:
                if sys.exception() is not None:
                    job.stop()
        generation = await self._portal.await_(job.future, on_cancel=job.stop)
        self._print_warnings(printer)
        return _checked(generation, on_error)

    def _print(self, job: Job, printer: PlainPrinter | None) -> None:
        if printer is not None and job.relay is not None:
            while events := job.relay.take():
                _print_events(job, printer, events)

    def _print_warnings(self, printer: PlainPrinter | None) -> None:
        for warning in self.warnings if printer is not None else ():
            assert printer is not None
            printer.line(str(warning))


_HELD: WeakValueDictionary[tuple[int, Path], ChatSession] = WeakValueDictionary()


def _print(text: str) -> None:
    # Through sys.stdout at call time: in a kernel it belongs to the cell that runs.
    print(text, end="")


def _print_events(job: Job, printer: PlainPrinter, events: list[StreamEvent]) -> None:
    while job.notices:
        printer.line(job.notices.pop(0))
    printer.feed(events)


def _checked(generation: Generation, on_error: OnError) -> Generation:
    if generation.error is not None and on_error == "raise":
        raise generation.error
    return generation
