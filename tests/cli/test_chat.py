from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import Any

import pytest

from tests.cli.conftest import Home
from tests.cli.harness import Cli, Terminal
from workbench.cli import main
from workbench.testing import RecordedRequest, Reply, ToolCall

ANSWER = "Polly wants a cracker."


def last_chat(home: Home) -> Any:
    """Return the body of the last chat the Ollama heard."""
    return [r for r in home.ollama.requests if r.operation == "chat"][-1].json


def test_prompt_may_be_several_words(home: Home) -> None:
    """Words after the model are the prompt, and the answer alone is on stdout."""
    done = home.cli.run("chat", "parrot", "What", "do", "you", "want?")
    assert (0, f"{ANSWER}\n", "") == (done.returncode, done.stdout, done.stderr)
    assert [{"role": "user", "content": "What do you want?"}] == last_chat(home)["messages"]


def test_prompt_is_read_from_stdin(home: Home) -> None:
    """Without a prompt, what is piped in is the prompt."""
    assert f"{ANSWER}\n" == home.cli.ok("chat", "parrot", stdin="What do\nyou want?\n")
    assert "What do\nyou want?" == last_chat(home)["messages"][0]["content"]


def test_dash_joins_words_and_stdin(home: Home) -> None:
    """A dash stands for stdin, beside words."""
    home.cli.ok("chat", "parrot", "Sum", "up:", "-", stdin="A long text.\n")
    assert "Sum up:\n\nA long text." == last_chat(home)["messages"][0]["content"]


def test_stdin_is_left_alone_when_a_prompt_is_given(home: Home) -> None:
    """A command in a shell loop does not eat the loop's input."""
    home.cli.ok("chat", "parrot", "Hello", stdin="not for you")
    assert "Hello" == last_chat(home)["messages"][0]["content"]


def test_empty_prompt_is_refused(home: Home) -> None:
    """An empty stdin asks nothing."""
    done = home.cli.run("chat", "parrot", stdin="")
    assert 2 == done.returncode
    assert "empty" in done.stderr


def test_system_options_and_think_are_sent(home: Home) -> None:
    """`--system`, `--option` and `--think` reach the model, values as JSON."""
    how = ["-s", "Be brief.", "-o", "temperature=0", "-o", 'stop=["END"]', "--think", "false"]
    home.cli.ok("chat", *how, "parrot", "Hi")
    body = last_chat(home)
    assert {"role": "system", "content": "Be brief."} == body["messages"][0]
    assert {"temperature": 0.0, "stop": ["END"]} == body["options"]
    assert body["think"] is False


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ("temprature=0", "Did you mean 'temperature'?"),
        ("max_tokens=5", "Did you mean 'num_predict'?"),
        ("seed=many", "option 'seed' must be an integer, not 'many'."),
    ],
)
def test_bad_option_is_refused(capsys: pytest.CaptureFixture[str], option: str, said: str) -> None:
    """An option that does not exist or has another type is one line on stderr, and exit code 1."""
    with pytest.raises(SystemExit) as end:
        main(["chat", "parrot", "Hi", "--option", option])
    printed = capsys.readouterr()
    assert (1, "", 1) == (end.value.code, printed.out, printed.err.count("\n"))
    assert printed.err.startswith("error: ")
    assert said in printed.err


def test_unknown_model_names_the_nearest(home: Home) -> None:
    """A model that is not there is an error with the nearest name."""
    done = home.cli.run("chat", "parot", "Hi")
    assert (1, "") == (done.returncode, done.stdout)
    assert "error: model 'parot' not found. Did you mean 'parrot" in done.stderr


def test_json_is_one_document(home: Home) -> None:
    """`--json` prints one document with the answer and what was measured, and nothing else."""
    call = ToolCall("look", {"at": "sky"})
    home.ollama.set_reply(Reply("Up.", thinking="Where?", tool_calls=[call]))
    done = home.cli.run("chat", "parrot", "Hi", "--json")
    document = json.loads(done.stdout)
    calls = [{"name": "look", "arguments": {"at": "sky"}}]
    assert ("Up.", "Where?", calls) == (
        document["text"],
        document["thinking"],
        [{k: call[k] for k in ("name", "arguments")} for call in document["tool_calls"]],
    )
    assert "parrot:latest@ollama" == document["model"]
    assert "tool_calls" == document["stop_reason"]
    assert document["usage"]["output_tokens"] > 0
    assert document["timings"]["ttft_s"] > 0
    assert document["error"] is None
    assert "" == done.stderr


def test_json_of_a_failure_is_a_document_too(home: Home) -> None:
    """With `--json` an answer that broke off is a document with its part and its error."""
    home.ollama.set_reply(Reply("one two three", error_after=(2, "out of seed")))
    done = home.cli.run("chat", "parrot", "Hi", "--json")
    document = json.loads(done.stdout)
    assert (1, "one two", "error") == (
        done.returncode,
        document["text"].strip(),
        document["stop_reason"],
    )
    assert "out of seed" in document["error"]["error"]
    assert "error: out of seed." in done.stderr


def test_answer_that_broke_off_is_kept_and_told(home: Home) -> None:
    """What had come stays on stdout, stderr says why it ended, and the exit code is 1."""
    home.ollama.set_reply(Reply("one two three", no_done=True))
    done = home.cli.run("chat", "parrot", "Hi")
    assert (1, "one two three\n") == (done.returncode, done.stdout)
    assert done.stderr.startswith("error: The answer broke off")


