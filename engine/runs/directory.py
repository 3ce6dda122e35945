"""The run directory: what a run leaves on disk, written whole or not at all.

`scenario.yaml` (resolved), `run.json` (where it comes from and how it ended), `metrics.csv`, TensorBoard's event files,
`checkpoints/step-000000100/` (the newest two), `result.json` (what `--json` prints). Loads without torch.
"""

from __future__ import annotations

import datetime
import importlib.metadata
import os
import platform
import shutil
import subprocess
import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from antiphon.engine.runs.facts import check_facts, check_result
from antiphon.engine.runs.lock import DirectoryLock, remove_abandoned, remove_temporary
from antiphon.errors import RunError, ScenarioError
from antiphon.files import (
    DELETE,
    check_folder,
    read_object,
    read_text,
    sync_folder,
    unwritable,
    write_json,
    write_json_over,
    write_text,
)
from antiphon.formats import FORMATS, check_format, check_formats, migrated, versions
from antiphon.scenarios import Scenario
from antiphon.scenarios.yaml_text import read, write

if TYPE_CHECKING:
    from antiphon.engine.base_simulation import BaseSimulation

__all__ = [
    "FORMAT",
    "RunDirectory",
    "facts_of",
    "holds_objects",
    "now",
    "scenario_text",
]

FORMAT = FORMATS["run"].version
"""Version of run.json and the layout of a run directory."""
_KEPT = 2
"""How many checkpoints are kept."""
_PACKAGES = ("antiphon", "torch", "numpy", "gymnasium", "networkx", "pydantic", "tensorboard", "safetensors")


def now() -> str:
    """Return the present time as ISO 8601, with the zone, to the second."""
    return datetime.datetime.now().astimezone().isoformat(timespec="seconds")


_NO_DOCUMENT = "# No document: "
"""Beginning of a scenario.yaml whose scenario holds Python objects."""


def holds_objects(scenario: Scenario) -> bool:
    """Return whether a scenario holds Python objects, which no document can."""
    try:
        scenario.to_yaml()
    except ScenarioError:
        return True
    return False


def scenario_text(scenario: Scenario) -> str:
    """Return the text of scenario.yaml: a document, or under a comment the description of a scenario with Python objects."""
    try:
        return scenario.to_yaml()
    except ScenarioError as error:
        from antiphon.engine.state.described_scenario import described_scenario

        return f"{_NO_DOCUMENT}{error}\n{write(described_scenario(scenario))}"


def _objects(described: Any, place: str) -> Iterator[str]:
    """Yield the places of Python objects in the description of a scenario."""
    if isinstance(described, Mapping) and described.keys() == {"python", "digest"}:
        yield place
    elif isinstance(described, Mapping | list):
        items = described.items() if isinstance(described, Mapping) else enumerate(described)
        for key, value in items:
            yield from _objects(value, f"{place}.{key}" if place else str(key))


