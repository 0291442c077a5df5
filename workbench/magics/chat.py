"""`%%chat MODEL`: the cell is a question."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from workbench.app import Workbench
from workbench.chat.session import ChatSession
from workbench.errors import ConfigError, ModelNotFound
from workbench.magics.display import shown
from workbench.magics.line import (
    AS,
    KEEP_ALIVE,
    SYSTEM,
    THINK,
    Line,
    Option,
    keeping,
    thinking,
    usage_error,
    workbench_of,
)
from workbench.messages import Generation
from workbench.widgets.headless import in_kernel, is_headless

if TYPE_CHECKING:
    import pandas as pd
    from nbformat import NotebookNode

LINE = Line(
    "%%chat",
    (
        AS,
        Option("--session", "NAME", "Go on with the conversation of this name, or begin it."),
        SYSTEM,
        THINK,
        KEEP_ALIVE,
    ),
    models="one",
    with_model_options=True,
)


class ChatAnswer:
    """The answer of a `%%chat` cell, with the conversation it belongs to.

    Attributes:
        session: The conversation; `answer.session.ask(...)` goes on with it.
        generation: The whole answer with its figures; `None` when it failed.
    """

    def __init__(self, session: ChatSession) -> None:
        self.session = session
        self.generation: Generation | None = None

    def __repr__(self) -> str:
        reason = "no answer" if self.generation is None else self.generation.stop_reason
        return f"<ChatAnswer of {self.session.id}: {reason}>"

    def __str__(self) -> str:
        return self.text

    @property
    def text(self) -> str:
        """The text of the answer, empty when there is none."""
        return "" if self.generation is None else self.generation.text

    def _repr_mimebundle_(self, **kwargs: Any) -> Any:
        if in_kernel() and not is_headless():
            return self.session._repr_mimebundle_(**kwargs)
        # Imported here: widgets take half a second, and SQL in a cell needs none.
        from workbench.widgets.chat import static_bundle

        turns = self.session.turns
        last = [] if not turns else [turns[-1].user, *turns[-1].replies]
        return static_bundle(self.session.title, [node for node in last if node is not None])

    def to_frame(self) -> pd.DataFrame:
        """Return the conversation as a DataFrame with a row per message."""
        return self.session.to_frame()

    def to_markdown(self) -> str:
        """Return the conversation as markdown text."""
        return self.session.to_markdown()

    def to_json(self) -> str:
        """Return the conversation as one JSON document."""
        return self.session.to_json()

    def to_notebook(self) -> NotebookNode:
        """Return the conversation as a notebook that asks the same again."""
        return self.session.to_notebook()


def run(shell: Any, line: str, cell: str) -> None:
    """Ask a model the text of the cell and show the answer.

    `%%chat MODEL --temperature .2 --as answer` keeps it as `answer`, with its text, its
    conversation and the exports of that.

    Raises:
        UsageError: When something on the line cannot be meant, or there is no such model.
        ModelError: When the answer could not be had.
    """
    given = LINE.read(line)
    question = cell.strip()
    if not question:
        raise UsageError("%%chat: the cell has no question below its first line.")
    options = LINE.options_of(given)
    wb = workbench_of(shell)
    try:
        session, how = _session(shell, wb, given, options)
        answer = ChatAnswer(session)
        if given.session is not None:
            shell.user_ns[given.session] = session
        if vars(given)["as"] is not None:
            shell.user_ns[vars(given)["as"]] = answer
        if in_kernel():
            with shown(answer):
                answer.generation = session.ask(question, **how)
        else:
            answer.generation = session.ask(question, show=True, **how)
    except (ConfigError, ModelNotFound) as exc:
        raise usage_error("%%chat", exc) from exc


def _session(
    shell: Any, wb: Workbench, given: Any, options: dict[str, Any]
) -> tuple[ChatSession, dict[str, Any]]:
    """Return the conversation to ask in, and what is for this answer only."""
    held = None if given.session is None else shell.user_ns.get(given.session)
    if isinstance(held, ChatAnswer):
        held = held.session
    if held is not None and not isinstance(held, ChatSession):
        raise UsageError(f"%%chat: {given.session} is no conversation, but {held!r:.60}.")
    think, keep_alive = thinking(given.think), keeping(given.keep_alive)
    if held is None:
        session = wb.session(given.models, system=given.system, options=options, think=think)
        return session, {} if keep_alive is None else {"keep_alive": keep_alive}
    if given.system is not None:
        held.system = given.system
    how: dict[str, Any] = {"model": given.models, "think": think, "keep_alive": keep_alive}
    return held, {**options, **{name: value for name, value in how.items() if value is not None}}
