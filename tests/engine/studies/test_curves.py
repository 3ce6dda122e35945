"""Learning curves: read from tables of figures, put together over seeds, held against the locked variant's end."""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from antiphon.engine.studies.curves import (
    learning_curves,
    over_seeds,
    read_curves,
    smoothed,
    steps_to_locked,
    write_curves,
)
from antiphon.engine.studies.figures import draw_curves
from antiphon.errors import RunError

TABLE = """\
step,kind,name,metric,value
1,agent,a,accuracy,0.5
1,agent,b,bits,3.0
1,channel,a->b,loss,9.0
1,env,,solved,1.0
1,env,,bits,7.0
1,run,,seconds,0.5
10,agent,a,accuracy,0.75
10,agent,a,loss,nan
10,agent,b,bits,2.0
10,agent,c,bits,4.0
10,env,,solved,2.0
10,run,,seconds,1.5
"""


def line(variant: str, runs: list[str], depth: int = 3) -> dict[str, Any]:
    return {"row": "toy", "point": {"depth": depth}, "variant": variant, "runs": runs}


def run_of(values: list[float]) -> dict[str, dict[int, float]]:
    steps = [10 * (at + 1) for at in range(len(values))]
    return {"b.error": dict(zip(steps, values, strict=True)), "": {step: step / 10 for step in steps}}


def study(curves: list[dict[str, Any]], lines: list[dict[str, Any]]) -> dict[str, Any]:
    head = {"study": "toy", "budget": "small", "steps": [40], "seeds": 2, "axes": ["depth"]}
    return head | {"several": False, "curves": curves, "lines": lines}


def test_curves_are_of_agents_readouts_and_the_environment(tmp_path: Path) -> None:
    (tmp_path / "metrics.csv").write_text(TABLE)
    wanted = ["a.accuracy", "a.error", "a.loss", "bits", "solved"]
    found = read_curves(tmp_path / "metrics.csv", wanted, ["b", "c"])
    assert found["a.accuracy"] == {1: 0.5, 10: 0.75}
    assert found["a.error"] == {1: 0.5, 10: 0.25}
    assert found["a.loss"] == {}  # not a number
    assert found["bits"] == {10: 3.0}  # c says nothing at step 1
    assert found["solved"] == {1: 1.0, 10: 2.0}
    assert found[""] == {1: 0.5, 10: 1.5}


@pytest.mark.parametrize("text", [None, "step,kind\n1,agent\n", TABLE + "x,run,,seconds,1\n"])
def test_a_table_that_cannot_be_read_is_one_line(tmp_path: Path, text: str | None) -> None:
    if text is not None:
        (tmp_path / "metrics.csv").write_text(text)
    with pytest.raises(RunError, match=r"metrics\.csv:.* (restore|should be|fix or remove) "):
        read_curves(tmp_path / "metrics.csv", ["a.accuracy"], ["a"])


def test_over_seeds_are_mean_least_and_most_of_the_steps_that_all_have() -> None:
    seconds = {1: 1.0, 2: 2.0, 3: 3.0}
    found = over_seeds([{1: 0.0, 2: 1.0, 3: 5.0}, {1: 1.0, 2: 2.0}], [seconds, {1: 3.0, 2: 4.0}])
    assert found == {
        "n": 2,
        "steps": [1, 2],
        "seconds": [2.0, 3.0],
        "mean": [0.5, 1.5],
        "low": [0.0, 1.0],
        "high": [1.0, 2.0],
    }
    assert over_seeds([{1: 0.0, 2: 1.0}], [{1: 1.0}])["seconds"] is None


def test_long_curves_are_averaged_over_neighbours() -> None:
    values = {step: float(step) for step in range(1, 402)}
    found = over_seeds([values], [values])
    assert len(found["steps"]) == 134
    assert found["steps"][:2] == [3, 6]
    assert found["steps"][-1] == 401
    assert found["mean"][:2] == [2.0, 5.0]
    assert found["seconds"][:2] == [3.0, 6.0]


def test_a_curve_is_smoothed_over_a_twentieth_of_it() -> None:
    assert smoothed([3.0, 1.0]) == [3.0, 1.0]
    found = smoothed([float(at) for at in range(60)])
    assert found[:4] == [None, None, 1.0, 2.0]
    assert len(found) == 60


