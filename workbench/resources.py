"""Where the files that come with the package are: toy models, notebooks, plans.

In an installed wheel they lie in `workbench/_data`; in a checkout beside the package.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).parent


def models_dir() -> Path:
    """Return the folder of the bundled toy models."""
    packaged = _PACKAGE / "_data" / "models"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "data" / "models"


def notebooks_dir() -> Path:
    """Return the folder of the bundled notebooks."""
    packaged = _PACKAGE / "_data" / "notebooks"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "notebooks"


def plans_dir() -> Path:
    """Return the folder of the bundled plans; their data lie in `../datasets`."""
    packaged = _PACKAGE / "_data" / "plans"
    return packaged if packaged.is_dir() else _PACKAGE.parent / "data" / "plans"
