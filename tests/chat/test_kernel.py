from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from workbench.testing import Reply, ScriptedOllama

_SETUP = """
import workbench
wb = workbench.connect({url!r})
session = wb.session("m")
"""


class Kernel:
    """A real kernel; `run` waits for a cell and returns what it printed."""

    def __init__(self) -> None:
        self.manager = KernelManager()
        self.manager.start_kernel()
        self.client: BlockingKernelClient = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def start(self, code: str) -> str:
        return self.client.execute(code)

    def read(self, request: str, *, until: str | None = None) -> str:
        """Return what a cell prints, errors included, up to a text or to its end."""
        text = ""
        while until is None or until not in text:
            message = self.client.get_iopub_msg(timeout=60)
            if message["parent_header"].get("msg_id") != request:
                continue
            text += text_of(message)
            if message["content"].get("execution_state") == "idle":
                break
        return text

    def finish(self, request: str) -> str:
        return self.read(request)

    def run(self, code: str) -> str:
        return self.finish(self.start(code))

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)
        self.manager.cleanup_resources()


def text_of(message: dict[str, Any]) -> str:
    content = message["content"]
    if message["header"]["msg_type"] == "error":
        return f"{content['ename']}: {content['evalue']}"
    return str(content.get("text", "")) + str(content.get("data", {}).get("text/plain", ""))


@pytest.fixture
def kernel(ollama: ScriptedOllama) -> Iterator[Kernel]:
    kernel = Kernel()
    try:
        assert "" == kernel.run(_SETUP.format(url=ollama.url))
        yield kernel
    finally:
        kernel.close()


def test_interrupting_a_cell_stops_the_answer(kernel: Kernel, ollama: ScriptedOllama) -> None:
    """An interrupted `ask` returns what came, as interrupted, and the next question works."""
    ollama.enqueue(Reply(["one", " two"], stall_after=1))
    request = kernel.start("answer = session.ask('a', show=True); print(answer.stop_reason)")
    assert "one" == kernel.read(request, until="one")
    kernel.manager.interrupt_kernel()
    assert "\n[interrupted]\ninterrupted\n" == kernel.finish(request)
    assert ollama.wait_for_request(1, to="chat").disconnected.wait(10)
    code = "print(repr(session.turns[0].answer.message.content), session.ask('b').text)"
    assert "'one' Hello from a script.\n" == kernel.run(code)


def test_interrupting_a_quiet_question_says_so(kernel: Kernel, ollama: ScriptedOllama) -> None:
    """An interrupted `ask` that prints nothing is recorded as interrupted too, not as cancelled."""
    ollama.enqueue(Reply(["one", " two"], stall_after=1))
    request = kernel.start("answer = session.ask('a'); print(answer.stop_reason)")
    assert ollama.wait_for_request(1, to="chat").stalled.wait(10)
    kernel.manager.interrupt_kernel()
    assert "interrupted\n" == kernel.finish(request)
    assert "interrupted\n" == kernel.run("print(session.turns[0].answer.facts.stop_reason)")


def test_a_second_interrupt_ends_a_loop_of_questions(
    kernel: Kernel, ollama: ScriptedOllama
) -> None:
    """An interrupt soon after another one raises, and the answer it stopped is kept too."""
    ollama.enqueue(Reply(["one", " two"], stall_after=1))
    # As if the session had been interrupted this moment, however slow the machine is.
    kernel.run("import time; session._interrupted_at = time.monotonic() + 3600")
    request = kernel.start("session.ask('a', show=True)")
    assert "one" == kernel.read(request, until="one")
    kernel.manager.interrupt_kernel()
    assert "KeyboardInterrupt" in kernel.finish(request)
    assert "one\n" == kernel.run("print(session.last.message.content)")


def test_interrupting_generate_ends_the_cell(kernel: Kernel, ollama: ScriptedOllama) -> None:
    """An interrupt in a loop of `generate` ends the cell, not only one answer."""
    ollama.set_reply(Reply(["one", " two"], stall_after=1))
    request = kernel.start("for _ in range(100): wb.generate('a', 'm')")
    assert ollama.wait_for_request(1, to="generate", timeout_s=60).stalled.wait(10)
    kernel.manager.interrupt_kernel()
    assert "KeyboardInterrupt" in kernel.finish(request)


def test_awaiting_in_a_cell(kernel: Kernel) -> None:
    """The async forms work on the kernel's own loop, also several at once."""
    code = """
import asyncio
found = await asyncio.gather(*(wb.agenerate(str(n), "m") for n in range(5)))
print({answer.text for answer in found}, (await session.aask("q")).text)
"""
    assert "{'Hello from a script.'} Hello from a script.\n" == kernel.run(code)


def test_interrupting_an_awaiting_cell(kernel: Kernel, ollama: ScriptedOllama) -> None:
    """An interrupted `await session.aask` leaves the part that came in the conversation."""
    ollama.enqueue(Reply(["one", " two"], stall_after=1))
    request = kernel.start("await session.aask('a', show=True)")
    assert "one" == kernel.read(request, until="one")
    kernel.manager.interrupt_kernel()
    assert ollama.wait_for_request(1, to="chat").disconnected.wait(10)
    kernel.finish(request)
    assert "one\n" == kernel.run("print(session.last.message.content)")


def test_a_conversation_survives_its_kernel(kernel: Kernel, ollama: ScriptedOllama) -> None:
    """After a restart of the kernel the conversation opens by its id and goes on."""
    chat_id = kernel.run("session.ask('a'); print(session.id)").strip()
    kernel.manager.restart_kernel(now=True)
    kernel.client.wait_for_ready(timeout=60)
    code = f"""
import workbench
session = workbench.connect({ollama.url!r}).open_session({chat_id!r})
session.ask("b")
print([turn.text for turn in session.turns])
"""
    assert "['a', 'b']\n" == kernel.run(code)


def test_a_session_shows_without_markup_of_its_texts(
    kernel: Kernel, ollama: ScriptedOllama
) -> None:
    """A session as the value of a cell is no markdown, and its texts are no HTML."""
    ollama.set_reply(Reply("<img src=x onerror=alert(1)>"))
    request = kernel.start("session.ask('<b>x</b>'); session")
    while (message := kernel.client.get_iopub_msg(timeout=60))["msg_type"] != "execute_result":
        assert message["content"].get("execution_state") != "idle" or (
            message["parent_header"]["msg_id"] != request
        )
    data = message["content"]["data"]
    assert "text/plain" in data
    assert "text/markdown" not in data
    assert not any(mark in data.get("text/html", "") for mark in ("<b>x", "<img src=x"))
    kernel.finish(request)


_TALK = """
cast = [{"name": "Ann", "model": "m"}, {"name": "Bob", "model": "m"}]
how = {"opening": "Tea?", "turns": 2, "human": "approve"}
"""


def test_where_nobody_looks_a_dialogue_asks_nobody(kernel: Kernel, ollama: ScriptedOllama) -> None:
    """Run by a program, one with a person fails before its first turn, or takes its answers."""

    def program(code: str) -> str:
        return kernel.finish(kernel.client.execute(code, allow_stdin=False))

    assert "nobody can be asked" in program(f"{_TALK}\nwb.dialogue(cast, **how).run()")
    assert [] == [request for request in ollama.requests if request.operation == "chat"]
    answers = [{"turn": "all", "approve": True}, {"turn": 1, "text": "coffee"}]
    shown = program(f"dialogue = wb.dialogue(cast, answers={answers}, **how).run()\ndialogue")
    assert "Ann: Hello from a script." in shown
    assert "Bob [edited]: coffee" in shown
    assert "2 turns were taken" in shown
