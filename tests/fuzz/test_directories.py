"""Damaged run directories: whatever is in them, every command answers with its result or with one line.

No traceback, no more time and memory than an input may take, no code run, nothing written but what the command is for,
and nothing called damaged that is not.
"""

from __future__ import annotations

import contextlib
import io
import logging
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from antiphon.errors import AntiphonError
from antiphon.telemetry import read_run
from antiphon.telemetry.history import History
from tests.fuzz.conftest import Case, Cases
from tests.fuzz.damage import damage, forge
from tests.kit.commands import run_command

STEPS = 6
SMALL = "--set width=4 --set batch=8"
BEGIN = f"--steps {STEPS} --checkpoint-every 3"
RUNS = {
    "norm": f"run digits-mlp --set depth=3 {SMALL}",
    "recurrent": "run copy --set hidden=4 --set bits=2 --set batch=2 --set units=4 --set max_length=2",
    "lossy": "run lossy --set width=4 --set batch=4",
    "reward": "run cartpole-team --set width=4 --set units=4 --set batch=4 --set unroll=4",
    "parts": "run ring-of-many --set agents=16 --set width=4 --set batch=4 --parts 2",
    "virtual": f"run digits-mlp --set depth=3 --set delay=1 {SMALL} --cluster two-cores",
    "seeds": f"run digits-mlp --set depth=3 {SMALL} --seeds 2",
    "study": f"study digits-mlp --set depth=3 {SMALL} --variant locked --variant decoupled --seeds 1 --jobs 1",
}
LONGEST = 320
"""Characters of a line of an error, at most."""
FORBIDDEN = {f"os.{name}" for name in ("system", "exec", "posix_spawn", "fork")}
FORBIDDEN |= {"subprocess.Popen", "pickle.find_class", "socket.connect"}
"""Events of Python that no damaged file may cause."""


@dataclass(frozen=True)
class Ended:
    """How a command ended: its exit code, and the lines that it printed on standard error."""

    code: int
    lines: list[str]


def command(*words: str | Path) -> Ended:
    """Run the command line in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run_command([str(word) for word in words])
    out.getvalue().encode()  # what a terminal is given
    return Ended(code, err.getvalue().splitlines())


class Originals:
    """Runs that are not damaged, each made when it is first asked for."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._made: dict[str, Path] = {}

    def folder(self, name: str) -> Path:
        """Return the folder of a run, or of several."""
        if name not in self._made:
            folder = self._root / name
            words = [*RUNS[name].split(), *BEGIN.split()]
            words = [word for word in words if name != "study" or word not in ("--checkpoint-every", "3")]
            where = ["--logdir", folder] if name == "study" else ["--logdir", folder, "--name", "run"]
            ended = command(*words, *where)
            assert ended.code == 0, ended.lines
            if name == "norm":
                assert command("evaluate", folder / "run", "--ablate", "zero").code == 0
            self._made[name] = folder
        return self._made[name]


@pytest.fixture(scope="module")
def originals(tmp_path_factory: pytest.TempPathFactory) -> Originals:
    """The runs that are damaged."""
    return Originals(tmp_path_factory.mktemp("originals"))


class Watch:
    """What Python's audit events say is done while a command runs: programs, connections, files written outside.

    A hook stays until the process ends and slows down all that it does, so that the first block to be watched adds it.
    """

    def __init__(self) -> None:
        self.inside: Path | None = None
        self.found: list[str] = []
        self.added = False

    def _event(self, name: str, arguments: tuple[Any, ...]) -> None:
        if self.inside is None:
            return
        if name in FORBIDDEN:
            self.found.append(f"{name} {arguments!r}"[:200])
        elif name == "open" and isinstance(arguments[0], str | bytes) and isinstance(arguments[2], int):
            path = os.path.abspath(os.fsdecode(arguments[0]))
            writes = arguments[2] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if writes and not path.startswith(str(self.inside)) and path != os.devnull:
                self.found.append(f"writes {path}")

    @contextlib.contextmanager
    def on(self, folder: Path) -> Iterator[None]:
        """Watch a block, which may write into this folder alone."""
        if not self.added:
            sys.addaudithook(self._event)
            self.added = True
        self.inside, self.found = folder, []
        try:
            yield
        finally:
            self.inside = None
        assert not self.found, self.found


WATCH = Watch()


def contents(folder: Path) -> dict[str, bytes | str]:
    """Return the files below a folder: their contents, of links where they lead, of others nothing."""
    found: dict[str, bytes | str] = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name == "run.lock" or "/.step-" in f"/{name}":  # made and removed by whoever writes
            continue
        if path.is_symlink():
            found[name] = os.readlink(path)
        elif path.is_file():
            found[name] = path.read_bytes()
        elif not path.is_dir():
            found[name] = "special"
    return found


# --- what is done with a run --------------------------------------------------------------------------------


class Place(NamedTuple):
    """Where something is done: a run that may be damaged, the folder of the case, and the run as it was."""

    run: Path
    folder: Path
    original: Path


