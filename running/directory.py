"""The run directory: what a run leaves on disk, written whole or not at all.

`scenario.yaml` (resolved), `run.json` (where it comes from, and how it ended), `metrics.csv`, TensorBoard's event files,
`checkpoints/step-000000100/` (the newest two, each with the sizes of the files that grow) and `checkpoints/best/`, `result.json`
(what `--json` prints). Loads without torch.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import platform
import shutil
from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from antiphon.base.errors import DivergenceError, RunError, ScenarioError, write_error
from antiphon.base.files import (
    FORMAT,
    SIZES,
    VERSION,
    checkpoints,
    cut,
    display_path,
    given_path,
    read_json,
    reading,
    remove_temporary,
    sync_folder,
    write_json,
    write_text,
    writing,
)
from antiphon.running.callbacks import Outcome
from antiphon.scenarios import Scenario
from antiphon.scenarios.yaml_text import read, write
from antiphon.telemetry.metrics import Recorder, call_each

if TYPE_CHECKING:
    from antiphon.engine.live_system import LiveSystem

EXIST = ("number", "resume", "overwrite")
"""What a new run does where its directory already exists and is not empty: another name (x-2, x-3, …), or the run there is
resumed or removed."""
_SCENARIO, _RUN, _RESULT = "scenario.yaml", "run.json", "result.json"
POPULATION = "population.json"
"""In the folder of a population's members: its document, and which of them is best."""
_TABLES = ("metrics.csv", "parts.csv")
_EVENTS = "events.out.tfevents.*.antiphon"
"""Event files that a run writes; others in its directory are let alone."""
_KEPT = 2
"""How many checkpoints are kept, but for the best one."""
_PACKAGES = ("torch", "numpy", "gymnasium", "networkx", "pydantic", "tensorboard", "safetensors")
LOCK = "run.lock"
_NO_DOCUMENT = "# No document: "
"""Beginning of a scenario.yaml whose scenario holds Python objects."""


def now() -> str:
    """Return the present time as ISO 8601, with the zone, to the second."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


def scenario_text(scenario: Scenario) -> str:
    """Return the text of scenario.yaml: YAML, or under a comment the description of a scenario with Python objects."""
    try:
        return scenario.to_yaml()
    except ScenarioError as error:
        from antiphon.engine.state.compatibility import described_scenario

        return f"{_NO_DOCUMENT}{error}\n{write(described_scenario(scenario))}"


def run_folder(path: str | Path) -> Path:
    """Return the folder of a run: a folder itself, or where it is a population's, that of the best run in it."""
    path = given_path(path)
    population = path / POPULATION
    best = read_json(population).get("best") if population.is_file() else None
    return path if best is None else path / best


def is_run(path: Path) -> bool:
    return (path / _RUN).is_file()


def is_free(path: Path) -> bool:
    """Return whether a new run can begin in a folder: there is nothing, or what a process left that was killed as it began one."""
    if not path.is_dir():
        return not path.exists()
    names = {entry.name for entry in path.iterdir()}
    return not names or (LOCK in names and all(name[0] == "." or name in (LOCK, _SCENARIO) for name in names))


def check_exist(exist: str) -> None:
    if exist not in EXIST:
        raise ScenarioError(f"exist: {exist!r}; must be {', '.join(EXIST[:-1])} or {EXIST[-1]}")


def check_free(path: Path, *, overwrite: bool = False) -> None:
    """Raise RunError unless a new run can begin in a folder, or `overwrite` one that is there."""
    if is_free(path) or (overwrite and is_run(path)):
        return
    fix = "holds no run (no run.json), so it is not removed" if overwrite else "is not empty"
    raise RunError(f"{path}: already exists and {fix}; choose another name")


def numbered(path: Path) -> Iterator[Path]:
    """Yield `path`, and it with a number from 2 on."""
    yield path
    named = path if path.name.strip(".") else path.resolve()
    yield from (named.with_name(f"{named.name}-{number}") for number in count(2))


