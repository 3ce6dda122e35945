"""Runs of a few seeds for tests: what is asked, carried out, read back and compared."""

from __future__ import annotations

import csv
import math
import os
import signal
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

from antiphon.engine.runs.request import Request
from antiphon.engine.runs.seeds import MultiSeedOutcome, MultiSeedRun, Seeds
from antiphon.engine.simulation import Simulation
from antiphon.engine.state import checkpoint
from antiphon.scenarios import Template, load
from tests.engine.numbers import fill

TEMPLATE = Template.from_yaml(load("digits-mlp").text + "telemetry: {every: 4}\n", "tiny.yaml")
COPY = load("copy")
SEEDS = (2, 3, 4)


def requests(seeds: tuple[int, ...] = SEEDS, **changes: Any) -> list[Request]:
    values = {"depth": 3, "width": 8, "batch": 16, **changes.pop("values", {})}
    asked = {"template": TEMPLATE, "steps": 12, "values": values, **changes}
    return [Request(**asked, seed=seed) for seed in seeds]


def copies(steps: int = 6) -> list[Request]:
    """Return runs that cannot be joined."""
    return [Request(template=COPY, steps=steps, seed=seed) for seed in (0, 1)]


def places(folder: Path, asked: list[Request]) -> list[Path]:
    return [folder / f"x-s{one.seed}" for one in asked]


def go(
    folder: Path,
    asked: list[Request] | None = None,
    on_step: Callable[[int], None] | None = None,
    every: int | None = None,
    **more: Any,
) -> MultiSeedOutcome:
    asked = asked or requests()
    told = None if on_step is None else lambda step, scores: on_step(step)
    return MultiSeedRun(asked, places(folder, asked), **more).train(told, every, folder / "x-seeds")


def interrupt(at: int, number: int = signal.SIGINT) -> Callable[[int], None]:
    def on_step(step: int) -> None:
        if step == at:
            os.kill(os.getpid(), number)

    return on_step


def figures(path: Path) -> dict[tuple[str, ...], float]:
    with (path / "metrics.csv").open(newline="") as file:
        return {
            (row["step"], row["kind"], row["name"], row["metric"]): float(row["value"])
            for row in csv.DictReader(file)
            if row["metric"] != "seconds"
        }


def close_to(one: Any, other: Any, tolerance: float) -> bool:
    """Whether trees of numbers are close; a flag of all environments is a tensor of equal flags."""
    if isinstance(one, torch.Tensor) or isinstance(other, torch.Tensor):
        left, right = (torch.as_tensor(value).detach().double() for value in (one, other))
        return bool(torch.allclose(left, right, rtol=tolerance, atol=tolerance))
    if isinstance(one, Mapping):
        return one.keys() == other.keys() and all(close_to(v, other[k], tolerance) for k, v in one.items())
    if isinstance(one, list | tuple):
        pairs = zip(one, other, strict=False)
        return len(one) == len(other) and all(close_to(*pair, tolerance) for pair in pairs)
    if isinstance(one, float):
        both_nan = math.isnan(one) and math.isnan(other)
        return both_nan or math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
    return bool(one == other)


def same(one: Mapping[str, Any], other: Mapping[str, Any], tolerance: float) -> bool:
    own = ("seconds", "run_dir", "command", "started", "finished", "together", "files", "checkpoints")
    left, right = ({k: v for k, v in found.items() if k not in own} for found in (one, other))
    return close_to(left, right, tolerance)


def weights(path: Path) -> dict[str, Any]:
    _, state = checkpoint.read(checkpoint.latest(path), "cpu")
    found: dict[str, Any] = state["system"]["learners"]
    return found


def spoiling(runs: list[Simulation], at: int) -> Callable[[int], None]:
    """Put what is not finite into simulations at a step."""

    def on_step(step: int) -> None:
        for simulation in runs if step == at else []:
            fill(simulation._system.agents["n0"].learner, math.nan)

    return on_step


def spoilt(
    folder: Path, monkeypatch: pytest.MonkeyPatch, which: tuple[int, ...], **more: Any
) -> tuple[MultiSeedOutcome, list[float]]:
    """Run seeds of which some diverge at step 5."""
    made: list[Simulation] = []

    def build(self: Seeds, *arguments: Any, **settings: Any) -> None:
        plain(self, *arguments, **settings)
        made[:] = self.simulations  # a first one is built to see whether they can be joined

    plain = Seeds.__init__
    monkeypatch.setattr(Seeds, "__init__", build)
    seen: list[float] = []

    def on_step(step: int, scores: Callable[[], dict[str, dict[str, float]]]) -> None:
        spoiling([made[place] for place in which], 5)(step)
        seen.extend(found["loss"] for found in scores().values())

    outcome = MultiSeedRun(requests(), places(folder, requests()), **more).train(
        on_step, None, folder / "x-seeds"
    )
    monkeypatch.undo()
    return outcome, seen
