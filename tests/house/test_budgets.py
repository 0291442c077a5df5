"""Budgets and habits that the syntax tree shows."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import grimp
import pytest

from tests.house.files import files_under, relative

MAX_FILE_LINES = 600
MAX_FUNCTION_LINES = 60
# Modules that import heavy packages, each as the beginning of a dotted name.
HEAVY = (
    "workbench.metrics.charts.",
    "workbench.evals.paired.",
    "workbench.evals.stats.",
    "workbench.evals.ranking.",
)
# Heavy or optional: imported by the function that needs them.
LAZY = {"pandas", "plotly", "numpy", "matplotlib", "torch"}

Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def tree(path: Path) -> ast.Module:
    """Parse a file once for all tests."""
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def functions(path: Path) -> Iterator[Function]:
    """Yield every function of a file, nested ones and methods too."""
    for node in ast.walk(tree(path)):
        if isinstance(node, Function):
            yield node


def place(path: Path, node: ast.AST) -> str:
    """Name a node as `file:line`."""
    return f"{relative(path)}:{getattr(node, 'lineno', 1)}"


def report(problems: list[str]) -> str:
    """Join problems for an assertion message."""
    return "\n".join(problems)


def test_files_are_short() -> None:
    """No Python file is longer than 600 lines."""
    counts = {p: len(p.read_text(encoding="utf-8").splitlines()) for p in files_under(".", "*.py")}
    long = [f"{relative(p)}: {n} lines" for p, n in counts.items() if n > MAX_FILE_LINES]
    assert not long, report(long)


def test_functions_are_short() -> None:
    """No function is longer than 60 lines, its decorators not counted."""
    long = [
        f"{place(path, f)}: {f.name} has {(f.end_lineno or 0) - f.lineno + 1} lines"
        for path in files_under(".", "*.py")
        for f in functions(path)
        if (f.end_lineno or 0) - f.lineno + 1 > MAX_FUNCTION_LINES
    ]
    assert not long, report(long)


def unannotated(function: Function) -> list[str]:
    """Return the names of parameters without annotation, and `return`."""
    a = function.args
    named = [*a.posonlyargs, *a.args, *a.kwonlyargs, *filter(None, (a.vararg, a.kwarg))]
    missing = [p.arg for p in named if p.annotation is None and p.arg not in ("self", "cls")]
    return missing if function.returns is not None else [*missing, "return"]


def test_everything_is_annotated() -> None:
    """Every parameter and result of every function of the package has a type."""
    missing = [
        f"{place(path, f)}: {f.name}: {', '.join(names)}"
        for path in files_under("workbench", "*.py")
        for f in functions(path)
        if (names := unannotated(f))
    ]
    assert not missing, report(missing)


def catches_everything(expression: ast.expr | None) -> bool:
    """Say whether an `except` clause (or an argument of `suppress`) takes every exception."""
    if expression is None:
        return True
    names = expression.elts if isinstance(expression, ast.Tuple) else [expression]
    return any(isinstance(n, ast.Name) and n.id in ("Exception", "BaseException") for n in names)


def is_silent(node: ast.AST) -> bool:
    """Say whether a node drops every exception without a trace."""
    if isinstance(node, ast.ExceptHandler):
        does_nothing = all(
            isinstance(s, ast.Pass | ast.Continue)
            or (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))
            for s in node.body
        )
        return does_nothing and catches_everything(node.type)
    if isinstance(node, ast.Call):
        called = node.func.attr if isinstance(node.func, ast.Attribute) else None
        called = node.func.id if isinstance(node.func, ast.Name) else called
        return called == "suppress" and any(catches_everything(a) for a in node.args)
    return False


def test_no_exception_is_dropped_silently() -> None:
    """No handler takes every exception and does nothing."""
    silent = [
        place(path, node)
        for path in files_under(".", "*.py")
        for node in ast.walk(tree(path))
        if is_silent(node)
    ]
    assert not silent, report(silent)


@pytest.mark.parametrize(
    ("expected", "source"),
    [
        (True, "try: ...\nexcept Exception: pass"),
        (True, "try: ...\nexcept: ..."),
        (True, "import contextlib\nwith contextlib.suppress(BaseException): f()"),
        (False, "try: ...\nexcept OSError: pass"),
        (False, "try: ...\nexcept Exception: log()"),
    ],
)
def test_silence_is_recognised(expected: bool, source: str) -> None:
    """The check above sees each way of dropping an exception, and no other."""
    assert expected == any(is_silent(node) for node in ast.walk(ast.parse(source)))


def test_nothing_is_left_for_later() -> None:
    """The package has no note of unfinished work and no method that only raises."""
    later = re.compile(r"\b(TODO|FIXME|XXX|HACK|NotImplementedError)\b")
    found = [
        f"{relative(path)}:{number}: {line.strip()}"
        for path in [*files_under("workbench", "*.py"), *files_under("scripts", "*")]
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if later.search(line)
    ]
    assert not found, report(found)


def test_heavy_packages_are_imported_late() -> None:
    """No module imports pandas, plotly or numpy while it is itself imported.

    The charts and the statistics do, and count as heavy themselves.
    """
    early = []
    for path in files_under("workbench", "*.py"):
        module = relative(path).removesuffix(".py").replace("/", ".")
        if f"{module}.".startswith(HEAVY):
            continue
        for node in module_level(tree(path)):
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            else:
                continue
            early += [
                f"{place(path, node)}: {n}"
                for n in names
                if n.split(".")[0] in LAZY or f"{n}.".startswith(HEAVY)
            ]
    assert not early, report(early)


def module_level(node: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that run at import: not in functions, not under `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
        if isinstance(child, Function | ast.Lambda) or typing_only:
            continue
        yield child
        yield from module_level(child)


def test_modules_form_no_cycle() -> None:
    """No module imports itself through others, imports inside functions included."""
    # A part may name the type of its whole.
    graph = grimp.build_graph("workbench", exclude_type_checking_imports=True, cache_dir=None)
    cycles = []
    for module in sorted(graph.modules):
        for imported in graph.find_modules_directly_imported_by(module):
            back = graph.find_shortest_chain(importer=imported, imported=module)
            if back:
                cycles.append(" > ".join((module, *back)))
    assert not cycles, report(cycles)


def test_every_test_says_what_it_shows() -> None:
    """Every test function has a docstring whose first line is a sentence."""
    mute = [
        f"{place(path, f)}: {f.name}"
        for path in files_under("tests", "*.py")
        for f in functions(path)
        if f.name.startswith("test_")
        and not (ast.get_docstring(f) or "").split("\n\n")[0].endswith(".")
    ]
    assert not mute, report(mute)