def first_free(path: Path) -> Path:
    """Return the first of the folders of `numbered` that is free."""
    return next(filter(is_free, numbered(path)))


def remove_run(path: Path) -> None:
    """Remove what is in the folder of a run but for its lock, run.json last, and the folder if it is not locked."""
    for entry in sorted(path.glob("*"), key=lambda entry: entry.name == _RUN):
        if entry.is_dir():
            shutil.rmtree(entry)
        elif entry.name != LOCK:
            entry.unlink()
    with suppress(OSError):  # locked
        path.rmdir()


def function_of(source: str) -> str:
    """Return what the source of a template made in Python stands for on the command line: `MODULE:FUNCTION`, unless it can be imported."""
    return source if ":" in source else "MODULE:FUNCTION"


class DirectoryLock:
    """The right to write in a directory, held until `release`, or the end of its context or of the process.

    The directory is made if need be. What killed processes left half-written is removed.

    Raises:
        RunError: Another process has it, or this one already, or the file cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        from filelock import FileLock, Timeout  # slower to import than most commands that only read

        self._folder, self._lock = folder, FileLock(folder / LOCK, timeout=0, thread_local=False)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            try:
                self._lock.acquire()
            except Timeout:
                line = "is being written by another process, or by a simulation in this one; wait until it has ended"
                raise RunError(f"{folder}: {line}") from None
            remove_temporary(folder)

    def release(self) -> None:
        """Give it up, and remove the file, and the directory where nothing is in it; a second call does nothing."""
        if self._lock.is_locked:
            with suppress(OSError):
                (self._folder / LOCK).unlink()
            self._lock.release()
            with suppress(OSError):
                self._folder.rmdir()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


@dataclass(eq=False)
class RunDirectory:
    """A run on disk."""

    path: Path
    facts: dict[str, Any]
    """The content of run.json."""
    _lock: DirectoryLock | None = field(default=None, repr=False)

    @classmethod
    def create(cls, path: Path, running: LiveSystem, facts: Mapping[str, Any], exist: str = "number") -> Self:
        """Make the folder of a run that begins, locked, with scenario.yaml and, last, run.json in it; RunError, and nothing is left."""
        scenario, text = running.scenario, scenario_text(running.scenario)
        with ExitStack() as undo, writing(path):
            asked, path = path, first_free(path) if exist == "number" else path
            check_free(path, overwrite=exist == "overwrite")
            lock = DirectoryLock(path)
            undo.callback(lock.release)
            if path != asked:
                there = f"{display_path(asked)} already exists"
                write_error(f"{there}: this run is written to {display_path(path)}")
            if exist == "overwrite":
                remove_run(path)
            undo.callback(remove_run, path)
            write_text(path / _SCENARIO, text)
            directory = cls(path, {}, lock)
            beginning: dict[str, Any] = {
                "format": FORMAT,
                "scenario": scenario.scenario,
                "steps": scenario.training.steps,
                **running.settings.facts,
                "versions": versions(),
                "started": now(),
                "finished": None,
                "seconds": 0.0,
                "step": 0,
                "exit": "running",
                "error": None,
                "reason": None,
            }
            directory.note(**{**beginning, **facts})
            sync_folder(path.parent)
            undo.pop_all()
        return directory

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Return the run of a folder, or the best of a population's; RunError where there is none, or one of another format."""
        path = run_folder(path)
        if not is_run(path):
            raise RunError(f"{path}: no run there (a run directory holds run.json)")
        return cls(path, read_json(path / _RUN))

    def check_same(self, scenario: Scenario, settings: Mapping[str, Any] | None = None) -> Scenario:
        """Return a scenario with the delays and bits that the run in parts chose; RunError where the run, or its settings, is another."""
        from antiphon.engine.state import compatibility  # torch

        saved = self.values if self.has_objects else compatibility.described_scenario(self.scenario)
        scenario = compatibility.with_saved_links(scenario, saved)
        difference = compatibility.difference_in_words(saved, compatibility.described_scenario(scenario))
        facts = self.facts
        lines = [
            *([] if difference is None else [f"scenario: {difference}"]),
            *(f"{k} is {facts.get(k)}, not {v}" for k, v in (settings or {}).items() if facts.get(k) != v),
        ]
        if lines:
            fix = "choose another name, or give the scenario and settings that it was started with"
            raise RunError(f"{self.path}: holds another run ({'; '.join(lines[:3])}); {fix}")
        return scenario

    def lock(self) -> None:
        """Keep others from writing here until `release`, read run.json anew, and remove what a killed process left."""
        self._lock = DirectoryLock(self.path)
        self.facts = read_json(self.path / _RUN)
        for path in self._checkpoint_folder.glob(".*"):
            complete = path.with_name(path.name.removeprefix(".").removesuffix(".old"))
            if path.suffix == ".old" and not complete.exists():
                path.rename(complete)
            shutil.rmtree(path, ignore_errors=True)

    def remove(self) -> None:
        """Remove what the run has written, and let others write here."""
        remove_run(self.path)
        self.release()

    def release(self) -> None:
        """Let others write here; a second call does nothing."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    # --- what is written ---------------------------------------------------------------------------------

    def note(self, **facts: Any) -> None:
        """Change facts and rewrite run.json if any does; RunError if it cannot be written: no fact changes."""
        if self.facts | facts != self.facts:
            write_json(self.path / _RUN, self.facts | facts)
            self.facts.update(deepcopy(facts))  # a list that the caller goes on with is another one

    def note_running(self, **facts: Any) -> None:
        """Note that the run is running, and has no result."""
        self.note(**facts, exit="running", finished=None, error=None, reason=None)
        (self.path / _RESULT).unlink(missing_ok=True)

    def note_result(self, result: Mapping[str, Any], **facts: Any) -> None:
        """Write result.json and, last, how the run ended: a run that is killed before that has its end again."""
        write_json(self.path / _RESULT, result)
        self.note(**facts)

    # --- checkpoints -------------------------------------------------------------------------------------

    @property
    def _checkpoint_folder(self) -> Path:
        return self.path / "checkpoints"

    @property
    def checkpoints(self) -> dict[int, Path]:
        """The checkpoints that the run continues from by step, the oldest first."""
        return {int(path.name.removeprefix("step-")): path for path in checkpoints(self.path)}

    @property
    def newest_step(self) -> int:
        """The step that the run continues from: that of the newest checkpoint, else 0."""
        return max(self.checkpoints, default=0)

    def find_checkpoint(self, name: str) -> Path:
        """Return the path of a checkpoint by its name, such as `best`; RunError where there is none."""
        if not (path := self._checkpoint_folder / name).is_dir():
            raise RunError(f"{self.path}: no checkpoint '{name}'")
        return path

    def checkpoint(self, running: LiveSystem, recorders: Iterable[Recorder] = ()) -> None:
        """Save what runs with the sizes of the files that grow, written out before, and remove all checkpoints but the newest two."""
        running.save(self._at(running.now), self._sizes(recorders))
        self.note(step=running.now)
        self._remove([*self.checkpoints.values()][:-_KEPT])

    def note_sizes(self, step: int, recorders: Iterable[Recorder]) -> None:
        """Have a run that continues from a step's checkpoint keep what recorders have written since."""
        write_json(self._at(step) / SIZES, self._sizes(recorders))

    def _at(self, step: int) -> Path:
        return self._checkpoint_folder / f"step-{step:09d}"

    def _sizes(self, recorders: Iterable[Recorder]) -> dict[str, int]:
        call_each(recorders, "sync")
        return {path.name: path.stat().st_size for path in self._growing()}

    def _remove(self, paths: Iterable[Path]) -> None:
        """Remove checkpoints; a kill leaves no half of one under its name."""
        for path in paths:
            path.rename(path.with_name(f".{path.name}.gone"))
        for path in self._checkpoint_folder.glob(".step-*"):
            shutil.rmtree(path, ignore_errors=True)

    def keep_best(self, running: LiveSystem, best: Mapping[str, Any]) -> None:
        """Save what runs as the checkpoint `best`, in place of the one before, and then note what it is.

        No run is resumed from it: it may be of a step that a resumed run takes anew, to the same bits.
        """
        running.save(self._checkpoint_folder / "best")
        self.note(best=dict(best))

    def _growing(self) -> list[Path]:
        tables = [self.path / name for name in _TABLES]
        return [*(path for path in tables if path.exists()), *sorted(self.path.glob(_EVENTS))]

    def rewind(self, step: int) -> None:
        """Go back to a step, of a checkpoint or 0: what was written after it is dropped."""
        saved = self.checkpoints
        sizes = read_json(saved[step] / SIZES) if step in saved else {}
        if self.newest_step > step:
            (self.path / _RESULT).unlink(missing_ok=True)
            self._remove(path for later, path in saved.items() if later > step)  # they are of longer files
        for path in self._growing():
            with writing(path):
                cut(path, sizes[path.name]) if path.name in sizes else path.unlink()

    # --- what is read ------------------------------------------------------------------------------------

    @property
    def document(self) -> str:
        """The text of scenario.yaml; RunError where it cannot be read."""
        path = self.path / _SCENARIO
        with reading(path):
            return path.read_text(encoding="utf-8")

    @property
    def has_objects(self) -> bool:
        """Whether the scenario holds Python objects, and must be given; for RunError see `document`."""
        return self.document.startswith(_NO_DOCUMENT)

    @property
    def values(self) -> dict[str, Any]:
        """The data of scenario.yaml; for RunError see `document`; ScenarioError where it is damaged."""
        return dict(read(self.document, str(self.path / _SCENARIO)).data)

    @property
    def scenario(self) -> Scenario:
        """The scenario in scenario.yaml; RunError where it holds Python objects, ScenarioError where it is damaged."""
        self.check_document()
        return Scenario.from_yaml(self.document, str(self.path / _SCENARIO))

    def check_document(self) -> None:
        """Raise RunError where the scenario holds Python objects, and must be given."""
        if self.has_objects:
            raise RunError(
                f"{self.path}: its scenario holds Python objects; give scenario=… "
                f"(on the command line: --scenario {function_of(self.source)})"
            )

    @property
    def source(self) -> str:
        """What its template is called: the name in the library, the file or `MODULE:FUNCTION`."""
        return str((self.facts.get("template") or {}).get("source"))

    @property
    def result(self) -> dict[str, Any] | None:
        """The content of result.json; None where there is none (yet)."""
        path = self.path / _RESULT
        return read_json(path) if self.facts["exit"] != "running" and path.is_file() else None

    def outcome(self, until: int, *, beyond: bool = False) -> Outcome | None:
        """Return how the run ended; None where it goes on to a step, with `beyond` also where it was stopped early."""
        facts, result = self.facts, self.result
        if result is None:
            return None
        if facts["exit"] == "diverged":
            error = f"{self.path}: diverged and would do so again: {facts['error']}"
            return Outcome("diverged", DivergenceError.exit_code, error, result)
        at_end = facts["step"] >= until or (facts["reason"] and not beyond)
        return Outcome("done", result=result) if facts["exit"] == "done" and at_end else None

    @property
    def has_events(self) -> bool:
        """Whether there is an event file of an earlier session, with what is written once per folder."""
        return any(self.path.glob(_EVENTS))

    def check_no_member(self) -> None:
        """Raise RunError where the run is one of a population, whose members only continue together."""
        folder = self.path.resolve().parent
        if (folder / POPULATION).is_file():
            line = "is one of a population, whose members continue together: antiphon resume"
            raise RunError(f"{display_path(self.path)}: {line} {display_path(folder)}")


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that compute."""
    return {
        "python": platform.python_version(),
        "antiphon": VERSION,
        **{package: importlib.metadata.version(package) for package in _PACKAGES},
    }
