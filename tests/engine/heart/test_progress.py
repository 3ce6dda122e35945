"""Progress of what takes long (`engine/metrics/progress.py`): a bar on a terminal, after two seconds, one at a time."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from rich.progress import Progress as RichProgress

from antiphon import Simulation
from antiphon.engine.metrics import progress
from antiphon.envs import from_tensors
from tests.engine.scenes import CLASSIFY, scenario_of


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    """What happens to bars on a terminal; every look at the clock takes a second."""
    found: list[tuple[str, object]] = []
    clock = iter(range(10_000))

    def noted(name: str) -> Callable[..., object]:
        original = getattr(RichProgress, name)

        def call(bar: object, *values: object, **more: object) -> object:
            found.append((name, values[0] if name == "add_task" else values[-1] if values else None))
            return original(bar, *values, **more) if name == "add_task" else None

        return call

    for name in ("add_task", "start", "advance", "stop"):
        monkeypatch.setattr(RichProgress, name, noted(name))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    return found


def test_a_bar_comes_after_two_seconds_and_goes_at_the_end(
    calls: list[tuple[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected: list[tuple[str, object]] = [("add_task", "building"), ("start", None)]
    expected += [("advance", 2), ("advance", 2), ("stop", None)]
    for terminal in (True, False):
        monkeypatch.setattr("sys.stderr.isatty", lambda terminal=terminal: terminal, raising=False)
        calls.clear()
        with progress.Progress("building", 6) as bar:
            for _ in range(2):
                bar.advance()
            assert not calls
            for _ in range(2):
                bar.advance(2)
            with progress.Progress("evaluating", 2) as inner:
                for _ in range(6):
                    inner.advance()
        assert calls == (expected if terminal else [])


def test_evaluating_shows_how_far_it_is(calls: list[tuple[str, object]]) -> None:
    env = from_tensors(x=torch.randn(40, 4), label=torch.arange(40) % 3, training_only=["label"])
    agents = {f"n{i}": {"observes": ["x"], "objective": CLASSIFY} for i in range(8)}
    channels = [{"from": "n0", "to": f"n{i}", "size": 2, "link": {"delay": 4}} for i in range(1, 8)]
    with Simulation(scenario_of(agents, channels, env, batch=2)) as simulation:
        simulation.evaluate()
        simulation.evaluate(links="as_run")
    tasks = [value for name, value in calls if name == "add_task"]
    assert tasks == ["evaluating", "evaluating"]
    assert calls.count(("stop", None)) == len(tasks)
