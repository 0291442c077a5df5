from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import workbench
from tests.server.harness import ServerProcess
from workbench.chat.session import ChatSession
from workbench.errors import LoadFailed, ModelNotFound, ResponseError
from workbench.messages import Finished, Opened, Phase
from workbench.runtime import find_server
from workbench.testing.gguf import make_gguf

CONTEXT = 512


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    data_dir = tmp_path_factory.mktemp("with-server")
    (data_dir / "models").mkdir()
    make_gguf(data_dir / "models" / "rand.gguf", params=300_000, context_length=CONTEXT)
    with ServerProcess(data_dir) as running:
        yield running


@pytest.fixture
def wb(server: ServerProcess) -> Iterator[workbench.Workbench]:
    with workbench.connect(server.url, token=server.token, data_dir=server.data_dir) as found:
        yield found


def test_a_wrong_token_is_refused(server: ServerProcess) -> None:
    """Connecting with another token fails at once with status 401."""
    with pytest.raises(ResponseError) as caught:
        workbench.connect(server.url, token="wrong")
    assert 401 == caught.value.status


def test_info_and_models(wb: workbench.Workbench, server: ServerProcess) -> None:
    """The server and its models come as values."""
    info = wb.info()
    assert (server.record.pid, 1) == (info.pid, info.protocol)
    assert "embedded" in [backend.name for backend in info.backends]
    model = next(model for model in wb.models() if model.name == "rand:latest")
    assert ("embedded", CONTEXT, False) == (model.backend, model.context_length, model.toy)
    assert "rand:latest" in repr(wb.models())


def test_load_and_unload(wb: workbench.Workbench) -> None:
    """A model is loaded with its options, seen in memory, and unloaded with a verdict."""
    loaded = wb.load("rand", keep_alive="10m", num_ctx=256)
    assert ("rand:latest", 256) == (loaded.name, loaded.context_length)
    assert ["rand:latest"] == [model.name for model in wb.loaded()]
    assert "verified" == wb.unload("rand").verdict
    assert [] == wb.loaded()


def test_a_model_that_cannot_be_loaded_says_why(
    wb: workbench.Workbench, server: ServerProcess
) -> None:
    """A broken file is LoadFailed or a refusal with the engine's reason, and the server lives."""
    broken = server.data_dir / "models" / "broken.gguf"
    broken.write_bytes((server.data_dir / "models" / "rand.gguf").read_bytes()[:100_000])
    with pytest.raises((LoadFailed, ResponseError, workbench.WorkbenchError)):
        wb.load("broken")
    broken.unlink()
    assert wb.generate("x", "rand", num_predict=2).text


def test_a_stream_tells_of_its_phases(wb: workbench.Workbench) -> None:
    """The first answer of an unloaded model is opened, loads, and speaks."""
    wb.unload("rand")
    events = list(wb.chat("hello", "rand", stream=True, num_predict=3))
    opened = [event for event in events if isinstance(event, Opened)]
    assert ["rand:latest@embedded"] == [event.model for event in opened]
    assert opened[0].request_id
    assert "loading" in [event.name for event in events if isinstance(event, Phase)]
    assert isinstance(events[-1], Finished)
    assert ("length", 3) == (events[-1].stop_reason, events[-1].usage.output_tokens)


def test_equal_seeds_give_equal_answers(wb: workbench.Workbench) -> None:
    """Every form of asking gives the same text for the same seed."""
    how = {"num_predict": 8, "seed": 7}
    first = wb.chat("hello", "rand", **how)
    with wb.session("rand", **how, record=False) as session:
        assert first.text == session.ask("hello").text
    assert first.request_id != ""


def test_a_session_records_digest_and_request(wb: workbench.Workbench) -> None:
    """A recorded answer names the model's digest and the server's id of the request."""
    with wb.session("rand", num_predict=3) as session:
        session.ask("hello")
        node = session.last
    digest = next(model.digest for model in wb.models() if model.name == "rand:latest")
    assert node is not None
    assert node.facts is not None
    assert ("rand:latest@embedded", digest) == (node.facts.model, node.facts.digest)
    assert node.facts.request_id
    assert session.id in [info.id for info in wb.chats()]


