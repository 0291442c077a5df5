"""The npm `ollama` client, driven by a small script in `js/`."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.foreign.conftest import last_heard
from tests.server.harness import ServerProcess
from workbench.testing import Reply, ScriptedOllama

JS = Path(__file__).parent / "js"
OLDEST_NODE = 18

pytestmark = pytest.mark.npm


@pytest.fixture(scope="module", autouse=True)
def node() -> str:
    """Return the program; skip with the reason where it or the packages are missing."""
    found = shutil.which("node")
    if found is None:
        pytest.skip("node is missing")
    said = subprocess.run([found, "--version"], capture_output=True, text=True, check=False).stdout
    version = re.match(r"v(\d+)", said)
    if version is None or int(version[1]) < OLDEST_NODE:
        pytest.skip(f"node {said.strip()} is too old; {OLDEST_NODE} is needed")
    if not (JS / "node_modules" / "ollama").is_dir():
        pytest.skip("the packages of tests/foreign/js are missing; `npm ci` there installs them")
    return found


def talk(node: str, server: ServerProcess, task: str, *, model: str = "rand") -> Any:
    """Run one task of the script and return what it printed."""
    names = {"WB_URL": server.url, "WB_TOKEN": server.token, "WB_MODEL": model}
    done = subprocess.run(
        [node, "talk.mjs", task],
        cwd=JS,
        env={**os.environ, **names},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_models_are_listed_and_shown(node: str, server: ServerProcess) -> None:
    """The list has the model, and show tells what it can do."""
    assert "rand:latest" in talk(node, server, "list")
    assert "completion" in talk(node, server, "show")


def test_streamed_chat_is_the_whole_chat_in_pieces(node: str, server: ServerProcess) -> None:
    """The pieces of a stream join to the text of the same request unstreamed."""
    said = talk(node, server, "streamed")
    assert (said["whole"], "length") == ("".join(said["pieces"]), said["reason"])
    assert len(said["pieces"]) > 4


def test_generate_and_embed_answer(node: str, server: ServerProcess) -> None:
    """Generate gives eight tokens, embed a vector of each text."""
    assert 8 == talk(node, server, "generate")["eval_count"]
    assert [128, 128] == [len(vector) for vector in talk(node, server, "embed")]


def test_model_is_loaded_and_unloaded_by_keep_alive(node: str, server: ServerProcess) -> None:
    """An empty prompt loads, and with a keep_alive of zero unloads."""
    before, after = talk(node, server, "unload")
    assert (True, False) == ("rand:latest" in before, "rand:latest" in after)


def test_unknown_model_is_404(node: str, server: ServerProcess) -> None:
    """An unknown model rejects with the status and text of the server."""
    assert {"status": 404, "error": "model 'rant' not found"} == talk(node, server, "missing")


@pytest.mark.parametrize(
    ("reply", "text"),
    [
        (Reply(text="one two three", error_after=(2, "the runner stopped")), "the runner stopped"),
        (Reply(text="one two three", no_done=True), "before the end"),
    ],
    ids=["error", "truncated"],
)
def test_broken_answer_rejects(
    node: str, relay: ServerProcess, upstream: ScriptedOllama, reply: Reply, text: str
) -> None:
    """An answer that breaks off in the middle rejects, with its pieces before."""
    upstream.set_reply(reply)
    said = talk(node, relay, "broken", model="llama3.2")
    assert text in said["error"]
    assert ["one", " two"] == said["pieces"][:2]


def test_abort_frees_the_model(node: str, relay: ServerProcess, upstream: ScriptedOllama) -> None:
    """`abort()` ends the request at the host, which would have gone on."""
    upstream.set_reply(Reply(text="one two", stall_after=1))
    assert {"pieces": ["one"], "error": "AbortError"} == talk(
        node, relay, "aborted", model="llama3.2"
    )
    assert last_heard(upstream, "chat").disconnected.wait(timeout=20)
