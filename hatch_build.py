"""What a wheel holds beside the package: the commit it was built from, and the shipped results where they are small."""

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

LARGEST = 25 * 2**20  # bytes; results beyond it stay in the repository
SHIPPED = Path("results") / "reference"
PACKED = Path("poisonlab") / "_app"


class WheelContents(BuildHookInterface[Any]):
    """Adds files that pyproject.toml cannot name."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":  # the checkout itself is used
            return
        root = Path(self.root)
        shipped = root / SHIPPED
        if shipped.is_dir() and _size(shipped) <= LARGEST:
            build_data["force_include"][str(shipped)] = str(PACKED / SHIPPED)
        commit = _commit(root)
        if commit:
            self.folder = tempfile.TemporaryDirectory()
            noted = Path(self.folder.name) / "REVISION"
            noted.write_text(commit + "\n", encoding="utf-8")
            build_data["force_include"][str(noted)] = str(PACKED / "REVISION")


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _commit(root: Path) -> str:
    """The checkout's commit; empty where there is no git or no checkout."""
    command = ["git", "-C", str(root), "rev-parse", "--short=10", "HEAD"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
