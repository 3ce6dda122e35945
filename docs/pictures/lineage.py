"""Draws the lineage of `pole`, a population of the library: `python docs/pictures/lineage.py`. It takes some minutes."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent


def main() -> None:
    """Run the population as the page says, and keep its drawing."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "antiphon", "run", "pole", "--name", "pole"]
        subprocess.run([*command, "--logdir", folder], check=True)
        shutil.copy(Path(folder, "pole", "lineage.svg"), HERE / "lineage.svg")


if __name__ == "__main__":
    main()
