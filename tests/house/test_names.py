"""Public names, the tree of errors, and what importing the package costs."""

from __future__ import annotations

import ast
import inspect
import json
import subprocess
import sys

import workbench
from workbench import errors

# `import workbench` stands at the top of every notebook and of every command.
LEFT_OUT = {"pandas", "numpy", "plotly", "papermill", "ipywidgets", "nbclient", "httpx", "IPython"}
INDENT = 2


def drawn_parents(drawing: str) -> dict[str, str | None]:
    """Read an indented tree of names as {name: parent}."""
    parents: dict[str, str | None] = {}
    path: list[str] = []
    lines = [line.replace("└", " ").replace("├", " ") for line in drawing.splitlines()]
    lines = [line for line in lines if line.strip()]
    margin = min(len(line) - len(line.lstrip()) for line in lines)
    for line in lines:
        name = line.strip()
        depth = (len(line) - len(line.lstrip()) - margin) // INDENT
        path[depth:] = [name]
        parents[name] = path[depth - 1] if depth else None
    return parents


def error_classes() -> dict[str, type[errors.WorkbenchError]]:
    """Return the classes that `workbench.errors` defines."""
    return {
        name: value
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.WorkbenchError)
    }


def test_error_tree_is_drawn_as_it_is() -> None:
    """The drawing in the docstring of `workbench.errors` shows every class below its base."""
    drawing = inspect.getdoc(errors).split("::\n", 1)[1]
    real = {
        name: None if cls is errors.WorkbenchError else cls.__base__.__name__
        for name, cls in error_classes().items()
    }
    assert real == drawn_parents(drawing)


def test_errors_say_when_they_are_raised() -> None:
    """Every error's docstring begins with "Raised when"."""
    silent = [n for n, c in error_classes().items() if not c.__doc__.startswith("Raised when ")]
    assert silent == []


def test_public_names_are_sorted() -> None:
    """`workbench.__all__` is sorted and has no name twice."""
    assert sorted(set(workbench.__all__)) == list(workbench.__all__)


def test_public_names_exist() -> None:
    """Every name of `workbench.__all__` can be read from the package."""
    missing = [name for name in workbench.__all__ if not hasattr(workbench, name)]
    assert missing == []


def test_public_names_are_complete() -> None:
    """`__all__` is what the package imports for type checkers, and its version."""
    tree = ast.parse(inspect.getsource(workbench))
    typing_only = [node for node in tree.body if isinstance(node, ast.If)]
    imports = [n for block in typing_only for n in block.body if isinstance(n, ast.ImportFrom)]
    declared = {alias.asname or alias.name for node in imports for alias in node.names}
    assert {*declared, "__version__"} == set(workbench.__all__)


def test_import_is_light() -> None:
    """`import workbench` loads none of the heavy packages."""
    code = "import json, sys, workbench; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert set() == LEFT_OUT & set(json.loads(done.stdout))


def test_connect_is_light() -> None:
    """What `connect` needs is loaded; what one panel, dialogue or comparison needs is not yet."""
    code = "import json, sys, workbench.app; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(json.loads(done.stdout))
    late = {"dialogue", "dialogue_core", "compare", "compare_run", "judge", "staging"}
    assert set() == {f"workbench.chat.{name}" for name in late} & loaded
    assert set() == (LEFT_OUT - {"httpx"}) & loaded
