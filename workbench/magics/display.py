"""Where results of the magics are shown: live in a panel, else once, static and sanitised."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import IPython.display

from workbench.widgets.headless import in_kernel, is_headless

_display: Any = IPython.display.display
_WIDGET = "application/vnd.jupyter.widget-view+json"


@contextlib.contextmanager
def shown(result: Any) -> Iterator[None]:
    """Show a result around the work on it.

    Where a person looks and the result has a panel, that is shown before, and follows the work.
    Else the result is shown once, when the work has ended, also when it failed.
    """
    if in_kernel() and not is_headless():
        bundle = result._repr_mimebundle_()
        data, metadata = bundle if isinstance(bundle, tuple) else (bundle, {})
        if _WIDGET in data:
            _display(data, metadata=metadata, raw=True)
            yield
            return
    try:
        yield
    finally:
        _display(result)