@dataclass(eq=False)
class RunDirectory:
    """A run on disk."""

    path: Path
    facts: dict[str, Any]
    """The content of run.json."""
    _lock: DirectoryLock | None = field(default=None, repr=False)

    @classmethod
    def create(
        cls,
        path: str | Path,
        scenario: Scenario,
        facts: Mapping[str, Any],
        simulation: BaseSimulation | None = None,
    ) -> Self:
        """Make the folder with scenario.yaml and run.json in it, locked (`lock`); on any failure nothing is left.

        Args:
            path: A folder that is not there yet, or empty.
            scenario: Resolved. One that holds Python objects is described, under a comment that says so.
            facts: For run.json.
            simulation: Its first checkpoint; None: it begins at step 0, without one.

        Raises:
            RunError: The folder holds something, or cannot be written.
        """
        path = Path(path)
        directory = cls(path, {"format": FORMAT, "formats": versions(), **facts})
        made = path.with_name(f".{path.name}.{uuid.uuid4().hex[:8]}")
        try:
            if path.is_dir() and any(path.iterdir()):
                raise RunError(
                    f"{path}: is there already and not empty; choose another directory for a new run"
                )
            remove_abandoned(path.parent)
            made.mkdir(parents=True)
            directory._lock = DirectoryLock(made)
            write_text(made / "scenario.yaml", scenario_text(scenario))
            write_json(made / "run.json", directory.facts)
            if simulation is not None:
                simulation.save(_checkpoint_path(made, simulation.now))
            if path.is_dir():
                path.rmdir()
            made.rename(path)
            directory._lock.follow(path)
            sync_folder(path.parent)
        except BaseException as error:
            directory.release()
            if isinstance(error, OSError):
                raise unwritable(path, error) from None
            raise
        finally:
            shutil.rmtree(made, ignore_errors=True)
        return directory

    @classmethod
    def open(cls, path: str | Path) -> Self:
        """Return the run of a folder; RunError where it holds none, a damaged one, or one of a newer format."""
        path = Path(path)
        if not os.path.lexists(path / "run.json"):
            raise RunError(f"{path}: no run there (a run directory holds run.json)")
        facts = read_object(path / "run.json", _check_run)
        written = facts.get("versions")
        writer = written.get("antiphon") if isinstance(written, dict) else None
        check_format("run", facts["format"], path / "run.json", writer)
        check_formats(facts.get("formats", {}), path / "run.json", writer)
        return cls(path, migrated("run", facts, facts["format"]))

    def lock(self) -> None:
        """Keep others from writing here until `release`, read run.json anew, and remove what a killed process left.

        Raises:
            RunError: Another process writes here, or this one (the line says which), or run.json is damaged.
        """
        self._lock = DirectoryLock(self.path)
        try:
            self.facts = type(self).open(self.path).facts
        except BaseException:
            self.release()
            raise
        if not self.path.is_symlink():
            remove_temporary(self.path)
        for path in (self.path / "checkpoints").glob(".step-*"):
            whole = path.with_name(path.name.removeprefix(".").removesuffix(".old"))
            if path.suffix == ".old" and not whole.exists():  # it was killed while it replaced this one
                path.rename(whole)
            shutil.rmtree(path, ignore_errors=True)

    def release(self) -> None:
        """Let others write here; a second call does nothing."""
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def tidy(self) -> None:
        """Remove what a process left that was killed after the run's end was written, if nobody writes here and it can be."""
        with suppress(RunError, OSError):
            self.lock()
            self.release()

    def check_in_place(self) -> None:
        """Raise RunError where the directory that this process writes in was deleted, moved or replaced by another."""
        if self._lock is not None and not self._lock.in_place:
            raise RunError(
                f"{self.path}: was deleted or moved while the run wrote there, and the run has stopped; one that was moved "
                "goes on from its latest checkpoint with `antiphon resume`"
            )

    def note(self, **facts: Any) -> None:
        """Change facts and rewrite run.json; RunError as of `check_in_place`, or where it cannot be written."""
        self.facts.update(facts)
        self.check_in_place()
        write_json(self.path / "run.json", self.facts)

    def note_end(self, **facts: Any) -> None:
        """Change facts and rewrite run.json, on a full disk in the space that it has; RunError as of `note`."""
        try:
            self.note(**facts)
        except RunError:
            self.check_in_place()
            write_json_over(self.path / "run.json", self.facts)

    @property
    def document(self) -> str:
        """The text of scenario.yaml; RunError where it cannot be read."""
        return read_text(self.path / "scenario.yaml")

    @property
    def described(self) -> dict[str, Any] | None:
        """The scenario with a digest in the place of each Python object; None: it holds none, scenario.yaml is a document.

        Raises:
            RunError: scenario.yaml cannot be read, or is damaged.
        """
        document = self.document
        if not document.startswith(_NO_DOCUMENT):
            return None
        if all(line.startswith("#") for line in document.splitlines()):  # of a version that described nothing
            return {}
        try:
            return dict(read(document, str(self.path / "scenario.yaml")).data)
        except ScenarioError as error:
            raise RunError(str(error)) from None

    @property
    def values(self) -> dict[str, Any]:
        """The data of scenario.yaml; empty where a version that described no Python objects has left a note only.

        Raises:
            RunError: It cannot be read, or is damaged.
        """
        described = self.described
        try:
            return (
                dict(read(self.document, str(self.path / "scenario.yaml")).data)
                if described is None
                else described
            )
        except ScenarioError as error:
            raise RunError(str(error)) from None

    @property
    def not_recorded(self) -> list[str]:
        """The places in the scenario of Python objects, whose code is not recorded; RunError as of `values`."""
        described = self.described
        return ["the whole scenario"] if described == {} else list(_objects(described, ""))

    @property
    def scenario(self) -> Scenario:
        """The scenario of a document.

        Raises:
            RunError: It holds Python objects, and must be given.
            ScenarioError: scenario.yaml is damaged.
        """
        self.check_document()
        return Scenario.from_yaml(self.document, str(self.path / "scenario.yaml"))

    def check_document(self) -> None:
        """Raise RunError where the scenario holds Python objects, and must be given."""
        if self.document.startswith(_NO_DOCUMENT):
            raise RunError(
                f"{self.path}: its scenario holds Python objects; give scenario=… "
                "(on the command line: --scenario MODULE:FUNCTION)"
            )

    @property
    def result(self) -> dict[str, Any] | None:
        """The content of result.json; None where there is none (yet); RunError where it is damaged."""
        return read_object(self.path / "result.json", check_result, DELETE) or None

    @property
    def checkpoints(self) -> list[Path]:
        """The checkpoints, oldest first."""
        check_folder(self.path / "checkpoints")
        found = (self.path / "checkpoints").glob("step-*")
        return sorted(
            path
            for path in found
            if path.name.removeprefix("step-").isdecimal() and (path / "state.json").exists()
        )

    @property
    def checkpoint_step(self) -> int:
        """The step that the run goes on from: that of the newest checkpoint, else 0."""
        found = self.checkpoints
        return int(found[-1].name.removeprefix("step-")) if found else 0

    def checkpoint(self, simulation: BaseSimulation) -> None:
        """Save the simulation, and remove all checkpoints but the newest two, and what a killed process left half written.

        Raises:
            RunError: As of `note`; what was there before is there still.
        """
        self.check_in_place()
        folder = self.path / "checkpoints"
        for recorder in simulation.recorders:
            recorder.sync()
        simulation.save(_checkpoint_path(self.path, simulation.now))
        for path in self.checkpoints[:-_KEPT]:
            with suppress(OSError):
                path.rename(
                    path.with_name(f".{path.name}.gone")
                )  # a kill leaves no half of it under its name
        for path in folder.glob(".step-*"):
            shutil.rmtree(path, ignore_errors=True)
        self.note(step=simulation.now)


