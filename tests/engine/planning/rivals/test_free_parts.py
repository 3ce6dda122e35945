"""Parts that do not wait, on the way to a target in virtual time."""

from __future__ import annotations

import pytest

from antiphon import Scenario
from antiphon.engine.planning.rivals.free_parts import simulate
from antiphon.engine.planning.rivals.learning_rules import DECOUPLED, LOCAL, with_rule
from antiphon.engine.planning.rivals.target import Target, measure_steps
from antiphon.errors import ScenarioError
from antiphon.scenarios import load
from tests.engine.planning.rivals.chains import cluster

PLACE = {"n0": 0, "n1": 1}


def digits(rule: str) -> Scenario:
    return with_rule(load("digits-mlp").resolve(None, {"width": 16, "batch": 32, "depth": 2}), rule, 1)


@pytest.mark.parametrize("rule", [DECOUPLED, LOCAL])
def test_even_machines_without_latency_take_the_steps_of_links_of_delay_one(rule: str) -> None:
    target = Target("accuracy", 0.4)
    found = simulate(digits(rule), target, cluster(), PLACE, [2.0, 2.0], (0, 1), 120)
    assert found.steps.mean == pytest.approx(measure_steps(digits(rule), target, (0, 1), 120).mean, abs=2)
    assert found.step_seconds == pytest.approx(2.0, rel=0.1)
    assert found.goodput > 0.9


def test_far_machines_are_no_slower_but_start_later() -> None:
    """The second part waits 20 s for its first message, and then takes a step every 2 s like the first."""
    near, far = (
        simulate(
            digits(LOCAL), Target("accuracy", 1.0), cluster(latency=latency), PLACE, [2.0, 2.0], (0,), 40
        )
        for latency in (0.0, 20.0)
    )
    assert near.steps.mean is None
    assert far.seconds[0] - near.seconds[0] == pytest.approx(
        10, abs=2.1
    )  # a step is one of each part, the mean
    assert far.goodput < near.goodput


def test_what_parts_that_do_not_wait_cannot_run_is_refused() -> None:
    scenario = with_rule(load("corporation").resolve(None, {"data": "digits", "batch": 8}), LOCAL, 1)
    place = {name: index % 2 for index, name in enumerate(scenario.agents)}
    with pytest.raises(ScenarioError):
        simulate(scenario, Target("accuracy", 1.0), cluster(), place, [1.0, 1.0], (0,), 2)
