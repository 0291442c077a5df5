"""How long rows are kept: `90` for every table, `gpu_samples=30` for one."""

from __future__ import annotations

from collections.abc import Iterable

from workbench.errors import ConfigError
from workbench.messages import nearest_names
from workbench.metrics.schema import TABLES

KEY = "metrics.retention_days"


def parse_retention(entries: Iterable[str]) -> dict[str, int]:
    """Return table to days; `*` stands for the tables that are not named.

    Raises:
        ConfigError: When a table or a number is none.
    """
    days: dict[str, int] = {}
    for entry in entries:
        table, equals, number = entry.rpartition("=")
        table = table.strip() if equals else "*"
        if table != "*" and table not in TABLES:
            near = nearest_names(table, list(TABLES), count=1)
            hint = f"Did you mean {near[0]!r}?" if near else None
            raise ConfigError(f"there is no table {table!r}.", key=KEY, hint=hint)
        if not number.strip().isdecimal():
            text = f"write '90' or 'gpu_samples=30', not {entry!r}."
            raise ConfigError(text, key=KEY)
        days[table] = int(number)
    return days
