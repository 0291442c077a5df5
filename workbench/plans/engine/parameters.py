"""Parameters of a notebook: checked before anything runs, injected as papermill does.

Papermill only warns of a name that does not exist, writes a tuple as a text, pastes a name that is
code, and finds a set or a date only when it saves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nbformat import NotebookNode

from workbench.errors import ConfigError
from workbench.messages import nearest_names
from workbench.plans.engine.notebook import kernel_of
from workbench.plans.engine.starting import language_of


def checked_values(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Return parameters as plain JSON values; a tuple is a list.

    Raises:
        ConfigError: When one is no JSON value; it names the part.
    """
    return {name: _plain(value, name) for name, value in parameters.items()}


def _plain(value: Any, where: str) -> Any:
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str):
        return str.__str__(value)
    for kind in (int, float):
        # numpy.float64 is a float, an IntEnum an int: papermill would write their names.
        if isinstance(value, kind):
            return kind(value)
    if isinstance(value, list | tuple):
        return [_plain(part, f"{where}[{index}]") for index, part in enumerate(value)]
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise _refused(where, f"its key {key!r} is no text")
        return {str(key): _plain(part, f"{where}.{key}") for key, part in value.items()}
    raise _refused(where, f"{type(value).__name__} has no form in JSON")


def _refused(where: str, reason: str) -> ConfigError:
    return ConfigError(
        f"The parameter {where} is not a JSON value: {reason}.",
        key=where,
        hint="Give texts, numbers, true or false, null, lists, and mappings with texts as keys.",
    )


def inject(notebook: NotebookNode, values: Mapping[str, Any], name: str) -> NotebookNode:
    """Return the notebook with a cell that sets the parameters, after the one tagged `parameters`.

    Args:
        name: What the notebook is called in errors.

    Raises:
        ConfigError: When the notebook does not take such a parameter.
    """
    if not values:
        return notebook
    # Imported here: papermill takes half a second.
    from papermill.inspection import _infer_parameters
    from papermill.parameterize import parameterize_notebook

    kernel, language = kernel_of(notebook), notebook.metadata.get("language_info", {}).get("name")
    language = language or notebook.metadata.kernelspec.get("language") or language_of(kernel)
    known = [found.name for found in _infer_parameters(notebook, kernel, language)]
    for given in values:
        if given not in known:
            near = nearest_names(given, known, count=1)
            takes = f"It takes: {', '.join(known)}." if known else "It takes none."
            hint = f"Did you mean {near[0]!r}?" if near else takes
            raise ConfigError(f"{name} has no parameter {given!r}.", key=given, hint=hint)
    injected: NotebookNode = parameterize_notebook(
        notebook, dict(values), kernel_name=kernel, language=language
    )
    return injected
