from __future__ import annotations

import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.chat.conftest import python
from workbench.chat.session import ChatSession
from workbench.chat.store import chat_path, list_chats, read_chat
from workbench.client.api import WorkbenchClient
from workbench.errors import ConversationLocked
from workbench.testing import Reply, ScriptedOllama

_SETUP = """
import sys, pathlib
from workbench.chat.session import ChatSession
from workbench.client.api import WorkbenchClient
client, folder = WorkbenchClient(sys.argv[1]), pathlib.Path(sys.argv[2])
"""

_ASKS = f"""{_SETUP}
session = ChatSession(client, data_dir=folder, model="m")
print(session.id, flush=True)
for event in session.stream("a"):
    pass
"""


def started(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def wait_for_bytes(path: Path, wanted: bytes) -> None:
    """Wait until a file holds some bytes; the test's own timeout ends a wait in vain."""
    while not path.exists() or wanted not in path.read_bytes():
        time.sleep(0.01)  # nobody tells of a change of a file


def test_kill_9_keeps_what_arrived(
    ollama: ScriptedOllama, client: WorkbenchClient, tmp_path: Path
) -> None:
    """After SIGKILL in mid-answer the part that came is on disk, and the conversation goes on."""
    ollama.enqueue(Reply(["one", " two", " three"], stall_after=2))
    command = python(_ASKS, ollama.url, str(tmp_path))
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        chat_id = started(process)
        path = chat_path(tmp_path, chat_id)
        wait_for_bytes(path, b"one two")
        with pytest.raises(ConversationLocked):
            ChatSession.open(chat_id, client=client, data_dir=tmp_path)
        process.send_signal(signal.SIGKILL)
    with ChatSession.open(chat_id, client=client, data_dir=tmp_path) as session:
        answer = session.last
        assert answer is not None
        assert answer.facts is not None
        assert ("one two", "interrupted") == (answer.message.content, answer.facts.stop_reason)
        session.ask("b")
        assert 2 == len(session.turns)
    loaded = read_chat(path)
    assert (session.transcript, 0) == (loaded.transcript, loaded.damaged_lines)


# SIGXFSZ would kill the process; ignored, the write fails with EFBIG as a full disk fails.
_FULL = f"""{_SETUP}
import resource, signal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
with ChatSession(client, data_dir=folder, model="m") as session:
    session.ask("a")
    assert session.warnings == []
    size = session._core.log.path.stat().st_size
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, resource.RLIM_INFINITY))
    assert session.ask("b").text == "Hello from a script."
    assert "not being recorded" in str(session.warnings[0]), session.warnings
    assert session._core.log.path.stat().st_size == size
    assert session.ask("c", show=True).text == "Hello from a script."
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    session.ask("d")
    assert session.warnings == []
    print(session.id)
"""


def test_a_full_disk_does_not_end_the_conversation(ollama: ScriptedOllama, tmp_path: Path) -> None:
    """While the disk refuses, answers come and a warning stands; then everything is written."""
    command = python(_FULL, ollama.url, str(tmp_path))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    shown, chat_id = done.stdout.rsplit("\n", 2)[:2]
    assert "[The conversation is not being recorded" in shown
    loaded = read_chat(chat_path(tmp_path, chat_id))
    questions = [n.message.content for n in loaded.transcript.path() if n.message.role == "user"]
    assert (["a", "b", "c", "d"], 0) == (questions, loaded.damaged_lines)


def test_a_folder_that_cannot_be_written(client: WorkbenchClient, tmp_path: Path) -> None:
    """Where no file can be made the conversation works in memory and warns."""
    blocked = tmp_path / "data"
    blocked.write_text("a file in the place of the folder")
    with ChatSession(client, data_dir=blocked, model="m") as session:
        assert "Hello from a script." == session.ask("a").text
        assert 1 == len(session.warnings)
    assert [] == list_chats(blocked)


_TWICE = f"""{_SETUP}
import os
session = ChatSession(client, data_dir=folder, model="m")
session.ask("a")
child = os.fork()
if child == 0:
    try:
        session.ask("b")
    except Exception as error:
        os._exit(0 if type(error).__name__ == "ConversationLocked" else 1)
    os._exit(2)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
session.ask("c")
session.close()
"""


def test_a_forked_process_does_not_write(ollama: ScriptedOllama, tmp_path: Path) -> None:
    """A session carried through a fork belongs to the parent: the child is refused."""
    command = python(_TWICE, ollama.url, str(tmp_path))
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (0, "") == (done.returncode, done.stderr)
    assert [2] == [info.turns for info in list_chats(tmp_path)]
