"""The pretended GPU, in a process of its own: it registers a device, which other tests of this process would find."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.long
@pytest.mark.parametrize("which", ["not nightly", pytest.param("nightly", marks=pytest.mark.nightly)])
def test_what_runs_on_the_pretended_gpu_passes(which: str) -> None:
    file = str(Path(__file__).with_name("on_pretended_gpu.py"))
    found = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:xdist", "-p", "no:cacheprovider", "-m", which, file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert found.returncode == 0, found.stdout
