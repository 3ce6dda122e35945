"""The run directory: what a run leaves on disk, written whole or not at all.

`scenario.yaml` (resolved), `run.json` (where it comes from, how it ended, and the manifest of the other files), `metrics.csv`,
TensorBoard's event files, `checkpoints/step-000000100/` (the newest two) and `checkpoints/best/`, `result.json` (what `--json`
prints). Loads without torch.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import json
import os
import platform
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from copy import deepcopy
from dataclasses import dataclass, field
from functools import cache, cached_property
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from antiphon.base.errors import RunError, ScenarioError, write_error
from antiphon.base.files import (
    cut,
    display_path,
    fitting,
    given_path,
    read_bytes,
    sync_folder,
    write_json,
    write_text,
    writing,
)
from antiphon.base.imports import COMMAND, ModuleError, with_imports
from antiphon.base.manifests import (
    DELETE,
    FORMAT,
    Entry,
    GrowingFile,
    check_entry,
    entry_of,
    read_checked,
    write_checked,
)
from antiphon.base.nearest_names import suggest
from antiphon.running.checkpoints import Checkpoints
from antiphon.running.lock import LOCK, DirectoryLock
from antiphon.running.recorders import call_each
from antiphon.scenarios import Scenario
from antiphon.scenarios.yaml_text import read, write

if TYPE_CHECKING:
    from antiphon.engine.live_system import LiveSystem
    from antiphon.telemetry.metrics import Recorder

EXIST = ("number", "overwrite", "resume", "error")
"""What a new run does where its directory already exists and is not empty: another name (x-2, x-3, …), the run there is removed or
resumed, or an error."""
_SCENARIO, _RUN, _RESULT = "scenario.yaml", "run.json", "result.json"
MEASURED = "measured.json"
EVALUATIONS = "evaluations.json"
"""A run's scores of other splits and links, of a study."""
POPULATION = "population.json"
"""In the folder of a population's members: its document, and which of them is best."""
STUDY = "study.json"
"""In the folder of a study's runs: its result, as `--json` prints it."""
_TABLES = ("metrics.csv", "parts.csv")
_EVENTS = "events.out.tfevents.*.antiphon"
"""Event files that a run writes; others in its directory are let alone."""
_MEASURED_EVENTS = "events.out.tfevents.*.measured"
_WRITTEN = (_EVENTS, _MEASURED_EVENTS, _SCENARIO, _RESULT, MEASURED, EVALUATIONS, *_TABLES, _RUN)
"""Files of a run beside its checkpoints, in the order in which they are removed."""
_PACKAGES = ("antiphon", "torch", "numpy", "gymnasium", "networkx", "pydantic", "tensorboard", "safetensors")
_KINDS: Mapping[str, Any] = {
    **dict.fromkeys(("scenario", "device", "dtype", "backend", "exit"), str),
    **dict.fromkeys(("seed", "steps", "step", "threads"), int),
    **dict.fromkeys(("files", "checkpoints"), dict),
    "seconds": (int, float),
}
"""Kinds of what every run.json has: a type, the keys of an object with theirs, or that of all items of a list."""
_KINDS_IF_THERE: Mapping[str, Any] = {
    **dict.fromkeys(("variant", "error", "reason", "started", "finished", "matmul_precision"), str),
    **dict.fromkeys(("values", "versions", "parts", "best"), dict),
    "template": {"source": str, "text": str},
    "command": [str],
    "together": [int],
    "alone_from": int,
    "stacked": bool,
    "capture": bool,
    "changes": [list],
    "weights": [{"step": int}],
    "own_modules": {"folder": str, "imports": [str]},
}
"""Kinds of what a run.json may have, or null."""


def _is_of(value: Any, kind: Any) -> bool:
    """Return whether a value of run.json is of a kind (`_KINDS`)."""
    if isinstance(kind, Mapping):
        return isinstance(value, Mapping) and all(_is_of(value.get(key), of) for key, of in kind.items())
    if isinstance(kind, list):
        return isinstance(value, list) and all(_is_of(item, kind[0]) for item in value)
    return isinstance(value, kind) and (kind is bool or not isinstance(value, bool))


