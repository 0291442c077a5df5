"""The record of a run, `record.json`: what it was made of, what it did, and what it gave.

It is written when the run has ended, and again when it was resumed.  `record_fields.FIELDS` tells
what every field means.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypedDict

import msgspec

from workbench.client.tape_file import Entry, read_tape
from workbench.errors import PlanInvalid, SchemaTooNew, StoreError, WorkbenchError
from workbench.plans.artifacts import (
    TAPE_FILE,
    StepFile,
    digest,
    file_digest,
    read_step,
    write_json,
)
from workbench.plans.attempts import Attempt, Attempts, iso, one_model, seconds_between
from workbench.plans.folder import RunFolder
from workbench.plans.info import RunInfo, read_info, read_plan
from workbench.plans.journal import read_lines
from workbench.plans.spec import Step
from workbench.plans.state import FINISHED, RunState, StepState, state_of
from workbench.units import rfc3339, utc_now

RECORD_VERSION = 1

_GAVE = FINISHED - {"skipped"}
_TOKENS = ("input_tokens", "output_tokens")


def write_record(folder: RunFolder) -> dict[str, Any]:
    """Write the record of a run as it is now, and return it.

    Raises:
        StoreError: When the run cannot be read, or the record not be written.
    """
    record = build_record(folder)
    write_json(folder.record, record)
    return record


def read_record(folder: RunFolder) -> dict[str, Any]:
    """Return the record of a run, one made now when the run has written none.

    Raises:
        StoreError: When it cannot be read.
        SchemaTooNew: When a newer version of the workbench wrote it.
    """
    return written_record(folder) or build_record(folder)


def written_record(folder: RunFolder) -> dict[str, Any] | None:
    """Return the record a run has written; `None` when it has written none.

    Raises:
        StoreError: When it cannot be read.
        SchemaTooNew: When a newer version of the workbench wrote it.
    """
    found: Any
    try:
        found = json.loads(folder.record.read_text(encoding="utf-8"))
        if isinstance(found, dict) and found.get("v", 0) > RECORD_VERSION:
            raise SchemaTooNew(str(folder.record), found=found["v"], supported=RECORD_VERSION)
        msgspec.convert(found, _Record)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as exc:
        raise StoreError(
            f"{folder.record} cannot be read: {exc}.",
            hint="Remove the file: the record is then made from what else the run has.",
        ) from exc
    record: dict[str, Any] = found
    return record


class _Record(TypedDict):
    """What every record has."""

    run_id: str
    plan_hash: str
    status: str
    steps: dict[str, dict[str, Any]]
    approvals: list[dict[str, Any]]
    content_hash: str
    notebook_hash: str | None
    replayable: bool
    not_replayable: list[str]


def build_record(folder: RunFolder) -> dict[str, Any]:
    """Return the record of a run as it is now."""
    info = read_info(folder)
    lines, _ = read_lines(folder.journal)
    steps = _steps_of(folder, info, lines)
    state = state_of(lines, steps=[step.id for step in steps], alive=folder.alive)
    attempts = Attempts()
    attempts.take(lines)
    told = {step.id: _step(folder, step, state.step(step.id), attempts) for step in steps}
    return {
        "v": RECORD_VERSION,
        **_what(info),
        **_ending(state, lines),
        "seed": info.params.get("seed"),
        "models": {name: dict(facts) for name, facts in info.models.items()},
        "identity": {name: value for name, value in info.identity.items() if name != "unknown"},
        "steps": told,
        "approvals": [
            {"step": name, **row["approval"]} for name, row in told.items() if row["approval"]
        ],
        "tokens": _total(row["tokens"] for row in told.values()),
        "requests": sum(len(row["requests"]) for row in told.values()),
        "content_hash": content_hash(told),
        "notebook_hash": notebook_hash(folder.notebook),
        **_replayable(info, state, told),
        "unknown": {**info.identity.get("unknown", {}), **_unknown(info, folder, told)},
        "written": rfc3339(utc_now()),
    }


def content_hash(steps: Mapping[str, Mapping[str, Any]]) -> str:
    """Return the hash of what steps gave: the hashes of their outputs, and what was decided."""
    outputs = {
        step: {name: facts["sha256"] for name, facts in row["outputs"].items()}
        for step, row in steps.items()
        if row["status"] in _GAVE
    }
    decisions = {step: row["decision"] for step, row in steps.items() if row["decision"]}
    return digest({"outputs": outputs, "decisions": decisions})


def notebook_hash(path: Path) -> str | None:
    """Return the hash of a notebook: the type, source and outputs of its cells, not their times."""
    try:
        notebook = json.loads(path.read_text(encoding="utf-8"))
        cells = [
            [cell["cell_type"], _text(cell["source"]), [*map(_output, cell.get("outputs", ()))]]
            for cell in notebook["cells"]
        ]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return digest(cells)


def _text(source: Any) -> str:
    return "".join(source) if isinstance(source, list) else str(source)


def _output(output: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in output.items() if name != "execution_count"}


def _steps_of(folder: RunFolder, info: RunInfo, lines: Iterable[Mapping[str, Any]]) -> list[Step]:
    """Return the steps of a run's plan; of a plan with kinds unknown here, those that began."""
    if info.kind != "plan":
        return []
    try:
        return list(read_plan(folder, info).steps)
    except (PlanInvalid, StoreError):
        began = state_of(lines, alive=True).steps
        return [Step(name, "unknown") for name in began]


