"""The commands about models and memory on the real server of the shared home."""

from __future__ import annotations

import json

import pytest

from tests.cli.conftest import Home


def test_load_and_unload(home: Home) -> None:
    """A model is loaded, seen in memory, and unloaded with a verdict and its bytes."""
    loaded = home.cli.json("load", "noise", "-o", "num_ctx=256", "--keep-alive", "10m")
    assert ("noise:latest", 256) == (loaded["name"], loaded["context_length"])
    assert "noise:latest" in [row["name"] for row in home.cli.json("ps")]
    document = home.cli.json("unload", "noise")
    assert ("noise:latest", "verified") == (document["model"], document["verdict"])
    assert document["bytes_before"] > 0
    assert document["seconds"] >= 0


def test_unload_of_what_is_not_loaded(home: Home) -> None:
    """A model that is not loaded is a failure, but for --if-loaded; an unknown one always."""
    home.cli.run("unload", "owl:7b")
    done = home.cli.run("unload", "owl:7b")
    assert (1, True) == (done.returncode, "absent" in done.stdout)
    assert "absent" in home.cli.ok("unload", "owl:7b", "--if-loaded")
    done = home.cli.run("unload", "owll:7b", "--if-loaded")
    assert (1, True) == (done.returncode, "Did you mean 'owl:7b" in done.stderr)


def test_pins_and_preferences(home: Home) -> None:
    """What is set is in the model's row."""
    assert home.cli.json("pin", "noise")["pinned"]
    assert not home.cli.json("unpin", "noise")["pinned"]
    assert 8 == home.cli.json("prefer", "noise", "--priority", "8")["priority"]
    assert 5 == home.cli.json("prefer", "noise", "--priority", "default")["priority"]


@pytest.mark.parametrize(
    ("command", "text", "key"),
    [
        (["fit", "noise", "--num-ctx", "64"], "alone", "verdict"),
        (["queue"], "longest wait for a turn", "lanes"),
        (["gpu"], "SOURCE", "devices"),
    ],
    ids=["fit", "queue", "gpu"],
)
def test_questions(home: Home, command: list[str], text: str, key: str) -> None:
    """Each question has a text and a document."""
    assert text in home.cli.ok(*command)
    assert key in home.cli.json(*command)


def test_settings_are_changed_and_taken_back(home: Home) -> None:
    """A change is listed with its source, and goes back; a wrong one is refused with a reason."""
    home.cli.ok("settings", "queue.batch_wait_s", "90")
    listed = {row["name"]: row for row in home.cli.json("settings")}
    assert (90.0, "state") == (
        listed["queue.batch_wait_s"]["value"],
        listed["queue.batch_wait_s"]["source"],
    )
    assert 60.0 == home.cli.json("settings", "queue.batch_wait_s", "--reset")["value"]
    done = home.cli.run("settings", "queue.batch_wait_s", "soon")
    assert (1, True) == (done.returncode, "queue.batch_wait_s" in done.stderr)


def test_events_end_by_themselves(home: Home) -> None:
    """What the server did is printed, one document per line."""
    home.cli.ok("load", "noise")
    events = [json.loads(line) for line in home.cli.ok("events", "--json").splitlines()]
    loaded = [e for e in events if (e["event"], e.get("model")) == ("loaded", "noise:latest")]
    assert loaded
    assert loaded[-1]["seconds"] > 0
