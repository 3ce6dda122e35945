"""Plants small faults, one at a time, in a copy of the tree, and runs the test that is to notice each.

    python tests/faults/plant.py                                     every fault
    python tests/faults/plant.py ends-the-last-use-counts ties-        those whose names begin so

A fault is a name that says what is wrong, a file, a text that stands in it once, what is put in its place, and the test that
fails then, which must pass without it. There is one for each rule of docs/semantics.md and for each formula of agents/,
comms/, nets/ and envs/. The exit code is 1 where one survives. Whoever deletes a test that one names gives it to another.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.faults.engine_core import CORE
from tests.faults.engine_rest import REST
from tests.faults.engine_step import STEP
from tests.faults.fault import Fault
from tests.faults.lower import LOWER

FAULTS: tuple[Fault, ...] = (*CORE, *STEP, *REST, *LOWER)
_LEFT_OUT = (".*", "__pycache__", "_build", "runs", "dist")
_LIMIT = 600.0
"""Seconds of one test; one that takes longer hangs, and so has noticed the fault."""


def passes(root: Path, test: str) -> bool:
    """Say whether a test passes in a copy of the tree."""
    environment = {**os.environ, "PYTHONPATH": str(root), "PYTHONDONTWRITEBYTECODE": "1"}
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", test]
    try:
        done = subprocess.run(
            command, cwd=root, env=environment, stdout=subprocess.DEVNULL, timeout=_LIMIT, check=False
        )
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def caught(root: Path, fault: Fault) -> bool:
    """Plant a fault in a copy of the tree, run its test, and take it away again."""
    path = root / fault.file
    text = path.read_text()
    path.write_text(text.replace(fault.old, fault.new))
    try:
        return not passes(root, fault.caught_by)
    finally:
        path.write_text(text)


def main(names: tuple[str, ...]) -> int:
    """Plant the faults whose names begin so, or all; 1 where one survives, or its test fails without it."""
    survived = 0
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        root = Path(folder) / "tree"
        shutil.copytree(ROOT, root, symlinks=True, ignore=shutil.ignore_patterns(*_LEFT_OUT))
        for fault in FAULTS:
            if fault.name.startswith(names or ("",)):
                if not passes(root, fault.caught_by):
                    word = "its test fails without it"
                else:
                    word = "caught" if caught(root, fault) else "SURVIVED"
                survived += word != "caught"
                print(f"{fault.name:<80} {word}", flush=True)
    return 1 if survived else 0


if __name__ == "__main__":
    sys.exit(main(tuple(sys.argv[1:])))