def _what(info: RunInfo) -> dict[str, Any]:
    return {
        "run_id": info.run_id,
        "run_key": info.run_key,
        "plan": info.plan,
        "plan_hash": info.plan_hash,
        "kind": info.kind,
        "name": info.name,
        "mode": info.mode,
        "replay_of": info.replay_of,
        "parent_run_id": info.parent_run_id,
        "params": dict(info.params),
        "cache": info.cache,
        "who": info.who,
        "created": info.created,
    }


def _ending(state: RunState, lines: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    executions: list[dict[str, Any]] = []
    for line in lines:
        if line["event"] == "run_started":
            executions.append({"started": line["ts"], "ended": None, "status": "lost"})
        elif line["event"] == "run_finished" and executions:
            executions[-1] |= {"ended": line["ts"], "status": line["status"]}
    began, ended = state.started, state.ended
    seconds = seconds_between(began, ended)
    return {
        "status": state.status,
        "error": None if state.error is None else dict(state.error),
        "started": iso(began),
        "ended": iso(ended),
        "seconds": seconds,
        "executions": executions,
    }


def _step(folder: RunFolder, step: Step, state: StepState, attempts: Attempts) -> dict[str, Any]:
    made = attempts.of(step.id)
    committed = list(_committed(folder, step.id))
    own = next((file for file, _ in committed if file.item is None), None)
    tapes = [row for file, place in committed if (row := _tape(file, place)) is not None]
    entries = [(row["item"], entry) for row in tapes for entry in row.pop("_entries")]
    # What came from the cache asked nothing this time.
    reused = {file.item for file, _ in committed if file.from_run is not None}
    requests = _requests(state, [pair for pair in entries if pair[0] not in reused])
    return {
        "kind": step.kind,
        "title": step.title,
        "status": state.status,
        "key": own.key if own else state.key,
        "model": one_model(made),
        "started": iso(made[0].started) if made else None,
        "ended": iso(made[-1].ended) if made else None,
        "seconds": _seconds(made),
        "attempts": [attempt.to_json() for attempt in made],
        "items": _items(state, committed) if step.foreach else None,
        "outputs": {name: dict(facts) for name, facts in state.outputs.items()},
        "summary": state.summary,
        "reason": state.reason or None,
        "error": dict(state.error) if state.error and state.status == "failed" else None,
        "from_run": own.from_run if own else None,
        "requests": requests,
        "tokens": _total(requests),
        "options_sent": _options(entry for _, entry in entries),
        "decision": _decision(own),
        "approval": _approval(state),
        "tapes": tapes,
        "replayable": all(file.replayable for file, _ in committed),
    }


def _committed(folder: RunFolder, step: str) -> Iterator[tuple[StepFile, Path]]:
    """Yield the committed step and items, with their folders; what cannot be read is left out."""
    numbers = [p.name for p in (folder.place(step) / "items").glob("*") if p.name.isdigit()]
    for item in (None, *sorted(map(int, numbers))):
        place = folder.committed(step, item)
        try:
            found = read_step(place)
        except StoreError:
            continue
        if found is not None:
            yield found, place


def _tape(step: StepFile, place: Path) -> dict[str, Any] | None:
    path = place / TAPE_FILE
    if not path.is_file():
        return None
    try:
        entries = list(read_tape(path).all())
    except WorkbenchError:
        entries = []
    row = {"item": step.item, "sha256": file_digest(path), "requests": len(entries)}
    return {**row, "_entries": entries}


def _options(entries: Iterable[Entry]) -> list[dict[str, Any]]:
    """Return what was sent besides the messages, once for each form of it."""
    found: dict[str, dict[str, Any]] = {}
    for entry in entries:
        body = entry.request["body"]
        if "model" not in body:
            continue
        sent = {
            "path": entry.request["path"],
            "model": body["model"],
            "options": body.get("options", {}),
            "think": body.get("think"),
            "format_sha256": digest(body["format"]) if body.get("format") else None,
        }
        row = found.setdefault(digest(sent), {**sent, "requests": 0})
        row["requests"] += 1
    return list(found.values())


def _requests(
    state: StepState, entries: Sequence[tuple[int | None, Entry]]
) -> list[dict[str, Any]]:
    """Return the requests the journal tells, and those of child processes, which the tapes hold."""
    named = ("request_id", "item", "attempt", "model", "digest", "input_tokens", "output_tokens")
    rows = [
        {name: line.get(name) for name in (*named, "seconds", "stop_reason")}
        for line in state.requests
    ]
    known = {row["request_id"] for row in rows}
    digests = {row["model"]: row["digest"] for row in rows}
    for item, entry in entries:
        if entry.batches is None and entry.request["path"] != "/api/embed":
            continue
        row = _taped(entry)
        if not row["request_id"] or row["request_id"] not in known:
            rows.append({**row, "item": item, "digest": digests.get(row["model"])})
    return rows


def _taped(entry: Entry) -> dict[str, Any]:
    row: dict[str, Any] = dict.fromkeys(
        ("request_id", "item", "attempt", "digest", "input_tokens", "output_tokens", "stop_reason")
    )
    row |= {"model": entry.request["body"].get("model"), "seconds": entry.seconds}
    for event in (event for batch in entry.batches or () for event in batch):
        if event[0] == "opened":
            row |= {"model": event[1], "request_id": event[2] or None}
        elif event[0] == "finished":
            row |= {"stop_reason": event[1], **{n: event[2][n] for n in _TOKENS}}
    return row


def _total(rows: Iterable[Mapping[str, Any]]) -> dict[str, int]:
    total = dict.fromkeys(_TOKENS, 0)
    for row in rows:
        for name in total:
            total[name] += row.get(name) or 0
    return total


def _seconds(attempts: Sequence[Attempt]) -> float | None:
    """Return the seconds worked: of the step itself where it has items, else of all attempts."""
    whole = [a.seconds for a in attempts if a.total is not None]
    own = whole or [a.seconds for a in attempts if a.item is None]
    known = [seconds for seconds in own if seconds is not None]
    return round(sum(known), 6) if known else None


def _items(state: StepState, committed: Sequence[tuple[StepFile, Path]]) -> dict[str, Any]:
    done = sum(1 for file, _ in committed if file.item is not None)
    return {"total": state.total, "committed": done, "errors": state.errors}


def _decision(step: StepFile | None) -> dict[str, Any] | None:
    if step is None or not (step.skipped or step.stop):
        return None
    return {"skipped": dict(sorted(step.skipped.items())), "stop": step.stop}


def _approval(state: StepState) -> dict[str, Any] | None:
    if state.answer is None:
        return None
    named = ("yes", "who", "when", "note", "sha256")
    asked = (state.question or {}).get("ask")
    return {"ask": asked, **{name: state.answer.get(name) for name in named}}


def _replayable(
    info: RunInfo, state: RunState, steps: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
    reasons = list(dict.fromkeys(state.not_replayable))
    if info.kind != "plan":
        reasons.append("only the runs of plans are taped")
    for name, row in steps.items():
        if not row["replayable"]:
            reasons.append(f"step {name} did what no tape holds")
        elif row["status"] in _GAVE and row["requests"] and not row["tapes"]:
            reasons.append(f"step {name} asked models and has no tape")
    return {"replayable": not reasons, "not_replayable": reasons}


def _unknown(
    info: RunInfo, folder: RunFolder, steps: Mapping[str, Mapping[str, Any]]
) -> dict[str, str]:
    unknown = {}
    if info.run_key is None:
        unknown["run_key"] = "what the run depends on was not looked at when it began"
    if "seed" not in info.params:
        unknown["seed"] = "the plan has no parameter of that name"
    if not folder.notebook.is_file():
        unknown["notebook_hash"] = "there is no notebook"
    for name, row in steps.items():
        if row["requests"] and not row["tapes"]:
            unknown[f"steps.{name}.options_sent"] = "there is no tape"
    return unknown
