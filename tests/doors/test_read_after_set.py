"""A simulation is read between a change of one of several agents alike, which were one stack, and the next step."""

from __future__ import annotations

from typing import Any

import antiphon


def test_the_graph_can_be_read_right_after_one_agent_of_a_stack_was_changed() -> None:
    goal = {"kind": "classification", "target": "label"}
    agents: Any = {
        f"a{i}": {"observes": ["image"], "network": {"kind": "mlp", "hidden": [4]}, "objective": goal}
        for i in range(3)
    }
    env: Any = {"id": "antiphon/Digits-v0"}
    training: Any = {"batch": 4, "steps": 9}
    scenario = antiphon.Scenario(scenario="alike", env=env, agents=agents, training=training)
    with antiphon.Simulation(scenario) as simulation:
        simulation.step()
        simulation.set("a1.learning_rate", 0.1)
        assert simulation.graph.nodes["a1"]["learning_rate"] == 0.1