def once_more(case: Case, at: Place) -> list[str | Path]:
    """Ask for the same runs once more: those that are there are kept, or resumed."""
    name, logdir = at.original.parent.name, at.run.parent
    if name == "study":
        return [*RUNS[name].split(), "--steps", str(STEPS), "--logdir", logdir]
    stem = at.run.name.removesuffix("-s0").removesuffix("-s1")
    return [*RUNS[name].split(), *BEGIN.split(), "--logdir", logdir, "--name", stem, "--exist resume"]


ACTIONS: dict[str, Callable[[Case, Place], list[str | Path]]] = {
    "show": lambda case, at: ["show", at.run, *case.choice(((), ("--json",), ("--timeline",)))],
    "check": lambda case, at: ["check", at.run],
    "report": lambda case, at: ["report", case.choice((at.run, at.run.parent)), "-o", at.folder / "a.html"],
    "evaluate": lambda case, at: [
        "evaluate",
        at.run,
        *case.choice(((), ("--split", "train"), ("--links", "as_run"))),
    ],
    "export": lambda case, at: ["export", at.run, at.folder / "weights.safetensors"],
    "resume": lambda case, at: ["resume", at.run, *case.choice(((), ("--steps", str(STEPS + 2))))],
    "begin": once_more,
}
"""What is done with a run, beside `read`, as words of the command line."""


def read(case: Case, run: Path) -> Ended:
    """Read what the Channels tab and a notebook read."""
    reader: Callable[[], object] = case.choice(
        (lambda: read_run(run), lambda: History.read(run / "metrics.csv"))
    )
    logging.disable(logging.WARNING)
    try:
        reader()
    except AntiphonError as error:
        return Ended(2, [f"error: {error}"])
    finally:
        logging.disable(logging.NOTSET)
    return Ended(0, [])


TRUSTING = ("show", "check", "report", "evaluate", "export", "read")
"""What is done with files that somebody wrote by hand: what goes on from them is theirs."""
WRITING = ("resume", "begin")
_DAMAGED = re.compile(r"damaged|is missing|cannot be read|restore")


def try_one(case: Case, name: str, originals: Originals, folder: Path) -> None:
    """Damage a run of this name, do something with it, and check the answer."""
    source = originals.folder(name)
    runs = folder / name
    shutil.copytree(source, runs, symlinks=True)
    run = case.choice(sorted(path.parent for path in runs.glob("*/run.json")))
    damaged: list[Path] = []
    if forged := case.random() < 0.2:
        damaged += forge(case, run)
    for _ in range(0 if forged else case.choice((0, 1, 1, 1, 1, 1, 1, 2, 3))):
        damaged += damage(case, run)
    do = case.choice(TRUSTING if forged else (*TRUSTING, *WRITING, "resume", "resume"))
    case.log.append(f"{do} {name}/{run.name}")
    before = contents(runs)
    with WATCH.on(folder):
        if do == "read":
            ended = read(case, run)
        else:
            ended = command(*ACTIONS[do](case, Place(run, folder, source / run.name)))
    check_answer(ended, do)
    if not damaged and do not in ("evaluate", "export"):
        assert ended.code == 0, ended.lines
    blamed = [path for path in (source / run.name).rglob("*") if path.is_file()]
    names = {str(path.relative_to(runs)) for path in damaged}
    for line in ended.lines:
        if line.startswith("error: ") and _DAMAGED.search(line.replace(str(folder), "")):
            intact = [
                path.relative_to(source) for path in blamed if str(runs / path.relative_to(source)) in line
            ]
            assert not intact or any(
                {str(path), str(path.with_name("manifest.json")), str(path.parent), str(path.parents[1])}
                & names
                for path in intact
            ), line
    if do in TRUSTING or ended.code == 2:
        after = contents(runs)
        changed = [key for key in {**before, **after} if before.get(key) != after.get(key)]
        assert not changed, (changed, ended.lines, [(before.get(key), after.get(key)) for key in changed])


def check_answer(ended: Ended, do: str) -> None:
    """Check that an answer is a result, or one line that says what is wrong."""
    errors = [line for line in ended.lines if line.startswith("error: ")]
    assert ended.code in (0, 2, 3, 4), ended
    assert not any("Traceback" in line for line in ended.lines), ended
    if ended.code in (2, 4):
        assert errors == ended.lines[-len(errors) :], ended
        assert len(errors) == 1 or do == "check", ended
        assert all(len(line) <= LONGEST for line in errors), errors
    for line in ended.lines:
        line.encode()
        assert line.isprintable() or do == "resume", line


SHORT = ("norm", "reward")
"""Those of `make test`."""


@pytest.mark.long
@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in SHORT else pytest.mark.nightly) for n in RUNS]
)
def test_a_damaged_run_directory_gets_one_line(
    cases: Cases, originals: Originals, tmp_path: Path, name: str
) -> None:
    originals.folder(name)

    def one(case: Case) -> None:
        folder = tmp_path / f"case-{case.number}"
        folder.mkdir()
        try:
            try_one(case, name, originals, folder)
        finally:
            shutil.rmtree(folder)

    cases(one, default=2, factor=1.25)  # of eight runs, ten times as many as of another test
