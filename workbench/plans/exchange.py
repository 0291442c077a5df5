"""Values that go to a child process and come back, as files: JSON, Parquet, secrets by name.

A value lies in a folder as an *entry*: `{"json": file}`, `{"frame": file}`, `{"list": [entry]}` or
`{"secret": NAME}`, which is read from the environment where it is used and stored nowhere.
"""

from __future__ import annotations

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from workbench.errors import PlanError
from workbench.plans.references import is_frame

Entry = Mapping[str, Any]


def put(folder: Path, name: str, value: Any) -> Entry:
    """Write a value into a folder and return its entry.

    Raises:
        PlanError: When it is neither a JSON value nor a frame that Parquet can hold.
    """
    if is_frame(value):
        from workbench.metrics.parquet import write_parquet

        file = f"{name}.parquet"
        write_parquet(value, folder / file)
        return {"frame": file}
    if isinstance(value, list | tuple) and any(map(is_frame, value)):
        return {"list": [put(folder, f"{name}.{i}", item) for i, item in enumerate(value)]}
    file = f"{name}.json"
    text = json.dumps(json_value(value, name), ensure_ascii=False, allow_nan=False)
    (folder / file).write_text(text, encoding="utf-8", errors="surrogatepass")
    return {"json": file}


def get(folder: Path, entry: Entry) -> Any:
    """Read the value of an entry.

    Raises:
        PlanError: When it is a secret that the environment does not hold.
    """
    if "list" in entry:
        return [get(folder, item) for item in entry["list"]]
    if "secret" in entry:
        name = entry["secret"]
        if name not in os.environ:
            raise PlanError(
                f"The secret {name} is not in the environment.",
                hint=f"Set {name} where the run is started.",
            )
        return os.environ[name]
    if "frame" in entry:
        from workbench.metrics.parquet import read_parquet

        return read_parquet(folder / entry["frame"])
    text = (folder / entry["json"]).read_text(encoding="utf-8", errors="surrogatepass")
    return json.loads(text)


def json_value(value: Any, where: str) -> Any:
    """Return a value as JSON holds it, or refuse what JSON would change silently.

    Scalars and arrays of numpy become numbers and lists, tuples become lists.

    Args:
        where: How messages name the value.

    Raises:
        PlanError: With the place of what is no JSON value.
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return value
        raise PlanError(f"{where} is {value}, which JSON does not have.", hint="Use None.")
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise PlanError(
                    f"{where} has the key {key!r}, and keys in JSON are texts.",
                    hint="Use str(key).",
                )
        return {key: json_value(item, f"{where}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item, f"{where}[{number}]") for number, item in enumerate(value)]
    if is_frame(value):
        raise PlanError(
            f"{where} is a DataFrame.",
            hint="Declare it as Parquet: outputs: {name: parquet}; or return records.",
        )
    if type(value).__module__.partition(".")[0] == "numpy" and hasattr(value, "tolist"):
        return json_value(value.tolist(), where)
    raise PlanError(
        f"{where} is a {type(value).__name__}, which is no JSON value.",
        hint="Return texts, numbers, true, false, None, lists and mappings of these.",
    )
