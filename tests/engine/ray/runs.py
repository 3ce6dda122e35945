"""Runs on Ray in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def started(
    scenario: Path, folder: Path, temporary: Path, *options: str, parts: int = 2, **environment: str
) -> subprocess.Popen[str]:
    """Start a run in the directory `run` of a folder; temporary files go to another one, whose name is short."""
    command = [
        sys.executable,
        "-m",
        "antiphon",
        "run",
        str(scenario),
        "--backend",
        "ray",
        "--parts",
        str(parts),
    ]
    return subprocess.Popen(
        [*command, "--name", "run", "--logdir", str(folder), *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary), "OMP_NUM_THREADS": "1", **environment},
        start_new_session=True,
    )
