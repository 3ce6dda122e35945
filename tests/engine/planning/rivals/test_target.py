"""Targets, and the steps to them."""

from __future__ import annotations

from contextlib import closing

import pytest

from antiphon import Scenario, Simulation
from antiphon.engine.inference.evaluation import Evaluation
from antiphon.engine.planning.rivals.target import (
    Measured,
    SeedScore,
    Target,
    measure_steps,
    target_of,
    until,
)
from antiphon.errors import DivergenceError, ScenarioError
from antiphon.scenarios import load


def digits(**values: object) -> Scenario:
    return load("digits-mlp").resolve("locked", {"width": 16, "batch": 32, "depth": 2, **values})


def evaluation(accuracy: float) -> Evaluation:
    return Evaluation("test", 10, ("a",), {"a": {"accuracy": accuracy, "loss": 1.0}})


def test_accuracy_is_in_percent_and_95_unless_given() -> None:
    with closing(Simulation(digits())) as simulation:
        assert target_of(simulation.scenario, simulation, None) == Target("accuracy", 0.95)
        assert target_of(simulation.scenario, simulation, 50.0) == Target("accuracy", 0.5)
        with pytest.raises(ScenarioError, match=r"target: 0.95; accuracy is in percent, for example 95"):
            target_of(simulation.scenario, simulation, 0.95)


def test_other_metrics_need_a_value() -> None:
    scenario = load("copy").resolve()
    with closing(Simulation(scenario)) as simulation:
        with pytest.raises(
            ScenarioError, match=r"target: the readouts measure .*; give its value with --target"
        ):
            target_of(scenario, simulation, None)
        assert target_of(scenario, simulation, 0.1).value == 0.1


def test_less_of_a_loss_is_better() -> None:
    target = Target("bits", 0.5)
    assert target.reached(0.4)
    assert not target.reached(0.6)
    assert target.better(0.4, 0.6) == 0.4
    assert Target("accuracy", 0.5).better(0.4, float("nan")) == 0.4


def test_scores_are_taken_at_growing_intervals_until_the_target() -> None:
    """Every step to the 20th, then each a twentieth later."""
    taken: list[int] = []

    def advance(goal: int) -> float:
        taken.append(goal)
        return float(goal)

    found = until(Target("accuracy", 0.9), advance, lambda: evaluation(0.01 * taken[-1]), 1000)
    assert taken[:22] == [*range(1, 22), 23]
    assert found.reached == found.last == taken[-1]
    assert 90 <= taken[-1] <= 95


def test_what_is_not_reached_ends_at_the_limit_with_its_best() -> None:
    scores = iter([0.2, 0.6, 0.4, 0.3, 0.3])
    found = until(Target("accuracy", 0.9), float, lambda: evaluation(next(scores)), 5)
    assert found == SeedScore(None, 0.6, 5.0)
    assert Measured((found,)).mean is None
    assert Measured((found,)).failure(Target("accuracy", 0.9)) == "target not reached, best 60 %"


def test_a_divergence_ends_a_seed_and_is_given() -> None:
    def advance(goal: int) -> float:
        raise DivergenceError("step 3: loss is nan")

    found = Measured(
        (SeedScore(7.0, 0.95, 7.0), until(Target("accuracy", 0.9), advance, lambda: evaluation(0.1), 5))
    )
    assert found.mean is None
    assert found.failure(Target("accuracy", 0.9)) == "target not reached, best none: step 3: loss is nan"


def test_the_first_seed_that_misses_is_the_last() -> None:
    found = measure_steps(digits(), Target("accuracy", 1.0), (0, 1, 2), 2)
    assert len(found.seeds) == 1
    assert found.mean is None


def test_steps_are_measured_over_seeds_with_and_without_stashed_weights() -> None:
    target = Target("accuracy", 0.4)
    plain = measure_steps(digits(), target, (0, 1), 100)
    stashed = measure_steps(digits(), target, (0, 1), 100, staleness={"n0": [0], "n1": [0]})
    assert plain.mean is not None
    assert [one.reached for one in plain.seeds] == [one.reached for one in stashed.seeds]
    assert len({one.reached for one in plain.seeds}) <= 2


def test_windows_of_stashed_weights_are_scored_at_their_ends() -> None:
    found = measure_steps(
        digits(), Target("accuracy", 0.999), (0,), 9, staleness={"n0": [0, 1], "n1": [0]}, window=4
    )
    assert found.seeds[0].last % 4 == 0
