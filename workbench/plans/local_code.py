"""Code that a plan runs: where it is, what it imports of its own folder, its hashes.

Only files are read; nothing is imported or run.  What lies beside the plan, or in another folder
that somebody works in (an editable installation, a folder of PYTHONPATH), is followed from import
to import.  Of an installed package all files of Python count: most are too large to be parsed.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import os
import site
import sysconfig
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Self

_IGNORED = (SyntaxError, UnicodeDecodeError, ValueError, OSError)


def module_file(module: str, plan_dir: Path) -> Path | None:
    """Return the file of a module: in the plan's folder, else of an installed package."""
    return _below(plan_dir, module.split(".")) or _installed(module)


def is_known(module: str, plan_dir: Path) -> bool:
    """Whether a module can be imported, as far as that is seen without importing it."""
    return module_file(module, plan_dir) is not None or _found(module.split(".")[0])


def hashes_of_module(module: str, plan_dir: Path) -> dict[str, str]:
    """Return file to SHA-256 of a module and of what it imports from the folder it is found in.

    Of an installed package it is one hash of all its files of Python, beside that of the module.
    """
    parts = module.split(".")
    file = _below(plan_dir, parts)
    if file is not None:
        return hashes_of_file(file, plan_dir)
    installed = _installed(module)
    if installed is None:
        return {}
    root = _root_of(installed, parts)
    if root.resolve() not in _shipped():
        found = _Search(root).module(module).sorted()
        # Else it is known by another name than its folder has.
        if found:
            return found
    hashes = {module: _sha256(installed.read_bytes())}
    package = _package_of(root, parts)
    if package is not None:
        hashes[f"{package.relative_to(root).as_posix()}/**/*.py"] = _hash_of_package(package)
    return hashes


def _root_of(file: Path, parts: list[str]) -> Path:
    """Return the folder in which the search for a module begins, from where it was found."""
    up = len(parts) if file.name == "__init__.py" and parts[-1] != "__init__" else len(parts) - 1
    return file.parents[up]


def _package_of(root: Path, parts: list[str]) -> Path | None:
    """Return the folder of the package of a module; `None` for a module that is in none.

    Folders without an `__init__.py` are shared by packages that have nothing to do with each other.
    """
    for length in range(1, len(parts) + 1):
        folder = root.joinpath(*parts[:length])
        if (folder / "__init__.py").is_file():
            return folder
    return None


def _shipped() -> frozenset[Path]:
    """Return the folders in which installers put packages, and the one of the standard library."""
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    places = [sysconfig.get_path(name) for name in names]
    places += [*site.getsitepackages(), site.getusersitepackages()]
    return frozenset(Path(place).resolve() for place in places)


def _hash_of_package(folder: Path) -> str:
    """Return one hash of all files of Python in a folder; what was read is not read again."""
    found = hashlib.sha256()
    for path, _, names in sorted(os.walk(folder)):
        for name in sorted(names):
            if name.endswith(".py"):
                file = os.path.join(path, name)
                told = _hash_as_of(file, *_stamp(file))
                found.update(f"{os.path.relpath(file, folder)}\0{told}\n".encode())
    return found.hexdigest()


def _stamp(file: str) -> tuple[int, int, int]:
    """Return what changes when a file does: each item of a `foreach` asks for the same files."""
    about = os.stat(file)
    return about.st_mtime_ns, about.st_ctime_ns, about.st_size


@lru_cache(maxsize=20_000)
def _hash_as_of(file: str, *_: int) -> str:
    return _sha256(Path(file).read_bytes())


def hashes_of_file(file: Path, plan_dir: Path) -> dict[str, str]:
    """Return file to SHA-256 of a file of Python and of what it imports from the plan's folder."""
    return _Search(plan_dir).file(file).sorted()


def hashes_of_code(code: str, plan_dir: Path) -> dict[str, str]:
    """Return file to SHA-256 of what a text of Python imports from the plan's folder."""
    search = _Search(plan_dir)
    for name in _imports(code, ()):
        search.module(name)
    return search.sorted()


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


class _Search:
    """Finds what files import of one folder, each once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._found: dict[str, str] = {}
        self._seen: set[str] = set()

    def sorted(self) -> dict[str, str]:
        """Return file to SHA-256 of what was found."""
        return dict(sorted(self._found.items()))

    def file(self, file: Path) -> Self:
        """Take a file, and what it imports when it lies in the folder."""
        inside = file.is_relative_to(self._root)
        name = file.relative_to(self._root).as_posix() if inside else file.name
        if name in self._found or not file.is_file():
            return self
        self._found[name], imported = _read(
            str(file),
            file.parent.relative_to(self._root).parts if inside else (),
            *_stamp(str(file)),
        )
        if inside:
            for module in imported:
                self.module(module)
        return self

    def module(self, module: str) -> Self:
        """Take a module of the folder, and the packages it lies in."""
        parts = module.split(".")
        for length in range(1, len(parts) + 1):
            name = ".".join(parts[:length])
            if name not in self._seen:
                self._seen.add(name)
                file = _below(self._root, parts[:length])
                if file is not None:
                    self.file(file)
        return self


@lru_cache(maxsize=4096)
def _read(file: str, package: tuple[str, ...], *_: int) -> tuple[str, tuple[str, ...]]:
    """Return the SHA-256 of a file, and the modules it imports as one of a package."""
    data = Path(file).read_bytes()
    try:
        return _sha256(data), tuple(_imports(data.decode("utf-8"), package))
    except UnicodeDecodeError:
        return _sha256(data), ()


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
