"""The models panel as its view is told of it: plain JSON values, and what changed in them.

Pure functions.  What wobbles without meaning anything (the second a figure was read, bytes below a
MiB) is left out or rounded, so that a panel on which nothing happens sends next to nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from workbench.palette import model_color, model_dash
from workbench.units import format_seconds, parse_expires_at
from workbench.widgets.feed import EVENTS_KEPT, Snapshot

Picture = dict[str, Any]

_MIB = 2**20
# How far a moment may wander from one poll to the next and still be the same moment, in seconds.
_STEADY_S = 1.5
_LONGEST_TEXT = 300
_GIVEN = {
    "kind": "kind",
    "parameters": "parameter_size",
    "quantization": "quantization",
    "family": "family",
    "max_context": "context_length",
    "load_s": "load_s",
    "in_flight": "in_flight",
    "priority": "priority",
    "pinned": "pinned",
    "hot": "hot",
    "leased": "leased",
    "toy": "toy",
    "remote": "remote",
    "stale": "stale",
    "owner": "owner",
    "evicts": "evicts",
    "route_reason": "route_reason",
}


@dataclass
class Doings:
    """What a panel itself is about, by the model's key `name@backend`.

    Attributes:
        acts: What is being done.
        notes: How the last action ended.
        asks: Plans of swaps that wait for consent.
        said: What was done apart from models.
    """

    acts: dict[str, str] = field(default_factory=dict)
    notes: dict[str, dict[str, Any]] = field(default_factory=dict)
    asks: dict[str, Mapping[str, Any]] = field(default_factory=dict)
    said: dict[str, Any] | None = None


def picture(
    snapshot: Snapshot, doings: Doings, *, can_start: bool, old: Picture | None = None
) -> Picture:
    """Return everything a view draws, but for the time.

    Args:
        can_start: Whether a server could be started when it is gone.
        old: The picture before; moments that moved a little keep their old value.
    """
    parts, link = snapshot.parts, snapshot.link
    return {
        "link": {
            "state": link.state,
            "text": link.text,
            "since": round(link.since, 1),
            "can_start": can_start,
        },
        "backends": _backends(parts),
        "rows": _rows(snapshot, doings),
        "devices": [_device(item) for item in _list(parts.get("gpu"), "devices")],
        "warning": _warning((parts.get("gpu") or {}).get("warning")),
        "queue": _queue(snapshot, (old or {}).get("queue")),
        "settings": list(parts["settings"].get("settings", [])) if "settings" in parts else None,
        "pulls": [_pull(item) for item in snapshot.pulls.values()],
        "events": [_event(item) for item in snapshot.events],
        "said": doings.said,
        "env": {
            "gpu_reason": (parts.get("gpu") or {}).get("reason") or snapshot.reasons.get("gpu"),
            "settings_reason": snapshot.reasons.get("settings"),
        },
    }


def difference(old: Picture, new: Picture) -> dict[str, Any]:
    """Return what turns one picture into another; empty when they are the same.

    Rows that changed are whole, rows that went are null; of the events only new ones are given.
    """
    found: dict[str, Any] = {}
    rows = {key: row for key, row in new["rows"].items() if old["rows"].get(key) != row}
    rows |= {key: None for key in old["rows"] if key not in new["rows"]}
    if rows:
        found["rows"] = rows
    sections = {name for name in new if name not in ("rows", "events") and old[name] != new[name]}
    if sections:
        found["set"] = {name: new[name] for name in sorted(sections)}
    if old["events"] != new["events"]:
        tail = _tail(old["events"], new["events"])
        if tail is None:
            found.setdefault("set", {})["events"] = new["events"]
        else:
            found.update(ev=tail, keep=EVENTS_KEPT)
    return found


def _tail(old: list[Any], new: list[Any]) -> list[Any] | None:
    """Return what was appended, or `None` when the lists are not one continued."""
    for dropped in range(len(old)):
        kept = len(old) - dropped
        if old[dropped:] == new[:kept] and (not dropped or len(new) == EVENTS_KEPT):
            return new[kept:]
    return new if not old else None


def _list(body: Any, name: str) -> list[Any]:
    return list((body or {}).get(name) or ())


def _backends(parts: Mapping[str, Any]) -> list[dict[str, Any]]:
    models = parts.get("models") or {}
    errors = {item.get("backend"): item for item in _list(models, "errors")}
    known = {item.get("name"): item for item in _list(parts.get("info"), "backends")}
    names = [*known, *(name for name in errors if name not in known)]
    # One that was looked for and never found is down without an error of its own.
    used = {row.get("backend") for row in _list(models, "models")}
    errors = {
        **{
            name: facts
            for name, facts in known.items()
            if facts.get("reachable") is False and name not in used
        },
        **errors,
    }
    modes = {item.get("name"): item for item in _list(parts.get("settings"), "settings")}
    rows = []
    for name in names:
        facts, error = known.get(name, {}), errors.get(name)
        mode = modes.get(f"swap.{name}")
        rows.append(
            {
                "name": name,
                "kind": facts.get("kind"),
                "url": facts.get("url"),
                "version": facts.get("version"),
                "reachable": error is None,
                "error": _short((error or {}).get("error")),
                "hint": _short((error or {}).get("hint")),
                "swap": mode
                and {key: mode.get(key) for key in ("value", "choices", "source", "changeable")},
            }
        )
    return rows


def _rows(snapshot: Snapshot, doings: Doings) -> dict[str, dict[str, Any]]:
    parts = snapshot.parts
    running = {_key(item): item for item in _list(parts.get("models/loaded"), "models")}
    rows = {}
    for model in _list(parts.get("models"), "models"):
        key = _key(model)
        rows[key] = _row(key, model, running.pop(key, None), snapshot)
    for key, item in running.items():
        # Its files were deleted while it was loaded.
        rows[key] = {**_row(key, item, item, snapshot), "unlisted": True}
    stuck = {
        _key({**event, "name": event.get("model")}): event
        for event in snapshot.events
        if event.get("event") == "load_stuck"
    }
    for key, row in rows.items():
        if row["state"] == "loading" and key in stuck:
            row["warnings"] = [*row["warnings"], _stuck(stuck[key])]
        row["act"] = doings.acts.get(key)
        row["note"] = doings.notes.get(key)
        row["ask"] = doings.asks.get(key)
    return {key: _without_blanks(row) for key, row in rows.items()}


def _without_blanks(row: Mapping[str, Any]) -> dict[str, Any]:
    """Leave out what a view takes for granted; a zero is a value."""
    return {
        name: value
        for name, value in row.items()
        if value is not None and value is not False and value not in ([], {})
    }


def _stuck(event: Mapping[str, Any]) -> str:
    """Say why a load takes far longer than before, and what is done about it."""
    parts = [f"It has been loading for {format_seconds(event.get('seconds'))}"]
    parts += [f"usual: {format_seconds(event['expected_s'])}"] if event.get("expected_s") else []
    told = [str(event[name]) for name in ("diagnosis", "action") if event.get(name)]
    return _short(f"{', '.join(parts)}. {'; '.join(told)}".strip()) or ""


def _key(item: Mapping[str, Any]) -> str:
    return f"{item.get('name')}@{item.get('backend')}"


def _row(
    key: str, model: Mapping[str, Any], running: Mapping[str, Any] | None, snapshot: Snapshot
) -> dict[str, Any]:
    identity = str(model.get("digest") or model.get("name"))
    loaded = running or {}
    moment, forever = parse_expires_at(_either("expires_at", loaded, model))
    fit = model.get("fit") or {}
    return {
        "key": key,
        "name": model.get("name"),
        "backend": model.get("backend"),
        "color": model_color(identity),
        "pattern": model_dash(identity),
        "state": model.get("state") or "unknown",
        "since": _round(snapshot.since.get(key, ("", None))[1]),
        "size": model.get("size_bytes"),
        "size_loaded": _rounded(_either("rss_bytes", loaded) or loaded.get("size_bytes")),
        "vram": _vram(model, loaded),
        "context": _either("context_length", loaded) or model.get("loaded_context_length"),
        "expires": None if moment is None or forever else round(moment.timestamp()),
        "forever": forever or bool(_either("forever", loaded, model)),
        "unload_s": snapshot.unload_s.get(key),
        "warnings": [_short(text) for text in loaded.get("warnings") or ()],
        "fit": fit
        and {
            "verdict": fit.get("verdict"),
            "needed_bytes": _rounded(fit.get("needed_bytes")),
            "source": fit.get("source"),
            "reason": _short(fit.get("reason")),
        },
        **{name: model.get(given) for name, given in _GIVEN.items()},
        "stale": bool(model.get("stale") or loaded.get("stale")),
    }


def _vram(model: Mapping[str, Any], loaded: Mapping[str, Any]) -> int | None:
    """Return the part on the GPU; a process that is measured by its own memory has none there."""
    found = _either("vram_bytes", loaded, model)
    return 0 if found is None and loaded.get("rss_bytes") is not None else _rounded(found)


def _either(name: str, *rows: Mapping[str, Any]) -> Any:
    return next((row[name] for row in rows if row.get(name) is not None), None)


def _rounded(size: Any) -> int | None:
    """Round bytes so that what the system itself moves about does not show."""
    if not isinstance(size, int | float):
        return None
    return int(size) if size < _MIB else round(size / _MIB) * _MIB


def _round(value: float | None) -> float | None:
    return None if value is None else round(value, 1)


def _device(item: Mapping[str, Any]) -> dict[str, Any]:
    models = [
        {
            **{name: model.get(name) for name in ("name", "backend")},
            "bytes": _rounded(model.get("bytes")) or 0,
        }
        for model in item.get("models") or ()
    ]
    sizes = ("total_bytes", "used_bytes", "free_bytes", "other_bytes")
    figures = ("utilization_pct", "temperature_c", "power_w")
    return {
        **{name: item.get(name) for name in ("id", "name", "kind", "source")},
        **{name: _rounded(item.get(name)) for name in sizes},
        **{name: None if item.get(name) is None else round(item[name]) for name in figures},
        "models": models,
        "reason": _short(item.get("reason")),
    }


def _warning(item: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if item is None:
        return None
    sizes = {name: _rounded(item.get(name)) for name in ("free_bytes", "total_bytes")}
    return {
        "level": item.get("level"),
        "device": item.get("device"),
        **sizes,
        "text": _short(item.get("text")),
    }


def _queue(snapshot: Snapshot, old: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the queue with the moment since when the oldest waits, in place of its age."""
    body = snapshot.parts.get("queue")
    if body is None:
        return None
    before = {_lane(lane): lane.get("since") for lane in _list(old, "lanes")}
    lanes = []
    for lane in _list(body, "lanes"):
        age = lane.get("oldest_s")
        since = None if age is None else _steady(snapshot.asked_at - age, before.get(_lane(lane)))
        names = ("backend", "model", "state", "running", "waiting", "batch", "bound_s")
        lanes.append({**{name: lane.get(name) for name in names}, "since": since})
    order = [
        {name: step.get(name) for name in ("backend", "model", "requests", "swap")}
        for step in _list(body, "order")
    ]
    return {"lanes": lanes, "order": order, "predicted_swaps": body.get("predicted_swaps")}


def _lane(lane: Mapping[str, Any]) -> tuple[Any, ...]:
    return lane.get("backend"), lane.get("model"), lane.get("state")


def _steady(moment: float, before: float | None) -> float:
    near = before is not None and abs(moment - before) < _STEADY_S
    return before if near and before is not None else round(moment, 1)


def _pull(item: Mapping[str, Any]) -> dict[str, Any]:
    names = ("model", "status", "total_bytes", "completed_bytes", "speed_bytes_per_s", "eta_s")
    return {
        **{name: item.get(name) for name in names},
        "error": _short(item.get("error")),
        "hint": _short(item.get("hint")),
        "done": bool(item.get("done")),
    }


def _event(item: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in item.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return _short(value)
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value[:8]]
    return value if isinstance(value, bool | int | float) else _short(str(value))


def _short(text: Any) -> str | None:
    if text is None:
        return None
    shown = str(text)
    return shown if len(shown) <= _LONGEST_TEXT else shown[: _LONGEST_TEXT - 1] + "…"


def summary_rows(rows: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return rows in the order of the panel: by backend and name, toys last."""
    return sorted(
        rows, key=lambda row: (bool(row.get("toy")), str(row["backend"]), str(row["name"]))
    )
