"""Code that lies beside a plan: where it is, what it imports of its own folder, its hashes.

Only files are read; nothing is imported or run.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
from collections.abc import Iterator
from pathlib import Path

_IGNORED = (SyntaxError, UnicodeDecodeError, ValueError, OSError)


def module_file(module: str, plan_dir: Path) -> Path | None:
    """Return the file of a module: in the plan's folder, else of an installed package."""
    return _below(plan_dir, module.split(".")) or _installed(module)


def is_known(module: str, plan_dir: Path) -> bool:
    """Whether a module can be imported, as far as that is seen without importing it."""
    return module_file(module, plan_dir) is not None or _found(module.split(".")[0])


def hashes_of_module(module: str, plan_dir: Path) -> dict[str, str]:
    """Return file to SHA-256 of a module and of what it imports from the plan's folder."""
    file = _below(plan_dir, module.split("."))
    if file is not None:
        return hashes_of_file(file, plan_dir)
    installed = _installed(module)
    return {} if installed is None else {module: _sha256(installed.read_bytes())}


def hashes_of_file(file: Path, plan_dir: Path) -> dict[str, str]:
    """Return file to SHA-256 of a file of Python and of what it imports from the plan's folder."""
    found: dict[str, str] = {}
    _collect(file, plan_dir, found)
    return dict(sorted(found.items()))


def hashes_of_code(code: str, plan_dir: Path) -> dict[str, str]:
    """Return file to SHA-256 of what a text of Python imports from the plan's folder."""
    found: dict[str, str] = {}
    for name in _imports(code, ()):
        _follow(name, plan_dir, found)
    return dict(sorted(found.items()))


def hash_of_file(file: Path) -> str:
    """Return the SHA-256 of a file; of one that is not there, an empty text."""
    return _sha256(file.read_bytes()) if file.is_file() else ""


def function_in(code: str, name: str) -> ast.FunctionDef | ast.AsyncFunctionDef | None:
    """Return a function that a text defines at its top level.

    Raises:
        SyntaxError: When the text is no Python.
    """
    for node in _tree(code).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == name:
            return node
    return None


def names_in(code: str) -> list[str]:
    """Return the names that a text defines or imports at its top level.

    Raises:
        SyntaxError: When the text is no Python.
    """
    found: list[str] = []
    for node in _tree(code).body:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.append(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            found += [alias.asname or alias.name for alias in node.names]
        elif isinstance(node, ast.Assign):
            found += [target.id for target in node.targets if isinstance(target, ast.Name)]
    return found


def _tree(code: str) -> ast.Module:
    """Return the tree of a text of Python.

    Raises:
        SyntaxError: When it is no Python, or nested too deep for the parser.
    """
    try:
        return ast.parse(code)
    except (MemoryError, RecursionError):
        raise SyntaxError("it is nested too deep") from None


def _collect(file: Path, plan_dir: Path, found: dict[str, str]) -> None:
    name = file.relative_to(plan_dir).as_posix() if file.is_relative_to(plan_dir) else file.name
    if name in found or not file.is_file():
        return
    data = file.read_bytes()
    found[name] = _sha256(data)
    if not file.is_relative_to(plan_dir):
        return
    package = file.parent.relative_to(plan_dir).parts
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return
    for imported in _imports(text, package):
        _follow(imported, plan_dir, found)


def _follow(module: str, plan_dir: Path, found: dict[str, str]) -> None:
    """Take a module of the plan's folder, and the packages it lies in."""
    parts = module.split(".")
    for length in range(1, len(parts) + 1):
        file = _below(plan_dir, parts[:length])
        if file is not None:
            _collect(file, plan_dir, found)


def _imports(code: str, package: tuple[str, ...]) -> Iterator[str]:
    try:
        tree = _tree(code)
    except _IGNORED:
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base: tuple[str, ...] = ()
            if node.level:
                base = package[: len(package) - node.level + 1]
            start = ".".join((*base, *(node.module or "").split("."))).strip(".")
            if start:
                yield start
            # `from package import module` names a module or a value: the file decides.
            yield from (f"{start}.{alias.name}".strip(".") for alias in node.names)


def _below(folder: Path, parts: list[str]) -> Path | None:
    base = folder.joinpath(*parts)
    for file in (base.with_name(f"{base.name}.py"), base / "__init__.py"):
        if file.is_file():
            return file
    return None


def _installed(module: str) -> Path | None:
    """Return the file of an installed module, without importing its packages."""
    top, *rest = module.split(".")
    try:
        spec = importlib.util.find_spec(top)
    except (ImportError, ValueError):
        return None
    if spec is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None
    for place in spec.submodule_search_locations or ():
        file = _below(Path(place), rest)
        if file is not None:
            return file
    return None


def _found(top: str) -> bool:
    try:
        return importlib.util.find_spec(top) is not None
    except (ImportError, ValueError):
        return False


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
