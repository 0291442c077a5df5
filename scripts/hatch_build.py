"""Put the bundled models, notebooks and plans into the wheel as `workbench/_data`."""

from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PACKAGE_DATA = {
    "data/models/*.gguf": "workbench/_data/models",
    "notebooks/*.ipynb": "workbench/_data/notebooks",
    "data/plans/*.*": "workbench/_data/plans",
    "data/datasets/*.csv": "workbench/_data/datasets",
}


class PackageData(BuildHookInterface[Any]):
    """Map files of the checkout to places in the wheel; an editable install needs none of it."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Add the files to `build_data`, and refuse to build a wheel without them."""
        if version == "editable":
            return
        for pattern, folder in PACKAGE_DATA.items():
            found = sorted(Path(self.root).glob(pattern))
            if not found:
                raise FileNotFoundError(f"{pattern}: a wheel without these files is of no use")
            build_data["force_include"].update(
                {str(path): f"{folder}/{path.name}" for path in found}
            )
