"""Senders in the further passes of their receivers: how many updates they take, and what is refused (rule 42b).

What they learn is held to a loop by hand (tests/numerics/test_policies.py).
"""

from __future__ import annotations

import re
from typing import Any

import pytest

from antiphon import Scenario, ScenarioError, Simulation
from tests.contracts.builders import Document

WINDOWS = 3
PASSES = "channels[0].gradient.passes"
AT_ONCE = f"{PASSES}: needs the receiver's learning signal at the same step, but "


def team(
    *,
    sensor: Document | None = None,
    motor: Document | None = None,
    gradient: Document | None = None,
    **channel: Any,
) -> Scenario:
    """A sensor that sends what it observes of a pole to a motor, which learns in three passes."""
    shared = {"network": {"hidden": [8]}, "clock": {"unroll": 4}}
    given = {
        "kind": "linear",
        "context": ["observation"],
        "gate": "none",
        "passes": "all",
        **(gradient or {}),
    }
    own = {key: value for key, value in given.items() if value is not None}
    return Scenario.model_validate(
        {
            "scenario": "team",
            "env": {"id": "antiphon/CartPole-v0"},
            "agents": {
                "sensor": {"observes": ["observation"], **shared, **(sensor or {})},
                "motor": {
                    **shared,
                    "acts": True,
                    "objective": {"kind": "ppo", "epochs": 3, "minibatches": 2},
                    **(motor or {}),
                },
            },
            "channels": [{"from": "sensor", "to": "motor", "size": 2, "gradient": own, **channel}],
            "training": {"batch": 8, "steps": 4 * WINDOWS},
        }
    )


@pytest.mark.cases(2)
@pytest.mark.parametrize(
    ("gradient", "steps"),
    [
        ({}, 5),
        ({"gate": "auto"}, 5),
        ({"passes": "first"}, 1),
        ({"passes": None}, 1),
        ({"passes": "first", "gate": "auto"}, 0),
        ({"scale": 0, "discount": 0}, 0),
    ],
)
def test_a_sender_takes_a_step_in_each_minibatch_of_its_receiver(gradient: Document, steps: int) -> None:
    with Simulation(team(gradient=gradient), seed=1) as simulation:
        simulation.run()
        taken = {name: simulation.agents[name].updates for name in ("sensor", "motor")}
        assert taken == {"sensor": steps * WINDOWS, "motor": 5 * WINDOWS}


REFUSED: dict[str, tuple[Document, str]] = {
    "one epoch": (
        {"motor": {"objective": {"kind": "ppo", "epochs": 1}}},
        f"{PASSES}: all needs further passes of 'motor'; give it ppo or q with 2 or more epochs, or make passes first",
    ),
    "its own target": (
        {"gradient": {"kind": "local", "target": "observation"}},
        f"{PASSES}: all needs a gradient that learns returned gradients alone, not local; use linear",
    ),
    "a critic": ({"gradient": {"kind": "sobolev"}}, "not sobolev; use linear, or make passes first"),
    "an input": ({"input": "linear"}, f"{PASSES}: all does not go with input; leave that out"),
    "symbols": (
        {"size": None, "sample": {"kind": "gumbel", "vocabulary": 3}},
        f"{PASSES}: all does not go with sample; leave that out",
    ),
    "a state": (
        {"sensor": {"network": {"kind": "gru"}}},
        f"{PASSES}: all needs ends without a state, and 'sensor' has one; use a network of another kind",
    ),
    "some windows": (
        {"sensor": {"learn": 0.5}},
        f"{PASSES}: all needs ends that learn from each window, and 'sensor' does not; leave out its learn",
    ),
    "a delay": ({"link": {"delay": 1}}, f"{AT_ONCE}the link has a delay of 1; make it 0, or leave it out"),
    "losses": ({"link": {"drop": 0.1}}, f"{AT_ONCE}the link has a drop of 0.1; make it 0, or leave it out"),
    "other windows": (
        {"sensor": {"clock": {"unroll": 2}}},
        f"{AT_ONCE}'sensor' and 'motor' learn at different steps; give them the same clock",
    ),
    "no context": (
        {"gradient": {"gate": None, "context": []}},
        f"{PASSES}: all needs a context beside a gate, which shuts too late for the code; name signals, make gate none, or make passes first",
    ),
    "batch norm": (
        {"sensor": {"network": {"hidden": [8], "norm": "batch"}}},
        "agents.sensor.network.norm: batch norm has different statistics in each minibatch of ppo",
    ),
    "batch norm of the message": (
        {"norm": "batch"},
        "channels[sensor->motor].norm: batch norm has different statistics in each minibatch of ppo; use layer or none",
    ),
}
"""By name: keys of `team`, and a part of the line."""


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_replayed_is_refused(name: str) -> None:
    changes, line = REFUSED[name]
    with pytest.raises(ScenarioError, match=re.escape(line)), Simulation(team(**changes)):
        pass
