"""Questions that a person has to answer, and the answers, each bound to the question by its hash.

An answer is a file `answers/<step>.json` of the run: `{v, step, yes, who, when, note, sha256}`.
Answers given in advance stand in `answers/in-advance.json`, which no step can be called, and become
such a file when their question comes up.  Nothing but `true` is ever taken for a yes.
The first answer to a question stands; the lock beside the files decides which that is.
"""

from __future__ import annotations

import getpass
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workbench.errors import ConfigError, PlanError, StoreError
from workbench.locks import FileLock
from workbench.messages import nearest_names
from workbench.plans.artifacts import digest, write_json
from workbench.plans.folder import RunFolder
from workbench.plans.journal import read_lines
from workbench.plans.kinds.base import Answer
from workbench.plans.state import state_of
from workbench.units import rfc3339, utc_now

ANSWER_VERSION = 1
_ASKS_AGAIN = "Remove the file, then resume the run: it asks again."
_WORDS = {"yes": True, "no": False, "true": True, "false": False}


@dataclass(frozen=True, slots=True)
class Given:
    """An answer that was given in advance.

    Attributes:
        sha256: Hash of the question it is for; `None` answers whatever the step asks.
    """

    yes: bool
    note: str = ""
    sha256: str | None = None


def question_hash(key: str, ask: str, show: Any) -> str:
    """Return the hash of a question: what is asked, what is shown, and the key of the step."""
    return digest({"key": key, "ask": ask, "show": show})


def user_name() -> str:
    """Return the name of the user this process runs as."""
    try:
        return getpass.getuser()
    except (OSError, KeyError):
        return "unknown"


def find_answer(folder: RunFolder, step: str, sha256: str) -> Answer | None:
    """Return the answer to this very question, if there is one.

    One that was given in advance is stored as the answer now.

    Raises:
        StoreError: When the file of the answer cannot be read.
    """
    stored = _read(folder.answer(step))
    if stored is not None and stored.get("sha256") == sha256:
        return _answer(stored, folder.answer(step))
    given = given_answers(folder).get(step)
    if given is None or given.sha256 not in (None, sha256):
        return None
    about = _read(given_path(folder)) or {}
    return store_answer(
        folder, step, yes=given.yes, note=given.note, sha256=sha256, who=str(about.get("who"))
    )


def store_answer(
    folder: RunFolder, step: str, *, yes: bool, note: str, sha256: str, who: str | None = None
) -> Answer:
    """Write the answer to a question and return the one that stands: there may be one already.

    Raises:
        StoreError: When the file cannot be written, or that of an answer before it not be read.
    """
    path = folder.answer(step)
    with FileLock(path.with_name(".lock")):
        before = _read(path)
        if before is not None and before.get("sha256") == sha256:
            return _answer(before, path)
        stored = {
            "v": ANSWER_VERSION,
            "step": step,
            "yes": yes,
            "who": who or user_name(),
            "when": rfc3339(utc_now()),
            "note": note,
            "sha256": sha256,
        }
        write_json(path, stored)
        return _answer(stored, path)


def _answered(folder: RunFolder, step: str, given: Answer) -> PlanError:
    said = f"{'yes' if given.yes else 'no'}, said {given.who} at {given.when}"
    note = f" ({given.note})" if given.note else ""
    return PlanError(
        f"Step {step!r} of run {folder.run_id} was answered already: {said}{note}.",
        hint="The first answer stands. To decide otherwise, start a new run.",
    )


def answer_question(
    folder: RunFolder,
    step: str,
    *,
    yes: bool,
    note: str = "",
    who: str | None = None,
    sha256: str | None = None,
) -> Answer:
    """Answer what a step of a run asks now; the same answer again changes nothing.

    Args:
        sha256: Hash of the question that was read; `None` means the one that is asked now.

    Raises:
        PlanError: When it asks nothing, by now something else, or was answered otherwise.
    """
    lines, _ = read_lines(folder.journal)
    state = state_of(lines, alive=True)
    waiting = [name for name, found in state.steps.items() if found.status == "waiting"]
    if step not in waiting:
        given = state.steps[step].answer if step in state.steps else None
        if given is not None:
            said = (given.get(name) for name in ("who", "when", "note"))
            who_, when, why = (str(value or "") for value in said)
            raise _answered(folder, step, Answer(given.get("yes") is True, who_, when, why))
        hint = f"These wait: {', '.join(waiting)}." if waiting else "No step of this run waits."
        raise PlanError(f"Step {step!r} of run {folder.run_id} asks nothing now.", hint=hint)
    question = state.steps[step].question or {}
    asked = str(question["sha256"])
    if sha256 is not None and sha256 != asked:
        raise PlanError(
            f"Step {step!r} asks something else by now than what was answered.",
            hint="Read the question again.",
        )
    stands = store_answer(folder, step, yes=yes, note=note, sha256=asked, who=who)
    if stands.yes is not yes:
        raise _answered(folder, step, stands)
    return stands


