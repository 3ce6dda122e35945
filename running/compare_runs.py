"""Comparison of two runs by what they recorded: settings, changes in mid-run, metrics, checkpoints. Loads without torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antiphon.base.files import fitting
from antiphon.running.directory import RunDirectory
from antiphon.telemetry.csv_files import read_metrics
from antiphon.telemetry.metrics import WALL_CLOCK

if TYPE_CHECKING:
    from torch import Tensor

FACTS = (
    *("seed", "device", "backend", "dtype", "matmul_precision", "threads", "together", "parts", "virtual"),
    *("stacked", "alone_from", "weights", "git", "versions"),
)
"""Entries of run.json that decide what a run computes, besides the scenario."""
_OF_PARTS = "agent", "channel"
"""Kinds of metrics that make two runs comparable: epochs are equal in any two."""
_LEARNED = "learners", "predictors", "inputs"
"""Sections of a saved state that do: signals of the environment, and the age of messages, are equal in many."""
_Path = tuple[str, ...]
"""Keys from the root of a tree to a leaf."""
_Key = tuple[str, str, str]
"""Kind, name and metric of a row of metrics.csv."""


@dataclass(frozen=True)
class SettingDifference:
    """One setting that differs: its value by run, `a` and `b`; a run without the setting is missing.

    The path begins with a key of the scenario (of channels, the name follows), with `run` for an entry of run.json, or is
    `("changes", "NAME.KEY at step N")` for a setting changed in mid-run.
    """

    path: _Path
    values: Mapping[str, Any]


@dataclass(frozen=True)
class MetricDifference:
    """One row of metrics.csv whose value differs."""

    step: int
    kind: str
    name: str
    metric: str
    a: float
    b: float


@dataclass(frozen=True)
class TensorDifference:
    """One tensor of two checkpoints that differs: `("learners", AGENT, "parameters", "0.weight")`.

    `largest` is the largest absolute difference (may be nan or infinite); None: the shapes or types differ.
    """

    step: int
    path: _Path
    largest: float | None


@dataclass(frozen=True)
class Comparison:
    """Comparison of two runs.

    Attributes:
        not_recorded: The places of Python objects in the scenarios, whose code is not recorded.
        steps: Steps at which metrics of agents or channels that both have were compared.
        metric: The first row that differs; None: none does.
        checkpoints: Steps at which tensors that both have were compared.
        tensor: The first tensor that differs, parameters before others; None: none does.
    """

    settings: Sequence[SettingDifference]
    not_recorded: Sequence[str]
    steps: Sequence[int]
    metric: MetricDifference | None
    checkpoints: Sequence[int]
    tensor: TensorDifference | None

    @property
    def same(self) -> bool | None:
        """Whether nothing that both recorded differs; None: no agent's or channel's metric or tensor is in both at one step."""
        if self.metric is not None or self.tensor is not None:
            return False
        return True if self.steps or self.checkpoints else None


def compare_runs(first: RunDirectory, second: RunDirectory) -> Comparison:
    """Compare the records of two runs: metrics and checkpoints at the steps that both have."""
    from antiphon.engine.state.compatibility import differences  # torch

    settings = [
        SettingDifference(
            path, {run: value for run, value in zip("ab", values, strict=True) if value is not None}
        )
        for path, *values in differences(_settings(first), _settings(second))
    ]
    not_recorded = list(dict.fromkeys([*first.not_recorded, *second.not_recorded]))
    steps, metric = _compare_metrics(*(run.verified("metrics.csv") for run in (first, second)))
    checkpoints, tensor = _compare_checkpoints(first, second)
    return Comparison(settings, not_recorded, steps, metric, checkpoints, tensor)


def _settings(run: RunDirectory) -> dict[str, Any]:
    with fitting(run.path / "run.json"):
        changes = {f"{key} at step {step}": value for step, key, value in run.facts.get("changes", ())}
    facts = {key: run.facts[key] for key in FACTS if key in run.facts}
    return {**run.values, "run": facts, "changes": changes}


def _compare_metrics(first: Path, second: Path) -> tuple[list[int], MetricDifference | None]:
    """Return the steps compared, and the first row that differs, of those that both tables have; not wall-clock times.

    Losses are means since the entry before: a metric is compared at a step before which both tables have it at the same step.
    """
    steps = []
    tables = [_by_step(first), _by_step(second)]
    before: list[dict[_Key, int]] = [{}, {}]
    for step in sorted({*tables[0], *tables[1]}):
        rows = [table.get(step, {}) for table in tables]
        in_both = [key for key in rows[0] if key in rows[1] and before[0].get(key) == before[1].get(key)]
        steps += [step] * any(kind in _OF_PARTS for kind, *_ in in_both)
        for key in in_both:
            a, b = (row[key] for row in rows)
            if repr(a) != repr(b):  # nan equals itself
                return steps, MetricDifference(step, *key, a, b)
        for newest, row in zip(before, rows, strict=True):
            newest.update(dict.fromkeys(row, step))
    return steps, None


def _by_step(table: Path) -> dict[int, dict[_Key, float]]:
    """Return the metrics of a metrics.csv by step and by kind, name and metric, without wall-clock times."""
    metrics_by_step: dict[int, dict[_Key, float]] = {}
    for step, row in read_metrics(table):
        if row.kind != "run" or row.metric not in WALL_CLOCK:
            metrics_by_step.setdefault(step, {})[row[:3]] = row.value
    return metrics_by_step


def _compare_checkpoints(
    first: RunDirectory, second: RunDirectory
) -> tuple[list[int], TensorDifference | None]:
    """Return the steps compared, and the first tensor that differs, of those that both checkpoints have."""
    from antiphon.engine.state.compatibility import same_bits  # torch

    steps = []
    path_by_step = second.checkpoints.by_step
    for step, path in first.checkpoints.by_step.items():
        if step in path_by_step:
            second_tensors = _tensors(path_by_step[step])
            in_both = {
                tensor_path: tensor
                for tensor_path, tensor in _tensors(path).items()
                if tensor_path in second_tensors
            }
            steps += [step] * any(section in _LEARNED for section, *_ in in_both)
            for tensor_path, tensor in in_both.items():
                if not same_bits(tensor, second_tensors[tensor_path]):
                    return steps, TensorDifference(
                        step, tensor_path, _largest(tensor, second_tensors[tensor_path])
                    )
    return steps, None


def _tensors(path: Path) -> dict[_Path, Tensor]:
    from antiphon.engine.state import checkpoint

    tensors = dict(_leaves(checkpoint.read(path)[1]["system"]))
    return dict(sorted(tensors.items(), key=lambda item: "parameters" not in item[0]))


def _leaves(state: Any, path: _Path = ()) -> Iterator[tuple[_Path, Tensor]]:
    if hasattr(state, "element_size"):
        yield path, state
    elif isinstance(state, dict | list):
        for key, item in state.items() if isinstance(state, dict) else enumerate(state):
            yield from _leaves(item, (*path, str(key)))


def _largest(first: Tensor, second: Tensor) -> float | None:
    """Return the largest absolute difference; None: the shapes or types differ."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return None
    return float((first.double() - second.double()).abs().max())
