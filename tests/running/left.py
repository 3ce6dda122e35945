"""What runs leave in their directories, read from their files; and accidents in the middle of them."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import pytest
import torch

from antiphon import Simulation
from antiphon.engine.live_system import LiveSystem
from antiphon.scenarios import load
from tests.kit import seams
from tests.kit.recorded import metrics

TEXT = load("digits-mlp").text + "telemetry: {period: 5}\n"
"""A template whose runs are short."""


def facts(run: Path) -> dict[str, Any]:
    """The content of run.json."""
    found: dict[str, Any] = json.loads((run / "run.json").read_text(encoding="utf-8"))
    return found


def ended(run: Path) -> tuple[str, int, str | None]:
    """How a run has ended, at which step, and why."""
    found = facts(run)
    return found["exit"], found["step"], found["error"]


def result(run: Path) -> dict[str, Any]:
    """The content of result.json, without what no two runs have alike."""
    found: dict[str, Any] = json.loads((run / "result.json").read_text(encoding="utf-8"))
    return {**found, "seconds": 0, "run_dir": ""}


def checkpoints(run: Path) -> list[int]:
    """The steps of a run's checkpoints."""
    return sorted(int(path.name.removeprefix("step-")) for path in (run / "checkpoints").glob("step-*"))


def state(run: Path) -> bytes:
    """The tensors of a run's last checkpoint."""
    return (run / f"checkpoints/step-{checkpoints(run)[-1]:09d}/state.safetensors").read_bytes()


def assert_same_run(one: Path, other: Path) -> None:
    """Hold all that two runs have left to each other, but for times and names of event files."""
    assert result(one) == result(other)
    assert metrics(one) == metrics(other)
    assert (one / "scenario.yaml").read_bytes() == (other / "scenario.yaml").read_bytes()
    assert checkpoints(one)[-1] == checkpoints(other)[-1]
    assert state(one) == state(other)
    ours, theirs = facts(one), facts(other)
    for key in ("exit", "step", "steps", "error", "seed", "backend", "dtype", "threads"):
        assert ours[key] == theirs[key], key
    assert not list(other.rglob(".*"))


@contextmanager
def acting(step: int, act: Callable[[LiveSystem], object], seed: int | None = None) -> Iterator[list[int]]:
    """Do something once, when a run (of a seed) has taken so many steps; the list yielded has the step when it was done."""
    plain, done = resolve_name(seams.STEP_OF_WRITER), list[int]()

    def following(self: Any, running: LiveSystem) -> None:
        if running.now == step and seed in (None, running.seed) and not done:
            done.append(step)
            act(running)
        plain(self, running)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(seams.STEP_OF_WRITER, following)
        yield done


def signalled(*numbers: int) -> Callable[[object], None]:
    """Send signals to this process, SIGINT where none is named."""

    def act(_: object) -> None:
        for number in numbers or (signal.SIGINT,):
            os.kill(os.getpid(), number)

    return act


def poison(simulation: Simulation) -> None:
    """Make the parameters of a simulation's first agent no numbers: it diverges at its next step."""
    for parameter in next(iter(simulation.agents.values())).parameters.values():
        parameter.data.fill_(torch.nan)
