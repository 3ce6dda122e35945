"""The history of a run as a table, in memory and from metrics.csv."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from antiphon import Simulation
from antiphon.errors import ScenarioError
from antiphon.telemetry import Metric
from antiphon.telemetry.history import History


def filled() -> History:
    history = History()
    for step in (1, 10, 20):
        rows = [Metric("agent", "a", "loss", 1.0 / step), Metric("run", "", "seconds", float(step))]
        history.metrics(step, rows)
    history.metrics(20, [Metric("channel", "a->b", "value", math.nan)])
    return history


def test_one_metric_over_the_steps() -> None:
    steps, values = filled().of("a", "loss")
    np.testing.assert_array_equal(steps, [1, 10, 20])
    np.testing.assert_array_equal(values, [1.0, 0.1, 0.05])
    assert [part.size for part in History().of("a", "loss")] == [0, 0]


@pytest.mark.parametrize(
    ("name", "metric", "line"),
    [
        ("a", "los", "history: no 'los' of 'a' is logged so far; did you mean 'loss'?"),
        ("a>b", "value", "history: nothing of 'a>b' is logged so far; did you mean 'a->b'?"),
        ("loss", "a", "history: 'a' is an agent or channel, which is given first: history.of('a', 'loss')"),
    ],
)
def test_a_metric_that_is_not_logged_is_refused_with_the_nearest(name: str, metric: str, line: str) -> None:
    with pytest.raises(ScenarioError) as raised:
        filled().of(name, metric)
    assert str(raised.value) == line


def test_a_run_that_begins_again_forgets_what_came_after() -> None:
    history = filled()
    history.metrics(10, [Metric("agent", "a", "loss", 7.0)])
    assert [row.step for row in history] == [1, 1, 10]
    assert history[-1].value == 7.0
    history.metrics(2, [])
    assert [row.step for row in history] == [1, 1]


def test_it_is_the_same_in_memory_and_from_a_directory_and_moves_no_bit(tmp_path: Path) -> None:
    with (
        Simulation("digits-mlp", seed=2) as one,
        Simulation("digits-mlp", seed=2, logdir=tmp_path / "run") as two,
    ):
        history = one.history
        assert one.history is history
        one.run(steps=5)
        two.run(steps=5)
        ours = [repr(row) for row in history if row.kind != "run"]
        theirs = [repr(row) for row in two.history if row.kind != "run"]
        assert len(ours) > 20
        assert ours == theirs
