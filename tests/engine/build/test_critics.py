"""Critics of their own: a second network of the same learner, on which nothing rests but the value.

That both backends learn the same with them, stacked or not, is tried by the documents of tests/contracts.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from antiphon import Scenario, Simulation
from antiphon.agents.policy_gradients import PolicyGradient
from tests.contracts.builders import LABEL
from tests.contracts.games import Game
from tests.contracts.twins import made
from tests.engine.numbers import close
from tests.engine.scenes import scenario_of

SEES_ALL: dict[str, Any] = {"observes": ["secret", "x"], "network": {"kind": "mlp", "hidden": [5]}}


def actors(critic: dict[str, Any] | None = SEES_ALL, members: int = 1, **keys: Any) -> Scenario:
    """Agents that act, and one that reads what they send."""
    goal = {"kind": "a2c", **({} if critic is None else {"critic": critic})}
    agent: dict[str, Any] = {"observes": ["y"], "clock": {"unroll": 2}, "objective": goal}
    agent |= {"network": {"kind": "mlp", "hidden": [4]}, **keys}
    names = tuple(f"a{i}" for i in range(members))
    agents = {name: {**agent, "acts": name} for name in names} | {"b": {"objective": LABEL}}
    channels = [
        {"from": name, "to": "b", "size": 3, "port": "talk", "coupling": "detached"} for name in names
    ]
    return scenario_of(agents, channels, Game(parts=names, share=0.15))


def numbers(simulation: Simulation) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in simulation.agents["a0"].parameters.items()}


def test_the_value_is_that_of_the_second_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the losses of a window are given it."""
    given: list[torch.Tensor] = []
    advantages = PolicyGradient.advantages

    def spy(self: PolicyGradient, trajectory: Any, values: torch.Tensor, *args: Any, **settings: Any) -> Any:
        given.append(values.detach())
        return advantages(self, trajectory, values, *args, **settings)

    monkeypatch.setattr(PolicyGradient, "advantages", spy)
    with made(actors(), "cohort") as simulation:
        own, signals = numbers(simulation), dict(simulation.signals)
        simulation.run(2)
    seen = torch.cat([signals["secret"], signals["x"]], 1)
    hidden = seen @ own["critic.0.weight"].T + own["critic.0.bias"]
    hidden = nn.functional.layer_norm(hidden, (5,)) * own["critic.0.norm.gain"] + own["critic.0.norm.bias"]
    value = hidden.relu() @ own["critic.value.weight"].T + own["critic.value.bias"]
    close(given[0][0].flatten(), value.flatten())


def test_it_learns_and_is_not_there_when_the_agent_is_deployed() -> None:
    """Beside it the agent begins as it does without, and computes the same."""
    starts, outputs = [], []
    x = torch.linspace(-1, 1, 6, dtype=torch.float64).view(2, 3)
    for critic in (None, SEES_ALL):
        with made(actors(critic), "cohort") as simulation:
            starts.append(numbers(simulation))
            module = simulation.agents["a0"].module
            assert not any("critic" in name for name in module.state_dict())
            composed = simulation.compose(agents=["a0"])({"y": x.view(1, 2, 3)})
            outputs.append([module(x)["objective"], composed[0]["a0"]])
            simulation.run(4)
            after = numbers(simulation)
    assert all(torch.equal(*both) for both in zip(*outputs, strict=True))
    shared = starts[0].keys() & starts[1].keys()
    assert "objective.weight" in shared
    assert all(torch.equal(starts[0][name], starts[1][name]) for name in shared)
    moved = {name for name, p in after.items() if not torch.equal(p, starts[1][name])}
    assert {"critic.0.weight", "critic.value.weight", "critic.value.bias"} <= moved