def now() -> str:
    """Return the present time as ISO 8601, with the zone, to the second."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


_NO_DOCUMENT = "# No document: "
"""Beginning of a scenario.yaml whose scenario holds Python objects."""


def holds_objects(scenario: Scenario) -> bool:
    """Return whether a scenario holds Python objects, which no YAML file can."""
    try:
        scenario.to_yaml()
    except ScenarioError:
        return True
    return False


def scenario_text(scenario: Scenario) -> str:
    """Return the text of scenario.yaml: YAML, or under a comment the description of a scenario with Python objects."""
    try:
        return scenario.to_yaml()
    except ScenarioError as error:
        from antiphon.engine.state.compatibility import described_scenario

        return f"{_NO_DOCUMENT}{error}\n{write(described_scenario(scenario))}"


def run_folder(path: str | Path) -> Path:
    """Return the folder of a run: a folder itself, or where it is a population's, that of the best run in it."""
    path = given_path(path, "run")
    population = path / POPULATION
    best = read_checked(population).get("best") if population.is_file() else None
    return path if best is None else path / Path(str(best)).name


_DEEPEST_FILE = 3
"""Folders of a run above one of its files: `checkpoints/step-000000100/x` is of the third."""
_MOST_NAMED = 5
"""Runs of a folder in a line."""
LOGDIR = "runs"
"""The folder of runs for which none is named."""


def _run_meant(path: Path) -> str:
    """Return "; …" with runs that may be meant by a path without one: what it is a file of, those in it, a similar name beside it."""
    of_file = next((parent for parent in [*path.parents][:_DEEPEST_FILE] if (parent / _RUN).is_file()), None)
    if of_file is not None:
        return f"; did you mean '{display_path(of_file)}'?"
    folder = path if path.is_dir() else path.parent
    try:
        files = [file for name in (_RUN, POPULATION) for file in folder.glob(f"*/{name}")]
        runs = sorted(files, key=lambda file: file.stat().st_mtime)
    except OSError:
        return ""
    if runs and folder == path:
        newest = [display_path(file.parent) for file in reversed(runs[-_MOST_NAMED:])]
        more = f", … ({len(runs)} runs)" if len(runs) > len(newest) else ""
        shown = display_path(path)
        study = f"; it is a study: see {shown}/table.md or antiphon report {shown}"
        return f"{study * (path / STUDY).is_file()}; name one, such as {', '.join(newest)}{more}"
    begins = f"; antiphon run SCENARIO --name NAME writes one, {LOGDIR}/NAME"
    if folder == path:
        return begins
    below = [file for name in (_RUN, POPULATION) for file in folder.glob(f"{LOGDIR}/*/{name}")]
    names = [str(file.parent.relative_to(folder)) for file in (*runs, *below)]
    shown_folder = display_path(folder)
    return suggest(path.name, names, "" if shown_folder == os.curdir else f"{shown_folder}/") or begins


def is_free(path: Path) -> bool:
    """Return whether a new run can begin in a folder: there is nothing, or what a process left that was killed as it began one."""
    if not path.is_dir():
        return not os.path.lexists(path)
    names = {entry.name for entry in path.iterdir()}
    begun = {name for name in names if name.startswith((f".{_RUN}.", f".{_SCENARIO}.", f".{POPULATION}."))}
    return not names or (LOCK in names and names <= {LOCK, _SCENARIO, *begun})


def is_run(path: Path) -> bool:
    return (path / _RUN).is_file()


def check_exist(exist: str) -> None:
    if exist not in EXIST:
        raise ScenarioError(f"exist: {exist!r}; must be {', '.join(EXIST[:-1])} or {EXIST[-1]}")


def check_free(path: Path, exist: str = "error") -> None:
    """Raise RunError unless a new run can begin in a folder; ScenarioError where `exist` is none of `EXIST`."""
    check_exist(exist)
    if path.is_file():
        raise RunError(f"{path}: is a file, and a run is written to a folder; choose another name")
    if exist == "number" or is_free(path):
        return
    if exist != "overwrite":
        raise RunError(
            f"{path}: already exists and is not empty; choose another name, or --exist number ({path.name}-2), resume or "
            "overwrite (in Python exist=…)"
        )
    if not (path / _RUN).is_file():
        raise RunError(
            f"{path}: already exists and holds no run (no run.json), so it is not removed; choose another name"
        )


