"""Notes of what the code of a step connects to beside our client, for the process that started it.

The notes lie in a file that the environment names, so that the kernel of a notebook step writes
into it as well.
"""

from __future__ import annotations

import os
from pathlib import Path

from workbench.client.outside import watch_connections

VARIABLE = "WORKBENCH_CONNECTIONS"
"""Names the file: a line for each `host:port`."""


def watch() -> None:
    """Note connections of this process from now on; does nothing where no file is named."""
    if name := os.environ.get(VARIABLE):
        watch_connections(_Notes(Path(name)))


class _Notes:
    def __init__(self, path: Path) -> None:
        self._path = path
        self._told: set[str] = set()

    def __call__(self, place: str) -> None:
        """Write at once: code that ends its process by force is told of too."""
        if place not in self._told:
            self._told.add(place)
            with self._path.open("a", encoding="utf-8") as file:
                file.write(f"{place}\n")
