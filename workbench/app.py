"""`Workbench` and `connect()`: what a notebook holds."""

from __future__ import annotations

import contextlib
import os
from collections.abc import (
    AsyncGenerator,
    AsyncIterator,
    Callable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self, Unpack, get_args, overload
from weakref import WeakKeyDictionary

from workbench.chat.dialogue_calls import DialogueCalls
from workbench.chat.session import ChatSession
from workbench.chat.store import ChatInfo, delete_chat, list_chats, rename_chat
from workbench.chat.viewers import show_with
from workbench.client.answers import Answering, collect
from workbench.client.api import Image, WorkbenchClient, encode_images
from workbench.client.door import client_config, open_client
from workbench.client.memory import MemoryCalls
from workbench.client.records import close_records, settle_records
from workbench.client.run import RunKind, begin_run
from workbench.client.values import ServerInfo, Table
from workbench.config import Config
from workbench.errors import ConfigError
from workbench.evals.compare_calls import CompareCalls
from workbench.messages import (
    AnswerOptions,
    GenerateConfig,
    Generation,
    Message,
    Role,
    StreamEvent,
)
from workbench.metrics.layout import metrics_dir
from workbench.plans.calls import PlanCalls
from workbench.portal import get_portal
from workbench.widgets.compare_calls import ComparePanelCalls, comparison_panel_of, own
from workbench.widgets.dialogue_calls import DialoguePanelCalls, dialogue_panel_of
from workbench.widgets.headless import in_kernel, is_headless, is_unattended

if TYPE_CHECKING:
    from workbench.metrics import Metrics
    from workbench.widgets.chat import ChatPanel
    from workbench.widgets.dashboard import Dashboard
    from workbench.widgets.models import ModelsPanel
    from workbench.widgets.runs import RunsPanel
    from workbench.widgets.runs_notify import OnFinish

Batches = AsyncGenerator[list[StreamEvent], None]
Messages = str | Sequence[Message | Mapping[str, Any]]


class GenerateOptions(AnswerOptions, total=False):
    """What `Workbench.generate` and its kin take by keyword."""

    system: str | None
    images: Sequence[Image]


class ChatOptions(AnswerOptions, total=False):
    """What `Workbench.chat` and its kin take by keyword."""

    system: str | None
    tools: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class _Request:
    """A request for text whose model may still have to be found out."""

    model: str | None
    send: Callable[[str], Batches]


def connect(
    url: str | None = None,
    *,
    token: str | None = None,
    data_dir: str | Path | None = None,
    spawn: bool = True,
) -> Workbench:
    """Find the workbench server, or start one, and return the door to it.

    With `url`, or `WORKBENCH_URL`, none is ever started.

    Args:
        url: Address of a server; else the running one of the data folder.
        token: Its token; `WORKBENCH_TOKEN` unless given.
        data_dir: The data folder; the configured one unless given.
        spawn: Whether a server may be started when none runs.

    Raises:
        ServerNotRunning: When none runs and none may or can be started.
        ConnectionFailed: When there is none at `url`.
        ConfigError: When the configuration cannot be used.
    """
    config = client_config(url=url, token=token, data_dir=data_dir)
    client = open_client(config, spawn=spawn)
    # Asked now, so that a wrong address or token shows here and not at the first question.
    try:
        get_portal().run(client.version())
    except BaseException:
        get_portal().run(client.aclose())
        raise
    if in_kernel():
        kind: RunKind = "papermill" if is_headless() else "interactive"
        get_portal().run(begin_run(client, kind))
    return Workbench(client, config=config)


class Workbench(
    MemoryCalls, PlanCalls, DialogueCalls, DialoguePanelCalls, CompareCalls, ComparePanelCalls
):
    """The workbench as a notebook holds it; make one with `connect()`.

    Every method that waits for a model has an async form with an `a` in front.  Options of
    Ollama's API are given by keyword: `wb.generate("Hi", temperature=0, seed=1)`.
    It needs no closing: connections end with the process.

    Args:
        client: The door to the server.
        config: The client's configuration.
    """

    client: WorkbenchClient

    def __init__(self, client: WorkbenchClient, *, config: Config) -> None:
        self.client = client
        self.config = config
        self._metrics: tuple[int, Metrics] | None = None
        own(self)

    def __repr__(self) -> str:
        return f"<Workbench {self.client.url or 'not connected'}>"

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
        """Close the connections; a later call opens new ones.  The server goes on."""
        close_records(self.client.records)
        self._run(self.client.aclose())
        if self._metrics is not None and self._metrics[0] == os.getpid():
            self._metrics[1].close()
        self._metrics = None

    @property
    def metrics(self) -> Metrics:
        """What was measured of every request and run, in the data folder of this machine."""
        settle_records(self.client.records)
        # DuckDB does not survive a fork.
        if self._metrics is None or self._metrics[0] != os.getpid():
            from workbench.metrics import open as open_metrics

            folder = metrics_dir(self.config.data_dir)
            self._metrics = (os.getpid(), open_metrics(folder, compact=True))
        return self._metrics[1]

    # --- one prompt

    @overload
    def generate(
        self,
        prompt: str,
        model: str | None = None,
        *,
        stream: Literal[False] = False,
        **how: Unpack[GenerateOptions],
    ) -> Generation: ...

    @overload
    def generate(
        self,
        prompt: str,
        model: str | None = None,
        *,
        stream: Literal[True],
        **how: Unpack[GenerateOptions],
    ) -> Iterator[StreamEvent]: ...

    def generate(
        self,
        prompt: str,
        model: str | None = None,
        *,
        stream: bool = False,
        **how: Unpack[GenerateOptions],
    ) -> Generation | Iterator[StreamEvent]:
        """Answer one prompt.

        Args:
            prompt: The text to go on from.
            model: `None` takes the default: last used, else loaded, else the largest that fits.
            stream: Return an iterator of events in place of the whole answer.
            **how: `system`, `images`, `think`, `format` (`json` or a JSON schema), `keep_alive`
                (seconds or a duration), and any option of Ollama's API.

        Raises:
            ModelError: When the answer could not be had or broke off; `partial` holds what came.
            ConfigError: When an option is unknown; nothing is sent then.
        """
        return self._answer(self._generate_request(prompt, model, how), stream=stream)

    async def agenerate(
        self, prompt: str, model: str | None = None, **how: Unpack[GenerateOptions]
    ) -> Generation:
        """Await what `generate` returns, on any event loop."""
        return await self._aanswer(self._generate_request(prompt, model, how))

    def astream_generate(
        self, prompt: str, model: str | None = None, **how: Unpack[GenerateOptions]
    ) -> AsyncIterator[StreamEvent]:
        """Yield the events of an answer to a prompt, on any event loop."""
        return self._astream(self._generate_request(prompt, model, how))

    # --- messages

    @overload
    def chat(
        self,
        messages: Messages,
        model: str | None = None,
        *,
        stream: Literal[False] = False,
        **how: Unpack[ChatOptions],
    ) -> Generation: ...

    @overload
    def chat(
        self,
        messages: Messages,
        model: str | None = None,
        *,
        stream: Literal[True],
        **how: Unpack[ChatOptions],
    ) -> Iterator[StreamEvent]: ...

    def chat(
        self,
        messages: Messages,
        model: str | None = None,
        *,
        stream: bool = False,
        **how: Unpack[ChatOptions],
    ) -> Generation | Iterator[StreamEvent]:
        """Answer a list of messages, or one text of the user; nothing is kept.

        Args:
            messages: A text, `Message` objects, or dicts with `role` and `content`.
            model: `None` takes the default.
            stream: Return an iterator of events in place of the whole answer.
            **how: `system`, `tools` (JSON schemas; calls are returned, never run), `think`,
                `format`, `keep_alive`, and any option of Ollama's API.

        Raises:
            ModelError: When the answer could not be had or broke off; `partial` holds what came.
            ConfigError: When an option is unknown; nothing is sent then.
        """
        return self._answer(self._chat_request(messages, model, how), stream=stream)

    async def achat(
        self, messages: Messages, model: str | None = None, **how: Unpack[ChatOptions]
    ) -> Generation:
        """Await what `chat` returns, on any event loop."""
        return await self._aanswer(self._chat_request(messages, model, how))

    def astream_chat(
        self, messages: Messages, model: str | None = None, **how: Unpack[ChatOptions]
    ) -> AsyncIterator[StreamEvent]:
        """Yield the events of an answer to messages, on any event loop."""
        return self._astream(self._chat_request(messages, model, how))

    # --- embeddings

    def embed(
        self, texts: str | Sequence[str], model: str | None = None, **options: Any
    ) -> list[list[float]]:
        """Return one vector per text.

        Args:
            texts: One text or several.
            model: `None` takes the default.
            **options: Options of Ollama's API.
        """
        return self._run(self._embed(texts, model, options))

    async def aembed(
        self, texts: str | Sequence[str], model: str | None = None, **options: Any
    ) -> list[list[float]]:
        """Await what `embed` returns, on any event loop."""
        return await self._portal.arun(self._embed(texts, model, options))

    # --- conversations

    def session(
        self,
        model: str | None = None,
        *,
        system: str | None = None,
        options: Mapping[str, Any] | None = None,
        think: bool | str | None = None,
        record: bool = True,
        **more_options: Any,
    ) -> ChatSession:
        """Begin a conversation.

        Args:
            model: `None` takes the default, at the first question.
            system: The system prompt.
            options: Options of Ollama's API for every answer; also by keyword.
            think: Whether or how hard to think.
            record: Keep it in a file of the data folder.
            **more_options: Laid over `options`.
        """
        return ChatSession(
            self.client,
            data_dir=self.config.data_dir if record else None,
            model=model,
            system=system,
            options={**(options or {}), **more_options},
            think=think,
            default_model=self.config.default_model,
        )

    def chat_panel(
        self,
        model: str | None = None,
        *,
        system: str | None = None,
        conversation: str | None = None,
        **options: Any,
    ) -> ChatPanel:
        """Show a chat in the notebook.

        Args:
            model: `None` takes the default, at the first question.
            system: The system prompt.
            conversation: Id of one on disk to go on with; `model` and `system` then replace its
                own where they are given.  One that is open in this kernel gets a second view.
            **options: Options of Ollama's API for every answer.
        """
        if conversation is None:
            return panel_of(self.session(model, system=system, **options))
        held = ChatSession.held(conversation, self.config.data_dir)
        session = held or self.open_session(conversation)
        if model is not None:
            session.model = model
        if system is not None:
            session.system = system
        if options:
            session.options = {**session.options, **options}
        return panel_of(session)

    def models_panel(self) -> ModelsPanel:
        """Show the models in the notebook: their memory and state, and the buttons to change it."""
        from workbench.widgets.models import ModelsPanel

        return ModelsPanel(self.client, self.config)

    def dashboard(self) -> Dashboard:
        """Show in the notebook what every request took: figures, charts, and each request."""
        from workbench.widgets.dashboard import Dashboard

        return Dashboard(config=self.config)

    def runs_panel(self, *, on_finish: OnFinish | None = None) -> RunsPanel:
        """Show the runs of plans in the notebook: each step, and the buttons to start and answer.

        Args:
            on_finish: What to do when a run ends or waits for an answer: a function that is given
                `News` (`run_id`, `plan`, `status`, `folder`, `steps`, `text`), or a command as a
                list of texts, run without a shell, in which `{plan}`, `{status}`, `{run_id}`,
                `{folder}` and `{text}` are filled in.

        Raises:
            ConfigError: When `on_finish` is neither.
        """
        from workbench.widgets.runs import RunsPanel

        return RunsPanel(self.client, self.config, on_finish=on_finish)

    def open_session(self, chat_id: str, *, read_only: bool = False) -> ChatSession:
        """Open a conversation that is on disk; see `ChatSession.open`."""
        return ChatSession.open(
            chat_id,
            client=self.client,
            data_dir=self.config.data_dir,
            read_only=read_only,
            default_model=self.config.default_model,
        )

    def chats(self, search: str | None = None) -> Table[ChatInfo]:
        """Return the conversations on disk, the last changed first.

        Args:
            search: Only those that contain this text.
        """
        return Table(list_chats(self.config.data_dir, search=search), empty="no conversations")

    def rename_chat(self, chat_id: str, title: str) -> None:
        """Give a conversation another title, also one that is open in this process.

        Raises:
            ConversationLocked: When another process writes it.
            StoreError: When there is none of that id.
        """
        held = ChatSession.held(chat_id, self.config.data_dir)
        if held is not None:
            held.rename(title)
        else:
            rename_chat(self.config.data_dir, chat_id, title)

    def delete_chat(self, chat_id: str) -> None:
        """Remove a conversation for good; a session of it in this process is closed first.

        Raises:
            ConversationLocked: When another process writes it.
            StoreError: When there is none of that id.
        """
        held = ChatSession.held(chat_id, self.config.data_dir)
        if held is not None:
            held.close()
        delete_chat(self.config.data_dir, chat_id)

    def info(self) -> ServerInfo:
        """Return what the server says about itself."""
        return self._run(self.client.info())

    # --- inside

    @property
    def _unattended(self) -> bool:
        return is_unattended()

    @property
    def _live(self) -> bool:
        from workbench.widgets.headless import is_headless

        return super()._live or not is_headless()

    def _generate_request(self, prompt: str, model: str | None, how: GenerateOptions) -> _Request:
        system = how.pop("system", None)
        images = encode_images(how.pop("images", ()))
        config = _config(how)

        def send(name: str) -> Batches:
            return self.client.generate_batches(
                name, prompt, system=system, images=images, config=config
            )

        return _Request(model, send)

    def _chat_request(self, messages: Messages, model: str | None, how: ChatOptions) -> _Request:
        system = how.pop("system", None)
        tools = how.pop("tools", ())
        config = _config(how)
        listed = as_messages(messages)
        if system is not None:
            listed = [Message("system", system), *(m for m in listed if m.role != "system")]

        def send(name: str) -> Batches:
            return self.client.chat_batches(name, listed, config=config, tools=tools)

        return _Request(model, send)

    async def _model(self, model: str | None) -> str:
        name = model or self.config.default_model
        return name or (await self.client.default_model()).model

    async def _embed(
        self, texts: str | Sequence[str], model: str | None, options: Mapping[str, Any]
    ) -> list[list[float]]:
        config = GenerateConfig(options=options)
        listed = [texts] if isinstance(texts, str) else list(texts)
        if not listed:
            return []
        return await self.client.embed(listed, await self._model(model), config=config)

    async def _batches(self, request: _Request) -> Batches:
        batches = request.send(await self._model(request.model))
        async with contextlib.aclosing(batches):
            async for batch in batches:
                yield batch

    def _answer(self, request: _Request, *, stream: bool) -> Generation | Iterator[StreamEvent]:
        if stream:
            self._portal.refuse_here()
            return Answering(self._portal, self._batches(request)).events()
        return self._run(self._whole(request))

    async def _aanswer(self, request: _Request) -> Generation:
        return await self._portal.arun(self._whole(request))

    def _astream(self, request: _Request) -> AsyncIterator[StreamEvent]:
        return Answering(self._portal, self._batches(request)).aevents()

    async def _whole(self, request: _Request) -> Generation:
        model = await self._model(request.model)
        generation = await collect(request.send(model), model=model)
        if generation.error is not None:
            raise generation.error
        return generation


def panel_of(session: ChatSession) -> ChatPanel:
    """Return the panel of a session; there is one however often it is displayed."""
    from workbench.widgets.chat import ChatPanel

    panel = _PANELS.get(session)
    if panel is None:
        panel = _PANELS[session] = ChatPanel(session)
    return panel


_PANELS: WeakKeyDictionary[ChatSession, ChatPanel] = WeakKeyDictionary()
show_with("session", panel_of)
show_with("dialogue", dialogue_panel_of)
show_with("comparison", comparison_panel_of)


def _config(how: Mapping[str, Any]) -> GenerateConfig:
    """Return the configuration in keyword arguments; what is not named there is an option."""
    options = dict(how)
    named = {name: options.pop(name, None) for name in ("think", "format", "keep_alive")}
    return GenerateConfig(options=options, **named)


def as_messages(messages: Messages) -> list[Message]:
    """Return messages given as a text, as objects or as dicts in Ollama's form.

    Raises:
        ConfigError: When one is none of these.
    """
    if isinstance(messages, str):
        return [Message("user", messages)]
    return [item if isinstance(item, Message) else _message(item) for item in messages]


def _message(item: Mapping[str, Any]) -> Message:
    if item.get("role") not in get_args(Role):
        raise ConfigError(
            f"not a message: {str(item)[:80]!r}.",
            key="messages",
            hint="Give a text, a Message, or a dict with 'role' and 'content'.",
        )
    return Message.from_wire(item)
