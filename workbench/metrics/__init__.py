"""Metrics in files: written by many processes, read through DuckDB, with no server.

`workbench.metrics.open(path)` reads a store.  Importing this package loads no DuckDB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from workbench.metrics.reader import Metrics, open  # noqa: A004

__all__ = ["Metrics", "open"]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from workbench.metrics import reader

    return getattr(reader, name)