def test_control_characters_do_not_reach_the_terminal(home: Home) -> None:
    """Escape sequences, also those cut in two, and control characters are left out."""
    tokens = ["a\x1b[31mb", "\x1b]0;owned\x07c", "d\x1b", "[2Je", "\rf\x08g\x9b1mh"]
    home.ollama.set_reply(Reply(tokens, thinking=["\x1b[2Jhm"]))
    done = home.cli.run("chat", "parrot", "Hi")
    assert "abcdefgh\n" == done.stdout
    assert "\x1b" not in done.stderr


def test_thinking_and_tool_calls_go_to_stderr(home: Home) -> None:
    """Stdout has the answer only; thinking and tool calls are told beside it."""
    home.ollama.set_reply(Reply("Up.", thinking="Where?", tool_calls=[ToolCall("look", {"at": 1})]))
    done = home.cli.run("chat", "parrot", "Hi")
    assert "Up.\n" == done.stdout
    assert "[thinking]\nWhere?\n[answer]\n" in done.stderr
    assert '[asks for tool look({"at": 1}); it was not run]' in done.stderr


def test_length_limit_is_told(home: Home) -> None:
    """An answer that was cut by a limit says so."""
    home.ollama.set_reply(Reply("one two", done_reason="length"))
    done = home.cli.run("chat", "parrot", "Hi")
    assert (0, "[reached its length limit]\n") == (done.returncode, done.stderr)


def test_embedded_model_answers(home: Home) -> None:
    """A GGUF file of the models folder answers, as often the same as its seed is."""
    how = ["chat", "noise", "Hi", "-o", "num_predict=20", "-o", "temperature=0"]
    first, second = home.cli.ok(*how), home.cli.ok(*how)
    assert first == second
    assert len(first) > 2


def stalled(home: Home, *arguments: str) -> tuple[subprocess.Popen[str], RecordedRequest]:
    """Start a chat whose model goes silent after three words."""
    home.ollama.set_reply(Reply("one two three four five", stall_after=3))
    before = len([r for r in home.ollama.requests if r.operation == "chat"])
    process = home.cli.start("chat", "parrot", "Hi", *arguments)
    request = home.ollama.wait_for_request(before + 1, to="chat", timeout_s=60)
    assert request.stalled.wait(60)
    return process, request


def test_interrupt_stops_the_model_and_keeps_what_came(home: Home) -> None:
    """Ctrl-C prints what had come, frees the model, and exits with 130."""
    process, request = stalled(home)
    assert process.stdout is not None
    came = process.stdout.read(len("one two three"))
    process.send_signal(signal.SIGINT)
    rest, errors = process.communicate(timeout=60)
    assert (130, "one two three", "") == (process.returncode, came, rest.strip())
    assert "[interrupted]" in errors
    assert "Traceback" not in errors
    assert request.disconnected.wait(30)


def test_interrupt_with_json_prints_the_part(home: Home) -> None:
    """Ctrl-C with `--json` still prints one document."""
    process, request = stalled(home, "--json")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=60)
    document = json.loads(out)
    assert (130, "interrupted") == (process.returncode, document["stop_reason"])
    assert "one two three ".startswith(document["text"])
    assert request.disconnected.wait(30)


def test_default_toy_is_told(fresh: Cli) -> None:
    """Without a model the default answers, and stderr says when it is a toy."""
    done = fresh.run("chat", stdin="What is the capital of France?")
    assert (0, "The capital of France is Paris.\n") == (done.returncode, done.stdout)
    assert "toy-tiny" in done.stderr
    assert "(toy)" in done.stderr


def test_conversation_in_a_terminal(home: Home) -> None:
    """In a terminal a chat remembers its turns, knows its commands, and is kept."""
    home.ollama.set_reply(lambda request: Reply(f"turn {len(request.json['messages'])}"))
    terminal = Terminal(home.cli, "chat", "parrot")
    terminal.until(">>> ")
    terminal.type("Hello")
    terminal.until("turn 1")
    terminal.until(">>> ")
    terminal.type("/hlep")
    assert "no command /hlep" in terminal.until(">>> ")
    terminal.type("Again")
    terminal.until("turn 3")
    terminal.until(">>> ")
    terminal.type("/exit")
    said = terminal.until('")]')
    assert 0 == terminal.close()
    chat_id = said.split('ChatSession.open("')[1].split('"')[0]
    assert (home.cli.data_dir / "chats" / f"{chat_id}.jsonl").is_file()


def test_interrupt_in_a_conversation_stops_the_answer_only(home: Home) -> None:
    """Ctrl-C stops an answer, and the conversation goes on; an empty prompt stays, Ctrl-D ends."""
    home.ollama.set_reply(Reply("one two three", stall_after=2))
    with Terminal(home.cli, "chat", "parrot") as terminal:
        terminal.until(">>> ")
        terminal.type("Hello")
        terminal.until("two")
        os.kill(terminal.process.pid, signal.SIGINT)
        terminal.until("[interrupted]")
        terminal.until(">>> ")
        terminal.interrupt_until("/exit or Ctrl-D ends")
        terminal.until(">>> ")
        os.write(terminal.fd, b"\x04")
        terminal.until('")]')
        assert 0 == terminal.close()
