"""Plants small faults, one at a time, in a copy of the tree, and runs the tests that are to notice each.

    python tests/faults/plant.py                              every fault, against the test that is known to notice it
    python tests/faults/plant.py --only ledger-last-use-counts --only ties-shared-sum
    python tests/faults/plant.py --tier test-all --jobs 2     tests marked `long` too, two copies side by side

A fault lives in `engine_core.py`, `engine_step.py`, `engine_rest.py`, `lower.py` or `upper.py`: a name that says what is wrong,
a file, a text that stands in it once, what is put in its place, and the test that fails then. That test is run first, which
takes seconds. Where it passes, wider ones follow: the folder of tests that mirrors the faulted file's, then tests/contracts
and tests/numerics, then all. A failure counts only where the same test passes without the fault.

The table that is printed has a line for each: fault, tier, test that caught it, seconds. The exit code is 1 where one survives
or cannot be applied. Whoever finds a bug that no test noticed adds it here with its test; whoever deletes a test runs the
faults that it catches, and gives each of those left over to another.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from tests.faults.engine_core import CORE
from tests.faults.engine_rest import REST
from tests.faults.engine_step import STEP
from tests.faults.fault import Fault
from tests.faults.lower import LOWER
from tests.faults.upper import UPPER

FAULTS: tuple[Fault, ...] = (*CORE, *STEP, *REST, *LOWER, *UPPER)
"""All of them, the engine's first."""
TIERS = ("test", "test-all")
_LEFT_OUT = {".git", ".venv", "runs", "dist", "build", "__pycache__"}
"""Names at the root that are not copied."""
_LIBRARY = (
    "antiphon",
    "agents",
    "base",
    "comms",
    "distributed",
    "engine",
    "envs",
    "inspection",
    "jobs",
    "nets",
    "running",
    "scenarios",
    "splitting",
    "telemetry",
    "tests",
)
_MARKS = {
    "test": "not long and not nightly and not data and not gpu",
    "test-all": "not nightly and not data and not gpu",
}
_LIMIT = 1200.0
"""Seconds of one run of pytest; one that takes longer hangs, and so has noticed the fault."""
_FAILED = re.compile(r"^(?:FAILED|ERROR) (tests/\S+?\.py(?:::.+?)?)(?: - .*)?$", re.MULTILINE)


class Result(NamedTuple):
    """What became of a fault: the test that caught it (None: it survived), what else is to be said, and seconds."""

    fault: Fault
    caught_by: str | None
    note: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.fault.name:<58} {self.fault.tier:<8} {self.caught_by or 'SURVIVED':<100} {self.seconds:6.1f} {self.note}"


def mirrored(file: str) -> list[str]:
    """Return the folders and files of tests that mirror a file of the library, the nearest first."""
    path = Path(file)
    if path.parts[0] == "antiphon":
        return sorted(str(p.relative_to(ROOT)) for p in (ROOT / "tests").glob("test_*.py"))
    own = ROOT / "tests" / path.parent / f"test_{path.name}"
    near = [str(own.relative_to(ROOT))] if own.is_file() else []
    folder = ROOT / "tests" / path.parent
    while not folder.is_dir():
        folder = folder.parent
    return [*near, str(folder.relative_to(ROOT))]


