"""Dependencies: their licences, and the one file of exact versions."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable
from importlib import metadata
from itertools import chain

from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from tests.house.files import ROOT

DISTRIBUTION = "local-model-workbench"
PERMISSIVE = {
    "0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "CC0-1.0", "ISC", "MIT", "MIT-0",
    "MPL-2.0", "PSF-2.0", "Unlicense", "Zlib",
}  # fmt: skip
# The end of a classifier names a family; all of each family are permissive.
CLASSIFIERS = {
    "Apache Software License": "Apache-2.0",
    "BSD License": "BSD-3-Clause",
    "ISC License (ISCL)": "ISC",
    "MIT License": "MIT",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
    "Python Software Foundation License": "PSF-2.0",
}
# Distributions that say it in no standard field: the licence, and where it was read.
READ_BY_HAND = {
    "asttokens": "Apache-2.0",  # License field: "Apache 2.0"; its LICENSE file is the text
    "bleach": "Apache-2.0",  # License field: "Apache Software License"; its LICENSE file
    "overrides": "Apache-2.0",  # License field: "Apache License, Version 2.0"; its LICENSE file
}


def project() -> dict[str, object]:
    """Return the parsed `pyproject.toml`."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def pins() -> dict[str, str]:
    """Return `constraints.txt` as {canonical name: exact version}."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    pairs = [line.split("==") for line in lines if line and not line.startswith("#")]
    return {canonicalize_name(name): version for name, version in pairs}


def needed(requirements: Iterable[str]) -> set[str]:
    """Return the canonical names that `requirements` install here, dependencies included."""
    seen: set[tuple[str, str]] = set()
    waiting = [Requirement(text) for text in requirements]
    while waiting:
        requirement = waiting.pop()
        for extra in {"", *requirement.extras}:
            key = (canonicalize_name(requirement.name), extra)
            if key in seen:
                continue
            seen.add(key)
            environment = {**default_environment(), "extra": extra}
            for text in metadata.requires(requirement.name) or ():
                below = Requirement(text)
                if below.marker is None or below.marker.evaluate(environment):
                    waiting.append(below)
    return {name for name, _ in seen}


def runtime_dependencies() -> set[str]:
    """Return everything that installing the distribution brings here."""
    return needed([DISTRIBUTION]) - {DISTRIBUTION}


def spdx_names(expression: str) -> set[str]:
    """Return the names in an SPDX expression."""
    return set(re.findall(r"[\w.+-]+", expression)) - {"AND", "OR", "WITH"}


def licences(name: str) -> set[str]:
    """Return the SPDX names of a distribution's licences, from the clearest field it has."""
    if name in READ_BY_HAND:
        return {READ_BY_HAND[name]}
    fields = metadata.metadata(name)
    expression = fields.get("License-Expression")
    if expression:
        return spdx_names(expression)
    classifiers = fields.get_all("Classifier") or []
    ends = [c.split(" :: ")[-1] for c in classifiers if c.startswith("License ::")]
    named = {CLASSIFIERS.get(end, end) for end in ends if end != "OSI Approved"}
    return named or spdx_names(fields.get("License") or "unknown")


def test_licences_are_permissive() -> None:
    """Every runtime dependency has a permissive licence (MPL-2.0, per file, is one here)."""
    doubtful = {
        name: found for name in runtime_dependencies() if (found := licences(name) - PERMISSIVE)
    }
    assert {} == doubtful


def test_closure_is_found() -> None:
    """The walk over dependencies reaches those of dependencies."""
    assert {"click", "httpcore", "jupyterlab", "pyzmq", "tornado"} <= runtime_dependencies()


def test_hand_read_licences_are_needed() -> None:
    """The table of hand-read licences names only distributions that are installed and unclear."""
    assert set(READ_BY_HAND) <= runtime_dependencies()


def test_constraints_are_exact_and_portable() -> None:
    """Each constraint is `name==version`: no path, no address, no torch."""
    lines = (ROOT / "constraints.txt").read_text(encoding="utf-8").splitlines()
    body = [line for line in lines if not line.startswith("#")]
    assert [] == [line for line in body if not re.fullmatch(r"[\w.-]+==[\w.!+]+", line)]
    assert not {"torch", DISTRIBUTION} & set(pins())


def test_constraints_pin_everything() -> None:
    """Everything that `make lab` and `make test` install has its exact version in the file."""
    groups = project()["dependency-groups"]
    wanted = [DISTRIBUTION, *groups["test"], *groups["docs"]]
    assert set() == needed(wanted) - {DISTRIBUTION, "setuptools"} - set(pins())


def test_environment_follows_the_constraints() -> None:
    """The tests run on the versions that the file names."""
    pinned = pins()
    other = {
        name: (metadata.version(name), pinned[name])
        for name in runtime_dependencies() & set(pinned)
        if metadata.version(name) != pinned[name]
    }
    assert {} == other


def test_torch_is_only_for_training() -> None:
    """Only the `train` extra mentions torch."""
    table = project()
    extras = table["project"]["optional-dependencies"]
    everything = [*table["project"]["dependencies"], *chain(*table["dependency-groups"].values())]
    assert any(text.startswith("torch") for text in extras["train"])
    assert not [text for text in everything if text.startswith("torch")]


def test_readme_is_shown_on_the_index() -> None:
    """The README, once written, is the distribution's long description."""
    has_readme = (ROOT / "README.md").exists()
    assert has_readme == (project()["project"].get("readme") == "README.md")
