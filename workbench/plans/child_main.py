"""The program of a child process: `python -P -m workbench.plans.child_main FOLDER DESCRIPTOR`.

It reads `job.json` in the folder, does what it says and writes `result.json`; see `plans.child`.
"""

from __future__ import annotations

import faulthandler
import json
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from workbench.errors import WorkbenchError
from workbench.plans import child_tasks, watching
from workbench.plans.lean import skip_iri_grammar
from workbench.plans.offspring import adopt_orphans, end_descendants

# How long threads and exit handlers of the code may take after its result is written, in seconds.
_AFTER_S = 10.0
_HOUSE = f"{Path(__file__).parents[1]}{os.sep}"


def main(folder: Path, descriptor: int) -> int:
    """Do the job in a folder; returns the exit status."""
    adopt_orphans()
    skip_iri_grammar()
    os.set_inheritable(descriptor, False)
    threading.Thread(target=_end_with_parent, args=(descriptor,), daemon=True).start()
    os.environ[watching.VARIABLE] = str(folder / "network")
    watching.watch()
    # Asked by a signal when the time is over: where the code is then.
    where = (folder / "where").open("w")
    faulthandler.register(signal.SIGUSR1, where, all_threads=False)
    job = json.loads((folder / "job.json").read_text("utf-8"))
    try:
        said: dict[str, Any] = {"outputs": child_tasks.carry_out(job, folder)}
    # Also SystemExit and KeyboardInterrupt: the code of the user may raise anything.
    except BaseException as exc:
        said = {"error": _told(exc, job)}
    for stream in (sys.stdout, sys.stderr):
        _flush(stream.flush)
    partial = folder / "result.json.tmp"
    partial.write_text(json.dumps(said, ensure_ascii=False), "utf-8", "backslashreplace")
    os.replace(partial, folder / "result.json")
    end_descendants()
    timer = threading.Timer(_AFTER_S, os._exit, args=(0,))
    timer.daemon = True
    timer.start()
    return 1 if "error" in said else 0


def _flush(flush: Callable[[], None]) -> None:
    try:
        flush()
    except (OSError, ValueError):
        # The code closed it.
        return


def _end_with_parent(descriptor: int) -> None:
    """Wait until nobody holds the other end, then end this process and all it started."""
    while os.read(descriptor, 1):
        pass
    end_descendants()
    os._exit(1)


def _told(error: BaseException, job: Mapping[str, Any]) -> dict[str, Any]:
    """Return an error as JSON, with the part of its traceback that is the user's."""
    known = isinstance(error, WorkbenchError)
    message = error.message if isinstance(error, WorkbenchError) else str(error)
    if isinstance(error, SystemExit):
        message = f"the code ended its process by sys.exit({error.code!r})"
    name = type(error).__name__
    shown = message if isinstance(error, SystemExit) else f"{name}: {message}".rstrip(": ")
    if known and type(error).__module__ == "workbench.errors" and name == "PlanError":
        shown = message
    trace = _traceback(error, Path(job["plan_dir"]))
    return {
        "type": name,
        "message": message,
        "text": f"{shown}\n{trace}" if trace else shown,
        "hint": error.hint if isinstance(error, WorkbenchError) else None,
        "fields": json.loads(json.dumps(dict(error.fields), default=str))
        if isinstance(error, WorkbenchError)
        else {},
    }


def _traceback(error: BaseException, plan_dir: Path) -> str:
    """Return the frames below ours, files of the plan by their relative names."""
    found = traceback.TracebackException.from_exception(error, limit=None)
    parts = []
    link: traceback.TracebackException | None = found
    while link is not None:
        frames = [frame for frame in link.stack if not _is_ours(frame.filename)]
        link.stack = traceback.StackSummary.from_list(frames)
        lines = link.stack.format()
        if link is found and not lines and isinstance(error, WorkbenchError):
            # Ours, and it says all there is to say.
            return ""
        if lines:
            head = "" if link is found else f"caused by {link.exc_type.__name__}: {link}\n"
            parts.append(head + "".join(lines).rstrip("\n"))
        link = link.__cause__ or (None if link.__suppress_context__ else link.__context__)
    text = "\n".join(parts)
    return text.replace(f'"{plan_dir}{os.sep}', '"')


def _is_ours(file: str) -> bool:
    return file.startswith((_HOUSE, "<frozen "))


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), int(sys.argv[2])))
