"""Progress of what takes long: a bar on a terminal, after two seconds, one at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch

from antiphon import Simulation
from antiphon.engine.core import progress
from antiphon.engine.core.progress import Progress
from antiphon.envs import from_tensors
from antiphon.scenarios import Scenario

ENV = from_tensors(x=torch.randn(40, 4), label=torch.arange(40) % 3, training_only=["label"])


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, object]]:
    """What happens to bars on a terminal; every look at the clock takes a second."""
    found: list[tuple[str, object]] = []
    clock: Iterator[float] = iter(range(10_000))

    def noted(name: str) -> Callable[..., object]:
        original = getattr(progress_of_rich, name)

        def call(bar: object, *values: object, **more: object) -> object:
            found.append((name, values[0] if name == "add_task" else values[-1] if values else None))
            return original(bar, *values, **more) if name == "add_task" else None

        return call

    from rich.progress import Progress as progress_of_rich

    for name in ("add_task", "start", "advance", "stop"):
        monkeypatch.setattr(progress_of_rich, name, noted(name))
    monkeypatch.setattr("sys.stderr.isatty", lambda: True, raising=False)
    monkeypatch.setattr(progress.time, "monotonic", lambda: float(next(clock)))
    return found


def test_a_bar_comes_after_two_seconds_and_goes_at_the_end(calls: list[tuple[str, object]]) -> None:
    with Progress("building", 6) as bar:
        for _ in range(2):
            bar.advance()
        assert not calls
        for _ in range(2):
            bar.advance(2)
        with Progress("evaluating", 2) as inner:
            for _ in range(6):
                inner.advance()
    assert calls == [
        ("add_task", "building"),
        ("start", None),
        ("advance", 2),
        ("advance", 2),
        ("stop", None),
    ]
    assert not Progress.displayed


def test_without_a_terminal_there_is_none(
    calls: list[tuple[str, object]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: False, raising=False)
    with Progress("building", 6) as bar:
        for _ in range(6):
            bar.advance()
    assert not calls


def test_building_and_evaluating_tell_how_far_they_are(calls: list[tuple[str, object]]) -> None:
    agents = {
        f"n{i}": {"observes": ["x"], "objective": {"kind": "classification", "target": "label"}}
        for i in range(8)
    }
    channels = [{"from": "n0", "to": f"n{i}", "size": 2, "link": {"delay": 4}} for i in range(1, 8)]
    scenario = Scenario(scenario="s", env=ENV, agents=agents, channels=channels, training={"batch": 2})
    with Simulation(scenario) as simulation:
        simulation.evaluate()
        simulation.evaluate(links="as_run")
    tasks = [value for name, value in calls if name == "add_task"]
    assert tasks == ["building", "stacking", "evaluating", "evaluating"]
    assert calls.count(("stop", None)) == len(tasks)