def claim(what: str, path: Path, exist: str = "number") -> tuple[Path, DirectoryLock]:
    """Return the folder of a new run, study or population, `path` or one numbered after it, and its lock; raises as `check_free`.

    Another name is printed on standard error.
    """
    for candidate in numbered(path):
        try:
            check_free(candidate, exist if exist == "overwrite" else "error")
            with ExitStack() as undo:
                lock = undo.enter_context(DirectoryLock(candidate))
                check_free(candidate, exist if exist == "overwrite" else "error")  # another may be faster
                undo.pop_all()
        except RunError:
            is_taken = not is_free(candidate) or os.path.lexists(candidate / LOCK)
            if exist == "number" and is_taken:
                continue
            raise
        if candidate != path:
            existing, written = display_path(path), display_path(candidate)
            write_error(f"{existing} already exists: this {what} is written to {written}")
        return candidate, lock
    raise AssertionError  # there is no last number


def numbered(path: Path) -> Iterator[Path]:
    """Yield `path`, and it with a number from 2 on."""
    yield path
    named = path if path.name.strip(".") else path.resolve()
    yield from (named.with_name(f"{named.name}-{number}") for number in count(2))


def first_free(path: Path) -> Path:
    """Return the first of the folders of `numbered` that is free."""
    return next(candidate for candidate in numbered(path) if is_free(candidate))


def remove_run(path: Path) -> None:
    """Remove what a run has written in a folder, run.json last, and the folder if nothing else is in it."""
    shutil.rmtree(path / "checkpoints", ignore_errors=True)
    for file in (file for name in _WRITTEN for file in [*path.glob(name)]):
        file.unlink()
    with suppress(OSError):  # a lock, or files of another's
        path.rmdir()


def function_of(source: str) -> str:
    """Return what the source of a template made in Python stands for on the command line: `MODULE:FUNCTION`, unless it can be imported."""
    return source if ":" in source else "MODULE:FUNCTION"


CONTINUES_POPULATION = "antiphon.population(…, logdir='{}', exist='resume')"
"""What continues a population in Python, `{}` being its folder."""


