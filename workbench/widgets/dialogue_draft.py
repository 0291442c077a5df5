"""A dialogue that is being set up in the panel: plain JSON values until it is begun."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from workbench.chat.dialogue import Dialogue
from workbench.client.api import WorkbenchClient
from workbench.errors import ConfigError

Draft = dict[str, Any]

MOST = 6
"""So many may take part in a dialogue that is set up in the panel."""

NAMES = ("Ada", "Ben", "Cleo", "Dan", "Eve", "Finn")
OPENING = "What is the capital of France?"

_TOY_OPTIONS = {"num_predict": 60}
_STOPS = ("phrase", "tokens", "seconds", "judge")
_FIELDS = ("opening", "order", "turns", "human", "seed", "moderator", "judge", "stop")


def new_draft(models: Sequence[Mapping[str, Any]]) -> Draft:
    """Return a dialogue of two that can be begun as it is, on the bundled models where they are.

    Args:
        models: Rows of `snapshot.model_rows`.
    """
    toys = sorted((row for row in models if row["toy"]), key=lambda row: row["size_bytes"] or 0)
    rows = [*reversed(toys), *(row for row in models if not row["toy"])] or [{}]
    two = [rows[0], rows[1] if len(rows) > 1 else rows[0]]
    return {
        "participants": [participant(place, row) for place, row in enumerate(two)],
        "opening": OPENING,
        "order": "round_robin",
        "turns": 6,
        "human": "interject",
        "seed": None,
        "moderator": None,
        "judge": None,
        "stop": {},
    }


def participant(place: int, row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a participant on a model, with a name nobody has."""
    options = dict(_TOY_OPTIONS) if row.get("toy") else {}
    return {"name": NAMES[place % len(NAMES)], "model": row.get("name", ""), "options": options}


def changed(draft: Draft, changes: Mapping[str, Any]) -> Draft:
    """Return the draft with what a person changed.

    Raises:
        ConfigError: When a field is unknown.
    """
    unknown = [key for key in changes if key not in (*_FIELDS, "participants")]
    if unknown:
        raise ConfigError(f"a dialogue has no {unknown[0]!r}.", key=unknown[0])
    new = {**draft, **changes}
    new["participants"] = [dict(item) for item in new["participants"]][:MOST]
    new["stop"] = {
        name: value for name, value in new["stop"].items() if name in _STOPS and value is not None
    }
    return new


def draft_of(dialogue: Dialogue) -> Draft:
    """Return the setup of a dialogue as a draft of another one."""
    wire = dialogue.setup.to_wire()
    rules = {rule["rule"]: rule for rule in wire["stop"]}
    found = {
        name: next((value for key, value in rules[name].items() if key != "rule"), None)
        for name in _STOPS
        if name in rules
    }
    moderator, judge = wire["moderator"] or {}, wire["judge"] or {}
    return {
        "participants": wire["participants"],
        "opening": wire["opening"],
        "order": wire["order"] if not wire["order"].startswith("callable") else "round_robin",
        "turns": wire["turns"],
        "human": wire["human"],
        "seed": None,
        "moderator": moderator.get("model"),
        "judge": judge.get("model"),
        "stop": found,
    }


def make(client: WorkbenchClient, draft: Draft, data_dir: Path | None) -> Dialogue:
    """Return the dialogue of a draft; nothing is sent, and no file is made before its first turn.

    Raises:
        ConfigError: When something is not as it must be.
    """
    if not str(draft["opening"]).strip():
        raise ConfigError(
            "the dialogue has no opening.", key="opening", hint="Say what it is about."
        )
    people = [_cleaned(item) for item in draft["participants"]]
    judged = "judge" in draft["stop"]
    return Dialogue(
        client,
        people,
        opening=str(draft["opening"]),
        order=draft["order"],
        turns=draft["turns"],
        stop=draft["stop"],
        human=draft["human"],
        seed=draft["seed"],
        moderator=draft["moderator"] if draft["order"] == "moderated" else None,
        judge=draft["judge"] if judged else None,
        data_dir=data_dir,
    )


def _cleaned(item: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in item.items() if value not in (None, "", {})}
