"""Whether anybody can look at a widget: in papermill, nbclient and nbval nobody can."""

from __future__ import annotations

import os
import sys
from importlib.metadata import version
from typing import Any

_BOOLS = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


def is_headless() -> bool:
    """Return whether this code runs without a person in front of it.

    `WORKBENCH_HEADLESS` decides when it is set.  Else it is what the execute request says:
    papermill, nbclient and nbval send `allow_stdin: false`, Lab and VS Code `true`.  Outside of a
    kernel nobody can see a widget.
    """
    asked = _BOOLS.get(os.environ.get("WORKBENCH_HEADLESS", "").lower())
    if asked is not None:
        return asked
    kernel = _kernel()
    if kernel is None:
        return True
    return not bool(getattr(kernel, "_allow_stdin", False))


def _kernel() -> Any:
    try:
        from IPython import get_ipython
    except ImportError:
        return None
    shell = get_ipython()
    return getattr(shell, "kernel", None)


def in_kernel() -> bool:
    """Return whether this code runs in a Jupyter kernel."""
    return "IPython" in sys.modules and _kernel() is not None


def is_unattended() -> bool:
    """Return whether a question to a person would never be answered.

    A plain script is not: its own code may answer.
    """
    return is_headless() and (in_kernel() or "WORKBENCH_HEADLESS" in os.environ)


def kernel_version() -> str | None:
    """Return the version of ipykernel this code runs in, or `None`."""
    if _kernel() is None:
        return None
    return version("ipykernel")


def stop_works_while_busy() -> bool:
    """Return whether a Stop click is heard while a cell runs: from ipykernel 7.0 on."""
    found = kernel_version()
    return found is not None and int(found.partition(".")[0]) >= 7


def hear_control_channel() -> None:
    """Let ipykernel 6, which has no subshells, take a widget's messages on the control channel.

    Only our Lab extension can send there.  The attributes are the kernel's own, hence the guards
    and the test with a real ipykernel 6.
    """
    kernel = _kernel()
    handlers = getattr(kernel, "control_handlers", None)
    comms = getattr(kernel, "comm_manager", None)
    if not stop_works_while_busy() and handlers is not None and comms is not None:
        handlers.setdefault("comm_msg", comms.comm_msg)
