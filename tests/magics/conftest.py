from __future__ import annotations

from collections.abc import Iterator

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from workbench.app import Workbench
from workbench.client.door import client_config, open_client
from workbench.testing import RecordedRequest, Reply, ScriptedOllama


def answer_of(request: RecordedRequest) -> Reply:
    """Answer with the model's name and the last message."""
    body = request.json
    return Reply(f"{body['model']} heard: {body['messages'][-1]['content']}")


@pytest.fixture
def ollama() -> Iterator[ScriptedOllama]:
    with ScriptedOllama(models=["tiny", "nano"], reply=answer_of) as server:
        yield server


@pytest.fixture
def shell(ollama: ScriptedOllama) -> Iterator[InteractiveShell]:
    """A shell with the extension, whose `wb` speaks to the scripted server."""
    # A history would be written when the tests' folder is gone.
    shell = InteractiveShell.instance(config=Config({"HistoryManager": {"enabled": False}}))
    shell.run_line_magic("load_ext", "workbench")
    config = client_config(url=ollama.url)
    with Workbench(open_client(config), config=config) as wb:
        shell.user_ns["wb"] = wb
        yield shell
    InteractiveShell.clear_instance()
