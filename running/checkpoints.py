"""The checkpoints in a run's directory: how many are kept, which is the best, and what a kill leaves. Loads without torch."""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from pathlib import Path

from antiphon.base.errors import RunError
from antiphon.base.files import SIZES, checkpoints, read_json
from antiphon.base.nearest_names import suggest

_KEPT = 2
"""How many checkpoints are kept, but for the best one."""


class Checkpoints:
    """The folder of a run's checkpoints.

    Attributes:
        best: The place of the one that was best by `training.evaluate.keep_best`, from which no run continues.
    """

    def __init__(self, run: Path) -> None:
        self._run, self._folder = run, run / "checkpoints"
        self.best = self._folder / "best"

    @property
    def by_step(self) -> dict[int, Path]:
        """The checkpoints that a run continues from, the oldest first."""
        return {int(path.name.removeprefix("step-")): path for path in checkpoints(self._run)}

    @property
    def newest_step(self) -> int:
        """The step that the run continues from: that of the newest checkpoint, else 0."""
        return max(self.by_step, default=0)

    def at(self, step: int) -> Path:
        return self._folder / f"step-{step:09d}"

    def sizes(self, step: int) -> dict[str, int]:
        """Return the bytes of the files that grow at the checkpoint of a step; none where there is no such checkpoint."""
        file = self.at(step) / SIZES
        return read_json(file) if file.is_file() else {}

    def find(self, name: str | None = None) -> Path:
        """Return the path of a checkpoint by its name, such as `best`; None: of the newest, as `Simulation.load` takes it."""
        if name is None:
            return self._run
        path_by_name = {path.name: path for path in (*self.by_step.values(), self.best) if path.is_dir()}
        if name not in path_by_name:
            raise RunError(f"{self._run}: no checkpoint '{name}'{suggest(name, path_by_name)}")
        return path_by_name[name]

    def trim(self) -> None:
        """Remove all but the newest two and the best."""
        self._remove([*self.by_step.values()][:-_KEPT])

    def remove_after(self, step: int) -> None:
        self._remove(path for later, path in self.by_step.items() if later > step)

    def _remove(self, paths: Iterable[Path]) -> None:
        """Remove checkpoints; a kill leaves no half of one under its name."""
        for path in paths:
            path.rename(path.with_name(f".{path.name}.gone"))
        for path in self._folder.glob(".step-*"):
            shutil.rmtree(path, ignore_errors=True)

    def restore(self) -> None:
        """Remove what a killed process left; one that it was replacing has its place again."""
        for path in self._folder.glob(".*"):
            complete = path.with_name(path.name.removeprefix(".").removesuffix(".old"))
            if path.suffix == ".old" and not complete.exists():
                path.rename(complete)
            shutil.rmtree(path, ignore_errors=True)
