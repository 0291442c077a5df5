"""The built wheel works by itself, away from the checkout."""

from __future__ import annotations

import json
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

from tests.house.files import ROOT, files_under, run_module
from tests.house.wheel import build_wheel, run_installed

DATA = ("data/models/*.gguf", "notebooks/*.ipynb", "data/plans/*.*", "data/datasets/*.csv")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel once for these tests."""
    return build_wheel(tmp_path_factory.mktemp("dist"))


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into a new environment and return that environment's folder.

    Its dependencies are read from this environment through a `.pth` file: `.pth` files there,
    such as that of the checkout's editable install, are not followed from it.
    """
    folder = tmp_path_factory.mktemp("environment")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder], check=True)
    python = str(folder / "bin" / "python")
    done = run_module("pip", "--python", python, "install", "--no-index", "--no-deps", str(wheel))
    assert done.returncode == 0, done.stdout
    (site,) = folder.glob("lib/python*/site-packages")
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder


def test_wheel_holds_its_data(wheel: Path) -> None:
    """Models, notebooks, static files and the typing marker are in the wheel."""
    packed = set(zipfile.ZipFile(wheel).namelist())
    package = [p for p in files_under("workbench", "*") if p.suffix != ".pyc"]
    expected = {p.relative_to(ROOT).as_posix() for p in package}
    for source in DATA:
        folder = f"workbench/_data/{Path(source).parent.name}"
        expected |= {f"{folder}/{path.name}" for path in ROOT.glob(source)}
    assert set() == expected - packed


def test_wheel_holds_nothing_else(wheel: Path) -> None:
    """No test, script or training code is in the wheel, only the package and what Lab finds."""
    names = zipfile.ZipFile(wheel).namelist()
    tops = {name.split("/")[0] for name in names}
    assert {"workbench"} == {top for top in tops if not top.endswith((".dist-info", ".data"))}
    data = {
        "/".join(name.split("/")[1:6]) for name in names if ".data/" in name.split("/")[0] + "/"
    }
    assert {"data/share/jupyter/labextensions/local-model-workbench"} == data


def test_installed_package_is_the_wheel(installed: Path) -> None:
    """`workbench` is imported from the new environment, not from the checkout."""
    code = "import workbench; print(workbench.__file__)"
    place = Path(run_installed(installed, "python", "-c", code).strip())
    assert place.is_relative_to(installed)


def test_installed_command_tells_its_version(installed: Path) -> None:
    """`workbench --version` works without the checkout."""
    version = (ROOT / "workbench/_version.py").read_text(encoding="utf-8").split('"')[-2]
    assert version in run_installed(installed, "workbench", "--version")


def test_installed_doctor_finds_the_models(installed: Path) -> None:
    """`workbench doctor --json` prints one document that names the bundled models."""
    text = run_installed(installed, "workbench", "doctor", "--json")
    json.loads(text)
    names = [path.stem for path in ROOT.glob("data/models/*.gguf")]
    assert names
    assert [] == [name for name in names if name not in text]
