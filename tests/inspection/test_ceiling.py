"""Alignment beside its ceiling: closed forms, and a predictor that reaches it."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch

import antiphon
from antiphon import Simulation
from antiphon.envs import from_tensors
from tests.engine.numbers import normal, unchanged
from tests.engine.scenes import CLASSIFY, scenario_of
from tests.inspection.probed import EYE, JUDGE, chain, make
from tests.kit.documented import ceilings

WIDE = {"batch": 64}


def regression(context: list[str], **channel_keys: Any) -> Simulation:
    """A frozen linear receiver with a squared error: its gradient is linear in the message and the target."""
    drawn = normal(400, 6)
    sent = (drawn[:, 0] > 0).float()
    source = from_tensors(seen=drawn[:, :4], wanted=drawn[:, 4:], sent=sent, training_only=["wanted"])
    net = {"kind": "mlp", "hidden": [5], "norm": "none"}
    goal = {"kind": "regression", "target": "wanted"}
    agents = {
        "a": {"observes": ["seen"], "network": net, "learn": False},
        "b": {"network": {**net, "hidden": []}, "objective": goal, "learn": False},
    }
    channel = {"from": "a", "to": "b", "gradient": {"kind": "linear", "context": context}, **channel_keys}
    return Simulation(scenario_of(agents, [channel], source, batch=64), dtype=torch.float64)


def test_where_the_truth_is_linear_in_message_and_context_the_ceiling_is_one() -> None:
    found = ceilings(regression(["wanted"]))["a->b"]
    assert found.linear["r2"] == pytest.approx(1, abs=1e-6)
    assert found.linear["cosine"] == pytest.approx(1, abs=1e-6)
    assert found.linear["bias2"] + found.linear["variance"] == pytest.approx(0, abs=1e-6)
    assert found.synthetic["norm_ratio"] == 0  # an untrained predictor says nothing
    assert found.samples >= 50 * (5 + 2)
    assert ceilings(regression([]))["a->b"].linear["r2"] < 0.9  # what the message tells alone


@pytest.mark.long
@pytest.mark.parametrize("kind", ["receiver", pytest.param("chain", marks=pytest.mark.nightly)])
def test_on_a_frozen_network_a_trained_linear_synthetic_gradient_reaches_its_ceiling(kind: str) -> None:
    frozen = {"network": {"kind": "mlp", "hidden": [12], "norm": "batch"}, "learn": False}
    agents: dict[str, Any] = {"a": {"observes": ["image"], **frozen}, "b": {**frozen, "objective": CLASSIFY}}
    channels = [{"from": "a", "to": "b"}]
    if kind == "chain":  # the target of the first is then what the second has learned to say
        agents |= {"b": frozen, "c": {**frozen, "objective": CLASSIFY}}
        channels.append({"from": "b", "to": "c"})
    predictor = {"kind": "adam", "lr": 0.03, "schedule": {"kind": "cosine", "scale": 0.0}}
    training = {"predictor": predictor, "steps": 600}
    simulation = make(agents, channels, batch=64, dtype=torch.float32, training=training)
    simulation.run(600)
    *_, found = ceilings(simulation).values()
    assert found.linear["r2"] > 0.3
    for metric in ("r2", "cosine"):
        assert found.synthetic[metric] == pytest.approx(found.linear[metric], abs=0.02)


@pytest.mark.long
def test_a_model_of_the_label_is_measured_against_what_the_label_tells() -> None:
    gradient = {"kind": "local", "target": "label", "context": ["label"]}
    found = ceilings(chain("decoupled", gradient=gradient, training=WIDE))
    known = ceilings(chain("decoupled", training=WIDE))
    assert found.keys() == known.keys()
    assert found["c->d"].linear["r2"] == pytest.approx(known["c->d"].linear["r2"])


def test_messages_that_are_not_sent_are_left_out() -> None:
    """Nothing returns for them, and with zeros for what a message and its target would have the truth is not linear."""
    found = ceilings(regression(["wanted"], mask="sent"))["a->b"]
    assert found.linear["r2"] == pytest.approx(1, abs=1e-6)


def test_a_channel_of_which_nothing_arrives_has_no_ceiling() -> None:
    cut = chain("decoupled", link={"drop": 1.0}, training=WIDE)
    assert ceilings(cut, channels=["c->d"]) == {}


def test_lost_messages_are_left_out() -> None:
    whole, lossy = (
        ceilings(chain("decoupled", link={"drop": drop}, training=WIDE), channels=["c->d"])["c->d"]
        for drop in (0.0, 0.5)
    )
    assert lossy.linear["r2"] > whole.linear["r2"] - 0.2  # zeros for what was lost would leave half of it


def test_no_bit_of_the_run_changes_and_metrics_stand_beside_their_ceilings() -> None:
    simulation = chain("decoupled", training=WIDE)
    simulation.run(3)
    with unchanged(simulation):
        row = ceilings(simulation, channels=["b->c"])["b->c"].to_dict()
    assert {"cosine", "cosine_ceiling", "r2", "r2_ceiling", "pooled_cosine_ceiling", "bias2"} <= row.keys()
    assert ceilings(chain("locked")) == {}


def test_agents_that_pass_through_time_are_looked_at_over_their_delays() -> None:
    agents = {"a": EYE, "b": {**JUDGE, "align": True}}
    found = ceilings(make(agents, [{"from": "a", "to": "b", "link": {"delay": 2}}], batch=64))["a->b"]
    assert found.linear["r2"] > 0.1


def test_an_example_of_several_steps_is_fitted_and_scored_at_all_of_them() -> None:
    """Its readout learns at the last step alone: every other batch would be the steps with a gradient, or those without."""
    values = {"agents": 6, "readouts": 1, "neighbours": 2, "width": 8, "size": 2, "hold": 2, "steps": 4}
    with Simulation(antiphon.load("corporation").resolve(values=values)) as simulation:
        simulation.run(steps=4)
        into = next(name for name in simulation.channels if name.endswith("->n0"))
        found = ceilings(simulation, channels=[into])[into]
    assert found.linear["cosine"] > 0.05
    assert math.isfinite(found.synthetic["cosine"])
