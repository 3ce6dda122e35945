"""The gradient an agent follows beside the true one."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

from antiphon.engine.probes import update
from antiphon.engine.probes.update import update_alignment
from antiphon.engine.simulation import Simulation
from antiphon.errors import ScenarioError
from tests.engine.probes.probed import EYE, JUDGE, chain, corporation, make


def test_a_locked_chain_follows_the_truth() -> None:
    simulation = chain("locked")
    simulation.run(5)
    found = update_alignment(simulation)
    assert list(found) == ["a", "b", "c", "d"]
    for row in found.values():
        assert row.cosine == pytest.approx(1, abs=1e-10)
        assert row.norm_ratio == pytest.approx(1, abs=1e-10)
        assert (row.first, row.last) == (5, 5)


def test_a_locked_corporation_follows_the_truth_of_its_next_whole_episode() -> None:
    simulation = corporation("locked")
    simulation.run(6)  # in the middle of an episode of four steps
    found = update_alignment(simulation)
    assert all((row.first, row.last) == (8, 11) for row in found.values())
    for name, row in found.items():
        assert row.cosine == pytest.approx(1, abs=1e-10), name
        assert row.norm_ratio == pytest.approx(1, abs=1e-10), name


def test_the_true_gradient_does_not_depend_on_the_coupling() -> None:
    locked, decoupled = (corporation(coupling, unroll="episode") for coupling in ("locked", "decoupled"))
    followed = update._followed(locked.fork(stacked=False))
    true = update._true(decoupled.fork(stacked=False), update._followed(decoupled.fork(stacked=False)), None)
    for name, gradient in true.items():
        assert float(gradient.norm()) > 1e-3
        torch.testing.assert_close(gradient, followed[name].gradient, atol=1e-10, rtol=0)


def test_decoupled_agents_follow_something_else_and_detached_ones_nothing() -> None:
    decoupled, detached = chain("decoupled"), chain("detached")
    decoupled.run(40)
    found = update_alignment(decoupled)
    assert found["d"].cosine == pytest.approx(1, abs=1e-10)
    assert 0.1 < found["c"].cosine < 0.999
    nothing = update_alignment(detached)
    assert nothing["a"].cosine == 0
    assert nothing["a"].norm_ratio == 0


def test_where_no_loss_is_reached_there_is_no_truth_and_frozen_agents_have_no_row() -> None:
    agents = {"a": EYE, "b": JUDGE, "frozen": {**EYE, "learn": False}}
    channels = [{"from": "a", "to": "b", "link": {"delay": 3}}, {"from": "frozen", "to": "b"}]
    found = update_alignment(make(agents, channels), ahead=2)
    assert found.keys() == {"a", "b"}
    assert found["a"].cosine == 0
    assert math.isnan(found["a"].norm_ratio)


def test_tied_agents_have_one_row() -> None:
    layer = {"network": {"kind": "mlp", "hidden": [5], "norm": "layer"}, "share": "eye"}
    agents: dict[str, Any] = {
        "left": {"observes": ["left_half"], **layer},
        "mind": JUDGE,
        "right": {"observes": ["right_half"], **layer},
    }
    simulation = make(agents, [{"from": n, "to": "mind", "coupling": "locked"} for n in ("left", "right")])
    found = update_alignment(simulation)
    assert found.keys() == {"left", "mind"}
    assert found["left"].norm_ratio == pytest.approx(1, abs=1e-10)


def test_tied_parameters_follow_the_sum_in_the_truth_too() -> None:
    simulation = chain("locked")
    fields = {name: getattr(simulation.scenario, name) for name in type(simulation.scenario).model_fields}
    scenario = type(simulation.scenario)(**{**fields, "tied": [["b.0.weight", "c.0.weight"]]})
    with Simulation(scenario, dtype=torch.float64) as tied:
        tied.run(5)
        for row in update_alignment(tied).values():
            assert row.cosine == pytest.approx(1, abs=1e-10)
            assert row.norm_ratio == pytest.approx(1, abs=1e-10)


def test_an_agent_is_compared_in_the_first_window_for_which_it_is_drawn() -> None:
    simulation = chain("decoupled", agent={"p_update": 0.3})
    found = update_alignment(simulation)
    assert found["d"].cosine == pytest.approx(1, abs=1e-10)
    assert len({row.first for row in found.values()}) > 1


def test_a_negative_number_of_steps_is_refused() -> None:
    with pytest.raises(ScenarioError, match="update: ahead is -2; it must be at least 0"):
        update_alignment(chain("locked"), ahead=-2)
