from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from workbench.chat.export import COLUMNS
from workbench.chat.session import ChatSession
from workbench.chat.store import read_chat
from workbench.client.api import WorkbenchClient
from workbench.testing import Reply, ScriptedOllama, ToolCall

HOSTILE = "<script>alert(1)</script>\x1b[31m ```\n# x"


@pytest.fixture
def talked(session: ChatSession, ollama: ScriptedOllama) -> ChatSession:
    ollama.enqueue(
        Reply("one", thinking="hm"),
        Reply([HOSTILE]),
        Reply("", tool_calls=[ToolCall("add", {"a": 1})]),
    )
    session.system = "be brief"
    session.ask("first 'question'\nof two lines", temperature=0)
    session.regenerate()
    session.ask("add")
    session.add_tool_result(session.turns[-1].replies[-1].message.tool_calls[0], "3")
    return session


def test_jsonl_is_the_file_of_a_conversation(
    talked: ChatSession, client: WorkbenchClient, tmp_path: Path
) -> None:
    """The exported lines read as the same conversation, every branch included."""
    path = tmp_path / "copy.jsonl"
    path.write_text(talked.to_jsonl(), encoding="utf-8", newline="")
    loaded = read_chat(path)
    assert (talked.transcript, 0) == (loaded.transcript, loaded.damaged_lines)


def test_json_holds_every_branch(talked: ChatSession) -> None:
    """The document has all messages, the active path and the settings."""
    document = json.loads(talked.to_json())
    assert len(talked.transcript.nodes) == len(document["messages"])
    assert [node.id for node in talked.transcript.path()] == document["path"]
    assert "be brief" == document["settings"]["system"]
    assert HOSTILE in [item["message"]["content"] for item in document["messages"]]


def test_markdown_shows_the_active_path(talked: ChatSession) -> None:
    """The text has the system prompt, the shown answers and who gave them."""
    text = talked.to_markdown()
    assert "## System\n\nbe brief" in text
    assert "## Assistant (m" in text
    assert HOSTILE in text
    assert 'Tool call: `add({"a": 1})`' in text
    assert "## Tool (add)\n\n3" in text
    assert "one" not in text.split("## ")


def test_the_notebook_is_valid_and_holds_no_markup_of_the_model(talked: ChatSession) -> None:
    """A model's text stands only in plain outputs, without control characters."""
    notebook = talked.to_notebook()
    nbformat.validate(notebook)
    markdown = [cell.source for cell in notebook.cells if cell.cell_type == "markdown"]
    assert not any("<script>" in source for source in markdown)
    outputs = [out for cell in notebook.cells for out in cell.get("outputs", ())]
    assert {"stream"} == {out.output_type for out in outputs}
    assert any("<script>" in out.text and "\x1b" not in out.text for out in outputs)


def test_the_notebook_asks_the_same_questions(talked: ChatSession) -> None:
    """The parameters and the questions of the notebook are Python with the same values."""
    notebook = talked.to_notebook()
    found: dict[str, object] = {}
    exec(notebook.cells[1].source, found)
    assert ("m", "be brief") == (found["model"], found["system"])
    asked: list[str] = []

    class Recorder:
        def ask(self, text: str, *, show: bool) -> None:
            asked.append(text)

    for cell in notebook.cells[3:]:
        exec(cell.source, {"session": Recorder()})
    assert ["first 'question'\nof two lines", "add"] == asked


def test_the_notebook_names_digests_and_figures(talked: ChatSession) -> None:
    """The metadata says which model with which digest and options gave each answer."""
    notebook = talked.to_notebook()
    assert {"m": None} == notebook.metadata.workbench.digests
    answers = notebook.cells[3].metadata.workbench.answers
    assert [{}] == [answer["config"] for answer in answers]
    assert answers[0]["usage"]["output_tokens"] > 0


def test_the_frame_has_the_columns_it_promises(talked: ChatSession) -> None:
    """Columns, their order and their types are those of the table, whatever the rows hold."""
    for frame in (talked.to_frame(), talked.to_frame(all_branches=True)):
        assert list(COLUMNS) == list(frame.columns)
        assert [kind for kind, _ in COLUMNS.values()] == [str(kind) for kind in frame.dtypes]
    frame = talked.to_frame()
    assert ["user", "assistant", "user", "assistant", "tool"] == list(frame["role"])
    assert frame["input_tokens"].isna().iloc[0]
    assert 6 == len(talked.to_frame(all_branches=True))


def test_an_empty_conversation_exports(session: ChatSession) -> None:
    """Every export of a conversation without messages is valid and empty."""
    assert list(COLUMNS) == list(session.to_frame().columns)
    nbformat.validate(session.to_notebook())
    assert [] == json.loads(session.to_json())["messages"]
    assert session.to_markdown().startswith("# Conversation")


def test_the_docstring_of_to_frame_names_every_column() -> None:
    """Whoever reads the help of to_frame learns each column."""
    documented = ChatSession.to_frame.__doc__ or ""
    assert [] == [name for name in COLUMNS if name not in documented]