@pytest.mark.parametrize(
    ("metric", "values", "goal", "at"),
    [
        ("b.error", [0.9, 0.5, 0.2, 0.1], [0.9, 0.8, 0.4, 0.3], 30),
        ("b.error", [0.9, 0.5, 0.4, 0.4], [0.9, 0.8, 0.4, 0.3], None),
        ("accuracy", [0.1, 0.8, 0.9, 0.9], [0.1, 0.2, 0.5, 0.8], 20),
    ],
)
def test_how_long_it_takes_to_come_as_far_as_locked(
    metric: str, values: list[float], goal: list[float], at: int | None
) -> None:
    steps = [10, 20, 30, 40]
    assert steps_to_locked({"steps": steps, "mean": values}, {"mean": goal}, metric) == at


def test_every_line_has_a_curve_and_is_held_against_the_locked_one_beside_it() -> None:
    runs: dict[str, dict[str, dict[int, float]]] = {
        "l0": run_of([0.9, 0.6, 0.3, 0.2]),
        "l1": run_of([0.9, 0.6, 0.5, 0.4]),
        "d0": run_of([0.9, 0.3, 0.2, 0.2]),
        "o0": run_of([0.9, 0.3, 0.2, 0.2]),
        "e0": {"b.error": {}, "": {}},
    }
    lines = [
        line("locked", ["l0", "l1"]),
        line("decoupled", ["d0", "lost"]),
        line("odd", ["lost"]),
        line("empty", ["e0"]),
        line("decoupled", ["o0"], depth=4),
    ]
    locked, decoupled, other = learning_curves(lines, ["b.error"], runs)
    assert (locked["n"], locked["mean"][-1], locked["steps_to_locked"]) == (2, pytest.approx(0.3), 40)
    assert (locked["low"][-1], locked["high"][-1]) == (0.2, 0.4)
    assert (decoupled["variant"], decoupled["n"], decoupled["steps_to_locked"]) == ("decoupled", 1, 20)
    assert (other["point"], other["steps_to_locked"]) == ({"depth": 4}, None)


def test_curves_are_written_and_drawn_against_steps_and_seconds(tmp_path: Path) -> None:
    runs = {"l0": run_of([0.9, 0.2]), "l1": run_of([0.7, 0.4]), "d0": run_of([0.9, 0.3])}
    lines = [line("locked", ["l0", "l1"]), line("decoupled", ["d0"])]
    found = study(learning_curves(lines, ["b.error"], runs), lines)
    write_curves(found, tmp_path)
    with (tmp_path / "curves.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4
    assert (tmp_path / "curves.csv").read_text().splitlines()[2] == (
        "b.error,toy,3,locked,2,20,2.0,0.30000000000000004,0.2,0.4"
    )
    figure = draw_curves(found, tmp_path / "curves.svg")
    steps, seconds = figure.axes
    assert (steps.get_title(), steps.get_ylabel(), steps.get_xlabel()) == ("depth 3", "b.error", "steps")
    assert seconds.get_xlabel() == "seconds"
    assert [drawn.get_label() for drawn in steps.lines] == ["locked", "decoupled"]
    first, beside = steps.lines[0].get_xydata(), seconds.lines[0].get_xydata()
    assert np.allclose(first, [[10.0, 0.8], [20.0, 0.3]])
    assert np.allclose(beside, [[1.0, 0.8], [2.0, 0.3]])
    assert len(steps.collections) == 2  # the bands
    assert steps.lines[0].get_color() != steps.lines[1].get_color()
    assert "<svg" in (tmp_path / "curves.svg").read_text()


def test_without_seconds_the_curves_stand_against_steps_alone(tmp_path: Path) -> None:
    runs = {"l0": run_of([0.9, 0.2]) | {"": {}}}
    lines = [line("locked", ["l0"])]
    found = study(learning_curves(lines, ["b.error"], runs), lines)
    write_curves(found, tmp_path)
    assert (tmp_path / "curves.csv").read_text().splitlines()[1] == "b.error,toy,3,locked,1,10,,0.9,0.9,0.9"
    steps, seconds = draw_curves(found, tmp_path / "curves.svg").axes
    assert (len(steps.lines), len(seconds.lines)) == (1, 0)
