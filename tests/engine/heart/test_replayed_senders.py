"""Senders in the further passes of their receivers: how many updates they take, and what is refused (rule 42b).

What they learn is held to a loop by hand (tests/numerics/test_policies.py).
"""

from __future__ import annotations

from typing import Any

import pytest

from antiphon import Scenario, Simulation
from tests.contracts.builders import Document

WINDOWS = 3


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
