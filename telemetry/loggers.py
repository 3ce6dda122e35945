"""Recorder for Weights & Biases, whose package is imported when a run uses it.

Metrics have TensorBoard's names (`agent/mind/loss`). The service's id of a run is kept in the run directory, so that a
resumed run continues the same entry.
"""

from __future__ import annotations

import logging
import math
import os
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any

from antiphon.base import kinds
from antiphon.base.errors import RunError, ScenarioError
from antiphon.base.extensions import recorder
from antiphon.base.files import write_text
from antiphon.telemetry.metrics import Metric, Recorder, RunDescription
from antiphon.telemetry.tensorboard import RESULTS, Curves

_log = logging.getLogger(__name__)


@recorder("wandb")
class WandbRecorder(Recorder):
    """Weights & Biases; further settings are its environment variables, such as `WANDB_MODE`.

    Without a project: `WANDB_PROJECT`, or W&B's default. The run directory also has W&B's files. If the service fails during a
    run, that is logged once; metrics.csv has all.

    Raises:
        ScenarioError: The package is not installed.
    """

    class Options(kinds.Options):
        """Keys of the recorder.

        Attributes:
            project: Project at the service; null: its environment variable, or its default.
        """

        project: str | None = None

    def __init__(self, directory: Path, project: str | None = None) -> None:
        self.directory = directory
        self._next_step = self._last_step = 0
        self._curves: Curves | None = None
        self._failed = self._done = False
        self.package, self.project = self.imported(), project

    @classmethod
    def imported(cls) -> Any:
        """Return the package of the service; ScenarioError where it is not installed."""
        try:
            return import_module("wandb")
        except ImportError:
            raise ScenarioError("wandb is not installed; pip install 'antiphon[wandb]'") from None

    def begin(self, description: RunDescription) -> None:
        """Begin or resume a run at the service, separate from others of the process; RunError where it cannot."""
        id_file = self.directory / "wandb.id"
        before = id_file.read_text(encoding="utf-8").strip() if id_file.exists() else None
        try:
            self.run = self.package.init(
                project=self.project,
                dir=str(self.directory.resolve()),
                id=before or uuid.uuid4().hex[:12],
                name=None if "WANDB_NAME" in os.environ else self.directory.name,
                config={**description.hparams, "scenario": description.scenario},
                resume="allow",
                reinit="create_new",
            )
        except Exception as error:  # noqa: BLE001  (anything a service may raise)
            raise RunError(f"recorder wandb: {_line(error)}") from None
        self._next_step, self._curves, self._done = self.run.step, Curves(description), False
        if self.run.id != before:
            write_text(id_file, self.run.id + "\n")

    def metrics(self, step: int, rows: Sequence[Metric]) -> None:
        """Log the metrics of one step that are finite, unless an earlier session did."""
        assert self._curves is not None, "begin() comes first"
        self._last_step = step
        self._logged(step, {tag: value for tag, _, value in self._curves.scalars(rows)})

    def end(self, result: Mapping[str, Any]) -> None:
        """Log the run's result at its last step; where an earlier session logged that, at the next one, as the service only goes on."""
        self._done = True
        metrics = {key: result[key] for key in RESULTS if isinstance(result.get(key), int | float)}
        step = max(self._last_step, self._next_step)
        self._logged(step, {f"result/{key}": value for key, value in metrics.items()})

    def close(self) -> None:
        """End the run; one that is not done can be resumed."""
        if self._curves is not None:
            self._curves = None
            with suppress(Exception):
                self.run.finish(exit_code=0 if self._done else 1)

    def _logged(self, step: int, metrics: Mapping[str, float]) -> None:
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        if step < self._next_step or not finite or self._failed:
            return
        try:
            self.run.log(finite, step=step)
        except Exception as error:  # noqa: BLE001  (anything a service may raise)
            self._failed = True
            _log.warning("recorder wandb: %s; it logs nothing more", _line(error))


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())