def given_path(folder: RunFolder) -> Path:
    """Return the file of the answers that were given in advance."""
    return folder.path / "answers" / "in-advance.json"


def give_answers(folder: RunFolder, answers: Mapping[str, Given]) -> None:
    """Store answers that were given in advance; those to other steps stay."""
    kept = {**given_answers(folder), **answers}
    steps = {
        name: {"yes": found.yes, "note": found.note, "sha256": found.sha256}
        for name, found in kept.items()
    }
    about = {"v": ANSWER_VERSION, "who": user_name(), "when": rfc3339(utc_now())}
    write_json(given_path(folder), {**about, "steps": steps})


def given_answers(folder: RunFolder) -> dict[str, Given]:
    """Return the answers that were given in advance, by step.

    Raises:
        StoreError: When their file cannot be read.
    """
    path = given_path(folder)
    stored = _read(path)
    if stored is None:
        return {}
    steps = stored.get("steps")
    if not isinstance(steps, dict):
        raise _unreadable(path, "steps")
    found = {}
    for name, facts in steps.items():
        _check(facts, {"yes": bool, "note": str, "sha256": str | None}, path, name)
        found[name] = Given(facts["yes"], facts["note"], facts["sha256"])
    return found


def read_answers(path: Path, steps: list[str]) -> dict[str, Given]:
    """Read an answer file: YAML or JSON, step to yes or no, or to `{answer, note, sha256}`.

    Args:
        steps: Ids of the plan's steps.

    Raises:
        ConfigError: When it cannot be read, names a step that there is not, or says neither.
    """
    import yaml

    try:
        found = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as exc:
        raise ConfigError(
            f"The answer file {path} cannot be read: {exc.strerror}.", key="answers"
        ) from exc
    except (yaml.YAMLError, UnicodeDecodeError) as exc:
        raise ConfigError(f"The answer file {path} is no YAML: {exc}.", key="answers") from exc
    if found is None:
        return {}
    if not isinstance(found, dict):
        raise ConfigError(
            f"The answer file {path} maps no step to an answer.",
            key="answers",
            hint="Write a line like `ok: yes` for each step.",
        )
    return answers_of(found, steps, where=f"{path}: ")


def answers_of(
    answers: Mapping[Any, Any], steps: list[str], *, where: str = ""
) -> dict[str, Given]:
    """Return answers as they are written: yes or no, or `{answer, note, sha256}`, by step.

    Args:
        steps: Ids of the plan's steps.
        where: Put before what is said about a mistake.

    Raises:
        ConfigError: When one names a step that there is not, or says neither.
    """
    return {str(name): _given(where, str(name), value, steps) for name, value in answers.items()}


def _given(where: str, step: str, value: Any, steps: list[str]) -> Given:
    if step not in steps:
        near = nearest_names(step, steps, count=1)
        hint = f"Did you mean {near[0]!r}?" if near else f"Steps: {', '.join(steps)}."
        raise ConfigError(f"{where}there is no step {step!r}.", key=step, hint=hint)
    fields = value if isinstance(value, dict) else {"answer": value}
    yes = fields.get("answer")
    yes = _WORDS.get(yes.lower()) if isinstance(yes, str) else yes
    unknown = set(fields) - {"answer", "note", "sha256"}
    if not isinstance(yes, bool) or unknown:
        raise ConfigError(
            f"{where}the answer to {step!r} is neither yes nor no.",
            key=step,
            hint="Write `yes`, `no`, or `{answer: yes, note: why}`.",
        )
    sha256 = fields.get("sha256")
    if not isinstance(sha256, str | None):
        raise ConfigError(
            f"{where}the sha256 of the answer to {step!r} is no text.",
            key=step,
            hint="Put it in quotes.",
        )
    return Given(yes, str(fields.get("note") or ""), sha256)


def _answer(stored: Mapping[str, Any], path: Path) -> Answer:
    _check(stored, {"yes": bool, "who": str, "when": str, "note": str}, path)
    return Answer(stored["yes"], stored["who"], stored["when"], stored["note"])


def _check(stored: Any, fields: Mapping[str, Any], path: Path, where: str = "") -> None:
    """Refuse what was not written here: a text in place of a truth value would be a yes."""
    if not isinstance(stored, Mapping):
        raise _unreadable(path, where)
    for name, kind in fields.items():
        if not isinstance(stored.get(name), kind):
            raise _unreadable(path, f"{where}.{name}" if where else name)


def _unreadable(path: Path, field: str) -> StoreError:
    return StoreError(
        f"The answer {path} cannot be read: {field} is not as it is written here.",
        hint=_ASKS_AGAIN,
    )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as exc:
        raise StoreError(f"The answer {path} cannot be read: {exc}.", hint=_ASKS_AGAIN) from exc
    return found if isinstance(found, dict) else None
