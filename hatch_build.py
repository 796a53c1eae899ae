"""Record the commit in the wheel, so that a run of the installed package can name the code that made it."""

import subprocess
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CommitHook(BuildHookInterface):  # type: ignore[misc]
    """Ship `pictorch/commit.txt`: the commit, with "-dirty" when files differ from it; nothing outside a checkout."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        root = Path(self.root)
        try:
            described = subprocess.run(
                ["git", "describe", "--always", "--abbrev=40", "--dirty", "--exclude=*"],
                cwd=root,
                capture_output=True,
                text=True,
                check=True,
            )
        except (OSError, subprocess.CalledProcessError):
            return
        if not (root / ".git").exists():
            return
        self.folder = tempfile.TemporaryDirectory()
        note = Path(self.folder.name) / "commit.txt"
        note.write_text(described.stdout)
        build_data["force_include"][str(note)] = "pictorch/commit.txt"

    def finalize(self, version: str, build_data: dict[str, Any], artifact_path: str) -> None:
        if hasattr(self, "folder"):
            self.folder.cleanup()
