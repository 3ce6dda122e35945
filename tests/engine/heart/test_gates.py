"""A gate in the training step: while it is shut, the sender's optimiser does not move (rule 9a)."""

from __future__ import annotations

from typing import Any

import torch

from antiphon import Scenario, Simulation
from tests.contracts.builders import levels
from tests.kit.running import newest_metrics

WINDOWS = 6


def team(**gradient: Any) -> Scenario:
    """A sensor that sends what it observes of a pole to a motor, which learns from rewards."""
    clock = {"unroll": 4}
    return Scenario(
        scenario="team",
        env={"id": "antiphon/CartPole-v0"},
        agents={
            "sensor": {"observes": ["observation"], "network": {"hidden": [8]}, "clock": clock},
            "motor": {"network": {"hidden": [8]}, "clock": clock, "acts": True, "objective": "a2c"},
        },
        channels=[{"from": "sensor", "to": "motor", "size": 2, "gradient": {"kind": "linear", **gradient}}],
        training={"batch": 8, "optimiser": {"kind": "adam", "lr": 0.01}},
    )


def trained(scenario: Scenario) -> Simulation:
    simulation = Simulation(scenario, seed=1)
    simulation.run(4 * WINDOWS)
    return simulation


def moved(simulation: Simulation, agent: str) -> bool:
    before, after = Simulation(simulation.scenario, seed=1).agents[agent], simulation.agents[agent]
    return any(not torch.equal(after.parameters[key], value) for key, value in before.parameters.items())


def test_a_sender_takes_no_step_by_a_prediction_without_skill() -> None:
    with trained(team(context=["observation"])) as simulation:
        metrics = newest_metrics(simulation, "sensor->motor")
        assert metrics["gate"] == 0
        assert "injection_norm" not in metrics
        assert simulation.agents["sensor"].updates == 0
        assert not moved(simulation, "sensor")
        assert metrics["sg_loss"] > 0
        assert moved(simulation, "motor")


def test_members_of_a_stack_take_steps_apart() -> None:
    """Senders are alike, and so are channels; each takes a step where its own gate is open."""
    gradient = {"kind": "linear", "context": ["aim", "label", "goal"], "gate": "skill"}
    with Simulation(Scenario.model_validate(levels(channel={"gradient": gradient})), seed=3) as simulation:
        simulation.run(40)
        updates = [simulation.agents[f"a{i}"].updates for i in range(3)]
        assert len(set(updates)) > 1
        assert 0 < max(updates) < 40
