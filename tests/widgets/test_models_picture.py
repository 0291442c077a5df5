"""What the models panel's view is told: pure values, and the differences between them."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.widgets.models_server import GIB, model
from workbench.widgets.feed import EVENTS_KEPT, Link, Snapshot
from workbench.widgets.models_picture import Doings, Picture, difference, picture
from workbench.widgets.models_static import models_html, models_text

LOADED = {
    "name": "owl:7b",
    "backend": "ollama",
    "size_bytes": 5 * GIB,
    "vram_bytes": 4 * GIB,
    "context_length": 4096,
    "expires_at": "2318-01-01T00:00:00Z",
    "warnings": ["1.0 GiB of it are in main memory"],
}


def snapshot(**parts: Any) -> Snapshot:
    """Return what a feed knows after these answers."""
    named = {name.replace("__", "/"): body for name, body in parts.items()}
    return Snapshot(link=Link("ok", since=900.0), parts=named, asked_at=1000.0)


def drawn(known: Snapshot, doings: Doings | None = None, old: Picture | None = None) -> Picture:
    """Return the picture of what is known."""
    return picture(known, doings or Doings(), can_start=True, old=old)


def apply(held: Picture, change: dict[str, Any]) -> Picture:
    """Do what a view does with a difference."""
    made = copy.deepcopy(held)
    for key, row in change.get("rows", {}).items():
        if row is None:
            del made["rows"][key]
        else:
            made["rows"][key] = row
    made.update(change.get("set", {}))
    if "ev" in change:
        made["events"] = [*made["events"], *change["ev"]][-change["keep"] :]
    return made


STATES = st.sampled_from(["absent", "idle", "busy", "loading"])
MOMENTS = st.fixed_dictionaries(
    {
        "models": st.dictionaries(st.sampled_from("abcd"), STATES),
        "used": st.integers(0, 3),
        "news": st.integers(0, 60),
        "waiting": st.integers(0, 2),
    }
)


@given(st.lists(MOMENTS, min_size=2, max_size=5))
def test_differences_make_the_picture(moments: list[dict[str, Any]]) -> None:
    """A view that takes every difference holds what the kernel would send whole."""
    events: list[dict[str, Any]] = []
    held: Picture | None = None
    for moment in moments:
        rows = [model(name, state=state) for name, state in sorted(moment["models"].items())]
        lane = {"backend": "ollama", "model": "a", "waiting": moment["waiting"], "oldest_s": 3.0}
        events = [*events, *({"ts": len(events) + n, "event": "x"} for n in range(moment["news"]))]
        known = snapshot(
            models={"models": rows},
            gpu={"devices": [{"id": "0", "used_bytes": moment["used"] * GIB}]},
            queue={"lanes": [lane]},
        )
        known.events = events[-EVENTS_KEPT:]
        new = drawn(known, old=held)
        if held is not None:
            assert new == apply(held, difference(held, new))
        held = json.loads(json.dumps(new))


def test_nothing_changed_is_nothing_to_say() -> None:
    """Figures that wobble below what is shown make no difference."""
    made = []
    for jitter in (0, 1000):
        device = {"id": "0", "used_bytes": 5 * GIB + jitter, "temperature_c": 50 + jitter / 10000}
        lane = {
            "backend": "ollama",
            "model": "owl:7b",
            "waiting": 1,
            "oldest_s": 4.0 + jitter / 1e3,
        }
        known = snapshot(
            models={"models": [model("owl:7b")]},
            gpu={"devices": [device], "as_of": jitter},
            queue={"lanes": [lane]},
        )
        made.append(drawn(known, old=made[-1] if made else None))
    assert {} == difference(*made)


def test_a_loaded_model() -> None:
    """A row joins what is installed and what is in memory; a zero is a value."""
    rows = {"models": [model("owl:7b", state="idle", priority=0)]}
    row = drawn(snapshot(models=rows, models__loaded={"models": [LOADED]}))["rows"]["owl:7b@ollama"]
    assert (5 * GIB, 4 * GIB, 4096) == (row["size_loaded"], row["vram"], row["context"])
    assert row["forever"]
    assert 0 == row["priority"]
    assert LOADED["warnings"] == row["warnings"]
    assert "expires" not in row


def test_a_process_of_its_own() -> None:
    """A model that a process holds in main memory has that much, and nothing on a GPU."""
    held = {**LOADED, "vram_bytes": None, "rss_bytes": 40 * 2**20, "size_bytes": 4000}
    known = snapshot(models={"models": [model("owl:7b")]}, models__loaded={"models": [held]})
    row = drawn(known)["rows"]["owl:7b@ollama"]
    assert (40 * 2**20, 0) == (row["size_loaded"], row["vram"])


def test_a_model_deleted_while_loaded() -> None:
    """What is in memory without files has a row that says so."""
    known = snapshot(models={"models": []}, models__loaded={"models": [LOADED]})
    assert drawn(known)["rows"]["owl:7b@ollama"]["unlisted"]


def test_a_load_that_is_stuck() -> None:
    """A load far past its time tells on its row what was found and what is done."""
    event = {"event": "load_stuck", "model": "owl:7b", "backend": "ollama", "seconds": 90.0}
    event |= {"expected_s": 4.0, "diagnosis": "its queue stands still", "action": "unloads bat:1b"}
    rows = [model("owl:7b", state="loading")]
    known = snapshot(models={"models": rows})
    known.events = [event]
    (told,) = drawn(known)["rows"]["owl:7b@ollama"]["warnings"]
    assert "loading for 90.0 s, usual: 4.0 s. its queue stands still; unloads bat:1b" in told
    rows[0]["state"] = "idle"
    assert "warnings" not in drawn(known)["rows"]["owl:7b@ollama"]


def test_one_digest_has_one_colour() -> None:
    """A model has the colour of its digest, whatever it is called and wherever it is."""
    rows = [model("owl:7b", digest="d"), model("alias", digest="d"), model("bat:1b", digest="e")]
    made = list(drawn(snapshot(models={"models": rows}))["rows"].values())
    looks = [(row["color"], row["pattern"]) for row in made]
    assert looks[0] == looks[1]
    assert looks[0] != looks[2]


def test_a_backend_that_is_down() -> None:
    """A backend that does not answer is there with its reason."""
    error = {"backend": "lan", "error": "connection refused", "hint": "Start it."}
    known = snapshot(models={"models": [], "errors": [error]}, info={"backends": [{"name": "lan"}]})
    (row,) = drawn(known)["backends"]
    assert (False, "connection refused", "Start it.") == (
        row["reachable"],
        row["error"],
        row["hint"],
    )


def test_a_backend_that_was_never_there() -> None:
    """One that was looked for and not found is down too; one whose models are listed is not."""
    facts = {"reachable": False, "error": "no connection"}
    known = snapshot(
        models={"models": [model("owl:7b")]},
        info={"backends": [{"name": "lan", **facts}, {"name": "ollama", **facts}]},
    )
    assert {"lan": False, "ollama": True} == {
        row["name"]: row["reachable"] for row in drawn(known)["backends"]
    }


def test_what_a_server_without_gpu_figures_says() -> None:
    """Where memory cannot be read the reason is told, and no figure is made up."""
    known = snapshot(models={"models": []}, gpu={"devices": [], "reason": "no driver"})
    made = drawn(known)
    assert [] == made["devices"]
    assert "no driver" == made["env"]["gpu_reason"]


@pytest.mark.parametrize("name", ["<img src=x onerror=alert(1)>", "a\u202eb", "</table><script>"])
def test_static_table_is_safe(name: str) -> None:
    """A name from anywhere is text in the saved table, and nothing hides in it."""
    made = drawn(snapshot(models={"models": [model(name, state="busy")]}))
    kept = models_html(made)
    for part in ("<img", "<script", "\u202e", "</table><"):
        assert part not in kept.replace("</table></div>", "")
    assert "\u202e" not in models_text(made)
    assert "answering" in kept


def test_static_table_of_a_server_that_is_gone() -> None:
    """Without a server the saved panel says why it is empty."""
    known = Snapshot(link=Link("gone", "Cannot reach it."))
    assert "The server does not answer: Cannot reach it." == models_text(drawn(known))
