"""Patterns of a plan are searched in a process of their own, with a limit of time.

Python's `re` cannot be interrupted, and a pattern with nested repeats can take for ever on a short
text: in the run's own process it would hold up every other step.
"""

from __future__ import annotations

import json
import math
import re
import subprocess
import sys

from workbench.errors import PlanError

LIMIT_S = 10.0
"""How long one search may take, in seconds."""

# The process ends by itself too, should the run be killed meanwhile.
_PROGRAM = (
    "import json, re, sys\n"
    "try:\n"
    "    import resource\n"
    "    resource.setrlimit(resource.RLIMIT_CPU, (int(sys.argv[1]),) * 2)\n"
    "except (ImportError, ValueError, OSError):\n"
    "    pass\n"
    "pattern, text = json.load(sys.stdin)\n"
    "print(re.search(pattern, text) is not None)\n"
)
_SHOWN = 200


def problem_of(pattern: str) -> str | None:
    """Return why a text is no pattern of Python's `re`, or `None`."""
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as exc:
        return str(exc)
    return None


def search(pattern: str, text: str, *, limit_s: float = LIMIT_S) -> bool:
    """Return whether a pattern of Python's `re` is found somewhere in a text.

    Blocks for the length of the search, and a few hundredths of a second for the process.

    Raises:
        PlanError: When it is no pattern, or was not decided within `limit_s` seconds.
    """
    why = problem_of(pattern)
    if why is not None:
        raise PlanError(f"{pattern[:_SHOWN]!r} is no pattern: {why}.")
    command = [sys.executable, "-I", "-S", "-c", _PROGRAM, str(math.ceil(limit_s) + 1)]
    given = json.dumps([pattern, text]).encode()
    try:
        done = subprocess.run(command, input=given, capture_output=True, timeout=limit_s)
    except subprocess.TimeoutExpired as exc:
        raise PlanError(
            f"{pattern[:_SHOWN]!r} was not decided on a text of {len(text):,} characters in "
            f"{limit_s:g} s.",
            hint="Repeats inside of repeats, as in (a+)+, can take for ever: write it without.",
        ) from exc
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip().splitlines() or ["no reason was given"]
        raise PlanError(f"{pattern[:_SHOWN]!r} could not be searched: {said[-1]}")
    return done.stdout.strip() == b"True"
