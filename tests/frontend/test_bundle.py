"""The committed bundle is what the sources give, small, and fetches nothing."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.frontend.conftest import FRONTEND, STATIC, node, npm_packages

LARGEST_KB = {
    "chat.js": 150,
    "chat.css": 30,
    "compare.js": 175,
    "compare.css": 36,
    "dialogue.js": 175,
    "dialogue.css": 36,
    "math.js": 280,
    "dashboard.js": 45,
    "dashboard.css": 25,
    "runs.js": 75,
    "runs.css": 32,
    "models.js": 60,
    "models.css": 30,
    "LICENSES.txt": 60,
}
# Names of XML vocabularies and texts of licences; nothing follows these addresses.
NAMES = re.compile(
    r"https?://(?:www\.w3\.org/(?:1998/Math/MathML|1999/xhtml|2000/svg|2000/xmlns/?|1999/xlink)"
    r"|[^\s\"'`]*(?:github\.com|mozilla\.org)[^\s\"'`]*)"
)


def test_bundle_is_what_the_sources_give(tmp_path: Path) -> None:
    """`npm ci && npm run build` gives the committed files, byte by byte."""
    node()
    ignore = shutil.ignore_patterns("node_modules", "__pycache__")
    copy = Path(shutil.copytree(FRONTEND, tmp_path / "frontend", ignore=ignore))
    npm_packages(copy)
    command = [node(), "build.mjs", str(tmp_path / "static")]
    done = subprocess.run(command, cwd=copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    built = {path.name: path.read_bytes() for path in (tmp_path / "static").iterdir()}
    committed = {name: (STATIC / name).read_bytes() for name in built}
    assert sorted(LARGEST_KB) == sorted(built)
    different = [name for name in built if built[name] != committed[name]]
    assert not different, f"run `npm run build` in frontend/ and commit: {different}"


@pytest.mark.parametrize("name", sorted(LARGEST_KB))
def test_bundle_is_small(name: str) -> None:
    """No part is larger than its budget: the module travels once per widget."""
    assert (STATIC / name).stat().st_size <= LARGEST_KB[name] * 1000


@pytest.mark.parametrize("name", sorted(set(LARGEST_KB) - {"LICENSES.txt"}))
def test_bundle_names_no_address(name: str) -> None:
    """No address of the network is in the bundle but names of XML vocabularies."""
    text = (STATIC / name).read_text(encoding="utf-8")
    found = re.findall(r"https?://[\w.-]+[^\s\"'`)]*", text)
    assert not [url for url in found if not NAMES.match(url)]
    assert "@import" not in text
    assert name.endswith(".js") or "url(" not in text


def test_licences_name_every_bundled_package() -> None:
    """LICENSES.txt has each package with its locked version and its licence's text."""
    listed = (STATIC / "LICENSES.txt").read_text(encoding="utf-8")
    wanted = json.loads((FRONTEND / "package.json").read_text(encoding="utf-8"))["dependencies"]
    for package, version in wanted.items():
        assert f"{package} {version} (" in listed
    assert listed.count("=" * 78) == 2 * len(wanted)
    assert len(listed) > 1000 * len(wanted)


def test_versions_are_pinned() -> None:
    """Every package has one exact version, and the lock names no registry."""
    facts = json.loads((FRONTEND / "package.json").read_text(encoding="utf-8"))
    versions = {**facts["dependencies"], **facts["devDependencies"]}.values()
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in versions)
    assert "resolved" not in (FRONTEND / "package-lock.json").read_text(encoding="utf-8")


def test_colours_come_from_the_theme() -> None:
    """A colour is written out only as what follows a variable of Lab, of VS Code, or a shade."""
    written = re.compile(r"#[0-9a-f]{3,8}\b", re.IGNORECASE)
    found = []
    for path in FRONTEND.glob("src/**/*.css"):
        for line in path.read_text("utf-8").splitlines():
            if written.search(re.sub(r"var\(--jp-[^;]*;", "", line)):
                found.append(f"{path.name}: {line.strip()}")
    assert not found


def test_modules_are_small() -> None:
    """No module of the front end is longer than 300 lines."""
    counts = {p: len(p.read_text("utf-8").splitlines()) for p in FRONTEND.glob("src/**/*.js")}
    assert not [f"{path.name}: {count}" for path, count in counts.items() if count > 300]


def test_html_enters_by_one_door() -> None:
    """Only the sanitiser turns text into elements, and nothing evaluates text as code."""
    door = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser"
    )
    found = [
        f"{path.name}: {hit[0]}"
        for path in FRONTEND.glob("src/**/*.js")
        if (hit := door.search(path.read_text("utf-8")))
    ]
    assert not found