@dataclass(eq=False)
class RunDirectory:
    """A run on disk."""

    path: Path
    facts: dict[str, Any]
    """The content of run.json. Its `files` are the manifest: of a file that grows, the entry is of what it held at the newest
    checkpoint or at the end; its `checkpoints` have the entries of those files at each checkpoint that is kept."""
    _lock: DirectoryLock | None = field(default=None, repr=False)
    _growing: dict[str, GrowingFile] = field(default_factory=dict, repr=False)
    _document: str | None = field(default=None, repr=False)
    """The text of scenario.yaml where this process wrote it: it is not read again."""

    @classmethod
    def create(
        cls, path: str | Path, scenario: Scenario, facts: Mapping[str, Any], exist: str = "number"
    ) -> Self:
        """Make the folder with scenario.yaml and, last, run.json in it, locked (`lock`); on any failure nothing is left.

        Args:
            scenario: Resolved. One that holds Python objects is described, under a comment that says so.
            facts: For run.json.
            exist: Where the folder exists and is not empty (`EXIST`); another name is printed on standard error.
        """
        asked, text = given_path(path, "logdir"), scenario_text(scenario)
        with ExitStack() as undo, writing(asked):
            path, lock = claim("run", asked, exist)
            begun = {"format": FORMAT, **facts, "files": {}, "checkpoints": {}}
            directory = cls(path, begun, lock, _document=text)
            undo.callback(directory.release)
            if exist == "overwrite":
                remove_run(path)
            undo.callback(remove_run, path)
            write_text(path / _SCENARIO, text)
            directory.note(files={_SCENARIO: entry_of(path / _SCENARIO)})
            sync_folder(path.parent)
            undo.pop_all()
        return directory

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Return the run of a folder, or the best run of a population's.

        RunError where it holds none, a damaged one, or one of another format.
        """
        path = run_folder(path)
        file = path / _RUN
        if not os.path.lexists(file):
            raise RunError(f"{path}: no run there (a run directory holds run.json){_run_meant(path)}")
        facts = read_checked(file)
        with fitting(file):
            for key, kind in _KINDS.items():
                if not _is_of(facts[key], kind):
                    raise TypeError(f"{key} is {facts[key]!r}")
            for key, kind in _KINDS_IF_THERE.items():
                if facts.get(key) is not None and not _is_of(facts[key], kind):
                    raise TypeError(f"{key} is {facts[key]!r}")
        return cls(path, facts)

    def differences(self, **settings: Any) -> list[str]:
        """Return the differences between settings in run.json and those asked for: `backend is native, not cohort`."""
        recorded = {"stacked": True, **self.facts}  # earlier runs have no `stacked`
        return [
            f"{name} is {recorded.get(name)}, not {value}"
            for name, value in settings.items()
            if recorded.get(name) != value
        ]

    def check_same(self, of_settings: Sequence[str], of_scenario: Sequence[str] = ()) -> None:
        """Raise RunError where a run that is to be continued differs from the one asked for, in these lines."""
        if of_settings or of_scenario:
            listed = "; ".join([*of_scenario, *of_settings][:4])
            alternative = (
                "" if of_scenario else ", or continue it as it was run: antiphon resume, Simulation.resume"
            )
            raise RunError(
                f"{self.path}: holds another run ({listed}); choose another name or directory{alternative}"
            )

    def lock(self) -> None:
        """Keep others from writing here until `release`, read run.json anew, and remove what a killed process left.

        Raises:
            RunError: Another process writes here, or this one, or run.json is damaged.
        """
        self._lock = DirectoryLock(self.path)
        try:
            self.facts = type(self).open(self.path).facts
        except BaseException:
            self.release()
            raise
        self.checkpoints.restore()

    def release(self) -> None:
        """Let others write here; a second call does nothing."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    @property
    def inherited(self) -> bool:
        """Whether another process writes here, from which this one was forked."""
        return self._lock is not None and self._lock.inherited

    def check_own(self) -> None:
        """Raise RunError in a process that was forked from the one that writes here."""
        if self.inherited:
            raise RunError(
                f"{self.path}: the run is written by the process from which this one was forked; step a copy without a logdir "
                "here (simulation.fork()), or begin the run in this process"
            )

    def check_in_place(self) -> None:
        """Raise RunError where the directory that this process writes in is its parent's, was deleted, moved or replaced."""
        self.check_own()
        if self._lock is not None and not self._lock.in_place:
            raise RunError(
                f"{self.path}: was deleted or moved while the run was writing to it, so the run has stopped; if it was moved, "
                "continue from its latest checkpoint with `antiphon resume`"
            )

    # --- what is written ---------------------------------------------------------------------------------

    def note(self, **facts: Any) -> None:
        """Change facts and rewrite run.json if any does; RunError if it cannot be written or is not in place: no fact changes."""
        self.check_in_place()
        if self.facts | facts != self.facts:
            write_checked(self.path / _RUN, self.facts | facts)
            self.facts.update(deepcopy(facts))  # a list that the caller goes on with is another one

    def note_running(self, **facts: Any) -> None:
        """Note that the run is running, and has no result."""
        files = {name: entry for name, entry in self.facts["files"].items() if name != _RESULT}
        self.note(**facts, exit="running", finished=None, error=None, reason=None, files=files)

    def note_result(self, result: Mapping[str, Any], **facts: Any) -> None:
        """Write result.json and, last, how the run ended: a run that is killed before that has its end again."""
        self.check_in_place()
        write_json(self.path / _RESULT, result)
        files = {_SCENARIO: self.facts["files"][_SCENARIO], _RESULT: entry_of(self.path / _RESULT)}
        self.note(**facts, files={**files, **self._grown()})

    def checkpoint(self, running: LiveSystem, recorders: Iterable[Recorder] = ()) -> None:
        """Save what runs, and remove all checkpoints but the newest two.

        Args:
            recorders: Of its metrics, whose files are written out before.
        """
        self.check_in_place()
        call_each(recorders, "sync")
        destination, grown = self.checkpoints.at(running.now), self._grown()
        noted = self.facts["checkpoints"]
        names = [path.name for path in self.checkpoints.by_step.values()]
        still_there = {name: noted[name] for name in names if name in noted}
        # First the manifest: without it a checkpoint could not be gone on from, and without the checkpoint it says nothing wrong.
        self.note(
            step=running.now,
            files={**self.facts["files"], **grown},
            checkpoints={**still_there, destination.name: grown},
        )
        running.save(destination)
        self.checkpoints.trim()

    def keep_best(self, running: LiveSystem, best: Mapping[str, Any]) -> None:
        """Save what runs as the checkpoint `best`, in place of the one before, and then note what it is.

        No run is resumed from it: it may be of a step that a resumed run takes anew, to the same bits.
        """
        self.check_in_place()
        running.save(self.checkpoints.best)
        self.note(best=dict(best))

    def forget_best_after(self, step: int) -> bool:
        """Remove the checkpoint `best` where it is of a later step, which an earlier session took and this one takes otherwise.

        Returns:
            Whether it was.
        """
        best = self.facts.get("best")
        if best is None or best["step"] <= step:
            return False
        self.note(best=None)
        shutil.rmtree(self.checkpoints.best, ignore_errors=True)
        return True

    def _grown(self) -> dict[str, Entry]:
        """Return the entries of the files that grow, as they are now."""
        growing = self._growing_files()
        return {path.name: self._growing.setdefault(path.name, GrowingFile(path)).entry() for path in growing}

    def _growing_files(self) -> list[Path]:
        tables = [self.path / name for name in _TABLES]
        return [*filter(os.path.lexists, tables), *sorted(self.path.glob(_EVENTS))]

    def rewind(self, step: int) -> None:
        """Go back to a step, of a checkpoint or 0: what was written after it is dropped.

        Raises:
            RunError: There is no checkpoint of this step, or a file is not what was written by then; nothing has changed.
        """
        growing, name = self._growing_files(), self.checkpoints.at(step).name
        later = self.checkpoints.newest_step > step
        if step and name not in self.facts["checkpoints"]:
            raise RunError(
                f"{self.path}: run.json has no checkpoint of step {step:,}; resume from another one"
            )
        with fitting(self.path / _RUN):
            noted: dict[str, Entry] = self.facts["checkpoints"].get(name, {})
            restored = {path.name: noted[path.name] for path in growing if path.name in noted}
            fix = "restore it from a copy, or delete it, and a new one begins"
            for path in growing:
                if path.name in restored:
                    self._growing[path.name] = check_entry(path, restored[path.name], fix, exact=False)
        if not growing and not later:
            return
        fixed = (_SCENARIO,) if later else (_SCENARIO, _RESULT)
        self.note(files={**{name: e for name, e in self.facts["files"].items() if name in fixed}, **restored})
        for path in growing:
            with writing(path):
                if path.name in restored:
                    cut(path, restored[path.name]["bytes"])
                else:
                    path.unlink()
        self.checkpoints.remove_after(step)

    # --- what is read ------------------------------------------------------------------------------------

    def verified(self, name: str, fix: str = "restore it from a copy") -> Path:
        """Return the path of a file of the run, whose content is what was written; one that is not there is not looked at."""
        path = self.path / name
        entry = self.facts["files"].get(name)
        if entry is not None and os.path.lexists(path):
            grows = name not in (_SCENARIO, _RESULT) and _RESULT not in self.facts["files"]
            check_entry(path, entry, fix, exact=not grows)
        return path

    @property
    def document(self) -> str:
        """The text of scenario.yaml; RunError where it cannot be read."""
        if self._document is not None:
            return self._document
        path = self.verified(_SCENARIO)
        with fitting(path):
            return read_bytes(path).decode()

    @property
    def described(self) -> dict[str, Any] | None:
        """The scenario with a name in the place of each Python object; None: it holds none."""
        return self.values if self.has_objects else None

    @property
    def has_objects(self) -> bool:
        """Whether the scenario holds Python objects, and must be given; for RunError see `document`."""
        return self.document.startswith(_NO_DOCUMENT)

    @property
    def values(self) -> dict[str, Any]:
        """The data of scenario.yaml; RunError where it cannot be read, or is damaged."""
        try:
            return dict(read(self.document, str(self.path / _SCENARIO)).data)
        except ScenarioError as error:
            raise RunError(str(error)) from None

    @property
    def scenario(self) -> Scenario:
        """The scenario in scenario.yaml.

        Raises:
            RunError: It holds Python objects, and must be given.
            ScenarioError: scenario.yaml is damaged.
        """
        self.check_document()
        return Scenario.from_yaml(self.document, str(self.path / _SCENARIO))

    def check_document(self) -> None:
        """Raise RunError where the scenario holds Python objects, and must be given."""
        if self.has_objects:
            raise RunError(
                f"{self.path}: its scenario holds Python objects; give scenario=… "
                f"(on the command line: --scenario {function_of(self.source)}{self.of_modules})"
            )

    @property
    def source(self) -> str:
        """What its template is called: the name in the library, the file or `MODULE:FUNCTION`."""
        return str((self.facts.get("template") or {}).get("source"))

    @property
    def of_modules(self) -> str:
        """Where the modules of the user's own are that the run was started with, as ", in FOLDER"; empty: none, or it is this folder."""
        folder = (self.facts.get("own_modules") or {}).get("folder")
        return "" if folder in (None, os.getcwd()) else f", in {display_path(folder)}"

    @contextmanager
    def importing(self) -> Iterator[None]:
        """Name, where a module is not found or may not be imported, the command with the run's folder and imports."""
        try:
            yield
        except ModuleError as error:
            own_modules = self.facts.get("own_modules")
            if own_modules is None or not Path(own_modules["folder"]).is_dir():
                raise
            folder = f"PYTHONPATH={shlex.quote(own_modules['folder'])} " if self.of_modules else ""
            command = with_imports(f"antiphon {COMMAND}", own_modules["imports"])
            started = f"as this run was started: {folder}{command}"
            raise ModuleError(str(error).partition("; ")[0], started) from None

    @property
    def result(self) -> dict[str, Any] | None:
        """The content of result.json; None where there is none (yet); RunError where it is damaged."""
        path = self.path / _RESULT
        if _RESULT not in self.facts["files"] or not os.path.lexists(path):
            return None
        with fitting(self.verified(_RESULT, DELETE)):
            return dict(json.loads(read_bytes(path)))

    @property
    def has_events(self) -> bool:
        """Whether there is an event file of an earlier session, with what is written once per folder."""
        return any(self.path.glob(_EVENTS))

    @property
    def as_member(self) -> str | None:
        """The run as a population's member in words, `member-3, the winner of population pole`; None where it is none."""
        path = self.path.resolve()
        population = path.parent / POPULATION
        if not population.is_file():
            return None
        facts = read_checked(population)
        role = "the winner" if facts.get("best") == path.name else "a member"
        with fitting(population):
            return f"{path.name}, {role} of population {facts['document']['population']}"

    def check_no_member(self, whole: str, alone: str = "") -> None:
        """Raise RunError where the run is one of a population, whose members only continue together.

        Args:
            whole: What continues a population, `{}` being its folder.
            alone: What opens a member alone, `{}` being its folder; empty: nothing.
        """
        if self.as_member is not None:
            continues = f"{whole.format(display_path(self.path.resolve().parent))} continues it"
            opens = f", {alone.format(display_path(self.path))} opens this one alone" if alone else ""
            raise RunError(
                f"{display_path(self.path)}: is one of a population, whose members continue together; {continues}{opens}"
            )

    @cached_property
    def checkpoints(self) -> Checkpoints:
        return Checkpoints(self.path)


@cache
def versions() -> dict[str, str]:
    """Return the versions of Python and of the packages that compute."""
    version_by_package = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            version_by_package[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            version_by_package[package] = "not installed"
    return version_by_package


@cache
def commit() -> str | None:
    """Return the commit of the checkout that this code runs from; None where it was installed otherwise."""
    root = Path(__file__).resolve().parents[1]
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), "rev-parse", "--verify", "--quiet", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
