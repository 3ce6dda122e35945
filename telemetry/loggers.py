"""Recorders for services that log runs: Weights & Biases and MLflow. Their packages are imported when a run uses them.

Metrics have TensorBoard's names (`agent/mind/loss`). The service's id of a run is kept in the run directory, so that a
resumed run continues the same entry.
"""

from __future__ import annotations

import logging
import math
import os
import time
import uuid
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from antiphon.base import kinds
from antiphon.base.errors import RunError, ScenarioError
from antiphon.base.extensions import recorder
from antiphon.base.files import write_text
from antiphon.base.imports import optional
from antiphon.telemetry.metrics import Metric, Recorder, RunDescription
from antiphon.telemetry.tensorboard import RESULTS, Curves

_log = logging.getLogger(__name__)
_MOST_METRICS, _MOST_PARAMETERS = 1000, 100
"""What MLflow accepts in one call."""


class _Service(Recorder, ABC):
    """Recorder of a service: one call for the metrics of a step. A service that fails during a run is logged once; metrics.csv has all.

    Raises:
        ScenarioError: The package is not installed.
    """

    class Options(kinds.Options):
        """Keys of a service.

        Attributes:
            project: Project at the service; null: its environment variable, or its default.
        """

        project: str | None = None

    name: str
    """Name of the kind, the package and its extra."""

    def __init__(self, directory: Path, project: str | None = None) -> None:
        self.directory = directory
        self._next_step = self._last_step = 0
        self._curves: Curves | None = None
        self._failed = self._done = False
        self.package, self.project = self.imported(), project

    @classmethod
    def imported(cls) -> Any:
        """Return the package of the service; ScenarioError where it is not installed."""
        return optional(
            cls.name, f"{cls.name} is not installed; pip install 'antiphon[{cls.name}]'", ScenarioError
        )

    @abstractmethod
    def open(self, description: RunDescription, run_id: str | None) -> tuple[str, int]:
        """Begin a run, or go on with that of an id; return its id and the first step that it does not have yet."""

    @abstractmethod
    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        """Log the metrics of one step by name."""

    @abstractmethod
    def finish(self, *, done: bool) -> None:
        """End the run at the service, as finished or failed."""

    def begin(self, description: RunDescription) -> None:
        """Begin or resume the run at the service; RunError where it cannot."""
        id_file = self.directory / f"{self.name}.id"
        before = id_file.read_text(encoding="utf-8").strip() if id_file.exists() else None
        try:
            run_id, self._next_step = self.open(description, before)
        except Exception as error:  # noqa: BLE001  (anything a service may raise)
            raise RunError(f"recorder {self.name}: {_line(error)}") from None
        self._curves, self._done = Curves(description), False
        if run_id != before:
            write_text(id_file, run_id + "\n")

    def metrics(self, step: int, rows: Sequence[Metric]) -> None:
        """Log the metrics of one step that are finite, unless an earlier session did."""
        assert self._curves is not None, "begin() comes first"
        self._last_step = step
        self._logged(step, {tag: value for tag, _, value in self._curves.scalars(rows)})

    def end(self, result: Mapping[str, Any]) -> None:
        """Log the run's result at its last step; where an earlier session logged that, at the next one, as services only go on."""
        self._done = True
        metrics = {key: result[key] for key in RESULTS if isinstance(result.get(key), int | float)}
        step = max(self._last_step, self._next_step)
        self._logged(step, {f"result/{key}": value for key, value in metrics.items()})

    def close(self) -> None:
        if self._curves is not None:
            self._curves = None
            with suppress(Exception):
                self.finish(done=self._done)

    def _logged(self, step: int, metrics: Mapping[str, float]) -> None:
        finite = {name: value for name, value in metrics.items() if math.isfinite(value)}
        if step < self._next_step or not finite or self._failed:
            return
        try:
            self.log(step, finite)
        except Exception as error:  # noqa: BLE001  (anything a service may raise)
            self._failed = True
            _log.warning("recorder %s: %s; it logs nothing more", self.name, _line(error))


def _line(error: Exception) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


@recorder("wandb")
class WandbRecorder(_Service):
    """Weights & Biases; further settings are its environment variables, such as `WANDB_MODE`.

    Without a project: `WANDB_PROJECT`, or W&B's default. The run directory also has W&B's files.
    """

    name = "wandb"

    def open(self, description: RunDescription, run_id: str | None) -> tuple[str, int]:
        """Begin or resume a separate run, beside other runs of the process."""
        self.run = self.package.init(
            project=self.project,
            dir=str(self.directory.resolve()),
            id=run_id or uuid.uuid4().hex[:12],
            name=None if "WANDB_NAME" in os.environ else self.directory.name,
            config={**description.hparams, "scenario": description.scenario},
            resume="allow",
            reinit="create_new",
        )
        return self.run.id, self.run.step

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        self.run.log(dict(metrics), step=step)

    def finish(self, *, done: bool) -> None:
        """End the run; a run that is not done can be resumed."""
        self.run.finish(exit_code=0 if done else 1)


@recorder("mlflow")
class MlflowRecorder(_Service):
    """MLflow, at the tracking URI set by `MLFLOW_TRACKING_URI` or `mlflow.set_tracking_uri`.

    The project is MLflow's experiment; without one: `MLFLOW_EXPERIMENT_NAME`, or the scenario's name.
    """

    name = "mlflow"

    def open(self, description: RunDescription, run_id: str | None) -> tuple[str, int]:
        """Begin or resume a run with a separate client: MLflow's active run is untouched, and a process may have several."""
        self.client = self.package.MlflowClient()
        self.run_id = run_id or self._created(description)
        if run_id is None:
            return self.run_id, 0
        self.client.update_run(run_id, status="RUNNING")
        steps = [entry.step for entry in self.client.get_metric_history(run_id, "run/seconds")]
        return run_id, max(steps, default=-1) + 1

    def _created(self, description: RunDescription) -> str:
        name = self.project or os.environ.get("MLFLOW_EXPERIMENT_NAME") or description.scenario
        existing = self.client.get_experiment_by_name(name)
        experiment = self.client.create_experiment(name) if existing is None else existing.experiment_id
        run = self.client.create_run(experiment, run_name=self.directory.name)
        parameters = [self.package.entities.Param(k, str(v)) for k, v in description.hparams.items()]
        for chunk in _in_parts(parameters, _MOST_PARAMETERS):
            self.client.log_batch(run.info.run_id, params=chunk)
        return str(run.info.run_id)

    def log(self, step: int, metrics: Mapping[str, float]) -> None:
        now = int(time.time() * 1000)
        entities = [
            self.package.entities.Metric(key, float(value), now, step) for key, value in metrics.items()
        ]
        for chunk in _in_parts(entities, _MOST_METRICS):
            self.client.log_batch(self.run_id, metrics=chunk)

    def finish(self, *, done: bool) -> None:
        """End the run; one that is not done can be resumed."""
        self.client.set_terminated(self.run_id, status="FINISHED" if done else "KILLED")


def _in_parts(items: Sequence[Any], most: int) -> Iterable[Sequence[Any]]:
    """Yield items in order, at most so many at once."""
    return (items[start : start + most] for start in range(0, len(items), most))