def _checkpoint_path(run: Path, step: int) -> Path:
    return run / "checkpoints" / f"step-{step:09d}"


def facts_of(
    scenario: Scenario,
    *,
    seed: int,
    device: str,
    dtype: str = "float32",
    threads: int = 1,
    backend: str = "cohort",
    variants: Iterable[Scenario] = (),
) -> dict[str, Any]:
    """Return the content of run.json for a run that begins now, but for its template; `variants` is that of `advice`."""
    from torch import get_float32_matmul_precision

    from antiphon.engine.planning.advice import advice

    return {
        "scenario": scenario.scenario,
        "seed": seed,
        "steps": scenario.training.steps,
        "device": device,
        "dtype": dtype,
        "matmul_precision": get_float32_matmul_precision(),
        "threads": threads,
        "backend": backend,
        "versions": _versions(),
        "git": _commit(),
        "warnings": advice(scenario, variants),
        "started": now(),
        "finished": None,
        "seconds": 0.0,
        "step": 0,
        "exit": "running",
        "error": None,
    }


def _check_run(facts: dict[str, Any]) -> None:
    """Raise ValueError or KeyError where run.json of the present version is no such file; others may be anything."""
    if facts["format"] == FORMATS["run"].version:
        check_facts(facts)


def _versions() -> dict[str, str]:
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            found[package] = "not installed"
    return found


def _commit() -> str | None:
    """Return the commit of the checkout that this code runs from; None where it was installed otherwise."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    try:
        command = ["git", "-C", str(root), "rev-parse", "--verify", "--quiet", "HEAD"]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