class Tree:
    """A copy of the repository, in which faults are planted one after the other.

    Args:
        folder: Where; it is made.
    """

    def __init__(self, folder: Path) -> None:
        self.root = folder
        folder.mkdir()
        for path in ROOT.iterdir():
            if path.is_dir() and path.name not in _LEFT_OUT:
                cached = shutil.ignore_patterns("__pycache__", "_build")
                shutil.copytree(path, folder / path.name, symlinks=True, ignore=cached)
            elif path.is_file():
                shutil.copy2(path, folder / path.name)

        # Compiled once: what is faulted is compiled anew, and nothing else.
        command = [
            sys.executable,
            "-m",
            "compileall",
            "-q",
            *(name for name in _LIBRARY if (folder / name).is_dir()),
        ]
        subprocess.run(command, cwd=folder, check=True)

    def run(self, tests: Sequence[str], tier: str, *, deselected: Iterable[str] = ()) -> str | None:
        """Run tests until one fails, and return it; None: all pass."""
        environment = {**os.environ, "PYTHONPATH": str(self.root), "OMP_NUM_THREADS": "1"}
        environment["PYTHONDONTWRITEBYTECODE"] = "1"  # two versions of a file may be of one second
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-x",
            "-q",
            "--no-header",
            "--tb=no",
            "-p",
            "no:cacheprovider",
        ]
        command += [
            "-p",
            "no:xdist",
            "-m",
            _MARKS[tier],
            *(f"--deselect={test}" for test in deselected),
            *tests,
        ]
        try:
            done = subprocess.run(
                command,
                cwd=self.root,
                env=environment,
                capture_output=True,
                text=True,
                timeout=_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            return f"{tests[0]} (it does not end)"
        if done.returncode in (0, 5):  # 5: nothing was collected
            return None
        found = _FAILED.search(done.stdout)
        return found[1] if found else f"{tests[0]} ({(done.stdout + done.stderr).strip().splitlines()[-1:]})"

    def catch(self, fault: Fault, tier: str, *, wide: bool) -> Result:
        """Plant a fault, find a test that notices it, and take it away again."""
        started = time.monotonic()
        path = self.root / fault.file
        text = path.read_text() if path.is_file() else ""
        if text.count(fault.old) != 1:
            return Result(
                fault, None, f"does not apply: its text is there {text.count(fault.old)} times", 0.0
            )
        innocent: list[str] = []
        for tests in self._searches(fault, wide=wide):
            while True:
                path.write_text(text.replace(fault.old, fault.new))
                try:
                    failed = self.run(tests, tier, deselected=innocent)
                finally:
                    path.write_text(text)
                if failed is None or failed in innocent:  # a test that is not there fails again and again
                    break
                if self.run([failed.partition(" (")[0]], tier) is None:
                    note = (
                        ""
                        if [failed] == tests or fault.caught_by in failed
                        else "(not the test that is named)"
                    )
                    return Result(fault, failed, note, time.monotonic() - started)
                innocent.append(failed)
        return Result(fault, None, "", time.monotonic() - started)

    @staticmethod
    def _searches(fault: Fault, *, wide: bool) -> Iterator[list[str]]:
        if fault.caught_by is not None:
            yield [fault.caught_by]
        if wide:
            yield mirrored(fault.file)
            yield ["tests/contracts", "tests/numerics"]
            yield ["tests"]


def plant(faults: Sequence[Fault], tier: str, jobs: int, *, wide: bool = True) -> list[Result]:
    """Plant faults one at a time in `jobs` copies of the tree, print a line for each, and return what became of them."""
    with tempfile.TemporaryDirectory(prefix="faults-") as folder:
        trees: SimpleQueue[Tree] = SimpleQueue()
        for number in range(jobs):
            trees.put(Tree(Path(folder) / str(number)))

        def one(fault: Fault) -> Result:
            tree = trees.get()
            try:
                result = tree.catch(fault, tier, wide=wide)
            finally:
                trees.put(tree)
            print(result, flush=True)
            return result

        with ThreadPoolExecutor(jobs) as pool:
            return list(pool.map(one, faults))


def main() -> int:
    """Run the command line; 1 where a fault survives or does not apply."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--only",
        action="append",
        metavar="NAME",
        help="a fault, or the beginning of its name; may be repeated",
    )
    parser.add_argument(
        "--tier",
        choices=TIERS,
        default="test",
        help="test: what make test runs; test-all: those marked long too",
    )
    parser.add_argument("--jobs", type=int, default=1, help="copies of the tree, side by side")
    parser.add_argument("--narrow", action="store_true", help="run the tests that are named alone")
    asked = parser.parse_args()
    faults = [f for f in FAULTS if asked.only is None or f.name.startswith(tuple(asked.only))]
    faults = [f for f in faults if asked.tier == "test-all" or f.tier == "test"]
    started = time.monotonic()
    results = plant(faults, asked.tier, asked.jobs, wide=not asked.narrow)
    left = [result for result in results if result.caught_by is None]
    print(f"{len(results) - len(left)} of {len(results)} caught, in {time.monotonic() - started:.0f} s")
    for result in left:
        print(result)
    return 1 if left or not results else 0


if __name__ == "__main__":
    sys.exit(main())