def test_a_full_context_drops_the_oldest_turns(wb: workbench.Workbench) -> None:
    """A conversation longer than the context goes on; what was left out is recorded."""
    with wb.session("rand", num_predict=4, record=False) as session:
        for number in range(6):
            session.ask(f"{number} " + "word " * 30)
        dropped = [
            t.answer.facts.dropped_turns for t in session.turns if t.answer and t.answer.facts
        ]
    assert 0 == dropped[0]
    assert dropped == sorted(dropped)
    assert dropped[-1] >= 3


def test_a_prompt_the_engine_refuses_is_cut_and_sent_again(wb: workbench.Workbench) -> None:
    """When the estimate was too low the engine's refusal drops turns, once, unseen by the user."""
    with wb.session("rand", num_predict=4) as session:
        session.ask("a" * 200)
    # Opened anew, the session has not yet learned that this tokenizer has a token per byte.
    with wb.open_session(session.id) as again:
        answer = again.ask("b" * 400)
        node = again.last
    assert "length" == answer.stop_reason
    assert node is not None
    assert node.facts is not None
    assert 1 == node.facts.dropped_turns


def test_a_question_longer_than_the_context_fails(wb: workbench.Workbench) -> None:
    """One question that alone does not fit is the engine's error, recorded with the turn."""
    with wb.session("rand", record=False) as session:
        with pytest.raises(workbench.WorkbenchError, match="context"):
            session.ask("a" * 2 * CONTEXT)
        assert 1 == len(session.turns)


def test_an_unknown_model_names_the_nearest(wb: workbench.Workbench) -> None:
    """A misspelt model is an error that names what there is."""
    with pytest.raises(ModelNotFound) as caught:
        wb.generate("x", "rnad")
    assert "rand" in caught.value.nearest


def test_the_default_model_is_no_toy(wb: workbench.Workbench) -> None:
    """Without a name the server's default is asked, and toys come last."""
    assert "rand:latest@embedded" == wb.generate("x", num_predict=1).model


def test_embeddings_of_the_engine(wb: workbench.Workbench) -> None:
    """Texts become vectors of one length."""
    first, second = wb.embed(["a", "b"], "rand")
    assert len(first) == len(second) > 0


def test_a_restarted_server_is_found_again(tmp_path: Path) -> None:
    """A client finds the next server of its data folder by itself, whatever its port and token."""
    models = tmp_path / "models"
    models.mkdir()
    make_gguf(models / "rand.gguf", params=100_000, context_length=CONTEXT)
    with ServerProcess(tmp_path) as first:
        wb = workbench.connect(data_dir=tmp_path, spawn=False)
        assert wb.generate("x", "rand", num_predict=1).text
    with ServerProcess(tmp_path) as second, wb:
        assert wb.generate("x", "rand", num_predict=1).text
        assert second.url == wb.client.url
        assert first.token != second.token


def test_a_server_is_started_when_none_runs(private_folders: Path) -> None:
    """connect() starts a server of the data folder; an open conversation finds the same one."""
    with workbench.connect() as wb:
        info = wb.info()
        assert info.auto_started
        record = find_server(wb.config.data_dir)
        assert record is not None
        with workbench.connect() as other:
            assert record.boot_id == other.info().boot_id
        try:
            assert info.pid == record.pid
        finally:
            process = psutil.Process(record.pid)
            os.kill(record.pid, signal.SIGTERM)
            psutil.wait_procs([process], timeout=30)


def test_open_needs_no_workbench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """ChatSession.open finds conversation and server by the configuration alone."""
    monkeypatch.setenv("WORKBENCH_DATA_DIR", str(tmp_path))
    (tmp_path / "models").mkdir()
    make_gguf(tmp_path / "models" / "rand.gguf", params=100_000, context_length=CONTEXT)
    with ServerProcess(tmp_path):
        with workbench.connect(spawn=False) as wb, wb.session("rand", num_predict=2) as session:
            session.ask("a")
        with ChatSession.open(session.id) as again:
            again.ask("b")
            assert 2 == len(again.turns)


def test_a_toy_taken_by_default_says_so_once(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where only toys are installed the first printed answer says that one was taken."""
    with ServerProcess(tmp_path) as server:
        how = {"token": server.token, "data_dir": tmp_path}
        with workbench.connect(server.url, **how) as wb, wb.session(num_predict=2) as session:
            if not wb.models():
                pytest.skip("the bundled models are not here")
            session.ask("Hello!", show=True)
            session.ask("Hello!", show=True)
    assert 1 == capsys.readouterr().out.count("is a toy model (")
