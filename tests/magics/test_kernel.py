"""The magics in a real kernel with a person in front of it: panels, interrupts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from tests.chat.test_kernel import Kernel
from tests.magics.conftest import answer_of
from workbench.testing import Reply, ScriptedOllama

WIDGET = "application/vnd.jupyter.widget-view+json"


@pytest.fixture(scope="module")
def server() -> Iterator[ScriptedOllama]:
    with ScriptedOllama(models=["tiny", "nano"], reply=answer_of) as server:
        yield server


@pytest.fixture(scope="module")
def kernel(server: ScriptedOllama) -> Iterator[Kernel]:
    kernel = Kernel()
    try:
        code = f"%load_ext workbench\nimport workbench\nwb = workbench.connect({server.url!r})"
        assert "" == kernel.run(code)
        yield kernel
    finally:
        kernel.close()


def shown(kernel: Kernel, code: str) -> list[dict[str, Any]]:
    """Run a cell and return the mime bundles it displayed, in order."""
    request, found = kernel.start(code), []
    while True:
        message = kernel.client.get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") != request:
            continue
        if message["header"]["msg_type"] == "display_data":
            found.append(message["content"]["data"])
        if message["content"].get("execution_state") == "idle":
            return found


def test_a_chat_is_shown_in_its_panel(kernel: Kernel) -> None:
    """Where a person looks the panel is shown, once, and the cell returns nothing else."""
    (bundle,) = shown(kernel, "%%chat tiny --as answer\nWhy?")
    assert WIDGET in bundle
    assert "tiny heard: Why?\n" == kernel.run("print(answer.text)")


def test_a_name_of_the_notebook_may_stand_on_the_line(kernel: Kernel) -> None:
    """`{name}` on the first line is the value of a variable."""
    kernel.run("model = 'nano'")
    shown(kernel, "%%chat {model} --as other\nWhy?")
    assert "nano heard: Why?\n" == kernel.run("print(other)")


def test_an_interrupt_keeps_what_came(kernel: Kernel, server: ScriptedOllama) -> None:
    """An interrupted comparison has the part that arrived, under its name."""
    server.enqueue(Reply(["one", " two"], stall_after=1), to="chat")
    heard = len([r for r in server.requests if r.path == "/api/chat"])
    request = kernel.start("%%compare tiny nano --as sides\nWhy?")
    server.wait_for_request(heard + 1, to="chat")
    kernel.manager.interrupt_kernel()
    kernel.finish(request)
    code = "print([answer.status for answer in sides.answers[0].values()])"
    assert "['cancelled', 'cancelled']\n" == kernel.run(code)
    assert "interrupted\n" == kernel.run("print(sides.answer(0, 'tiny').stop_reason)")


def test_a_mistake_has_no_traceback(kernel: Kernel) -> None:
    """A wrong line is one message of the kernel, and the cell has failed."""
    request = kernel.client.execute("%%chat tiny --temprature 1\nWhy?")
    reply = kernel.client.get_shell_msg(timeout=60)
    while reply["parent_header"].get("msg_id") != request:
        reply = kernel.client.get_shell_msg(timeout=60)
    assert "error" == reply["content"]["status"]
    printed = kernel.read(request)
    assert "Did you mean --temperature?" in printed
    assert "Traceback" not in printed
