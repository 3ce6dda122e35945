"""Agents that act, as a user runs them: exported, taken by other runs, and one line for what cannot be."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from antiphon import Scenario, Simulation
from tests.kit.commands import Commands

TEAM = """
scenario: team
env: {id: antiphon/CartPole-v0}
agents:
  sensor: {observes: [observation], network: {hidden: [6], norm: none}, clock: {unroll: 4}}
  motor:
    network: {hidden: [6], norm: none}
    clock: {unroll: 4}
    acts: true
    objective:
      kind: ppo
      reward: {reward: 0.05}
      epochs: 2
      minibatches: 2
      critic: {observes: [observation], network: {hidden: [5], norm: none}}
channels:
  - {from: sensor, to: motor, size: 2, norm: none, gradient: {kind: linear, context: [observation]}}
training: {batch: 4, steps: 8, optimiser: {kind: adam, lr: 0.003}}
"""


def _team() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(TEAM)
    return found


def _written(document: dict[str, Any]) -> Path:
    Path("team.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return Path("team.yaml")


@pytest.mark.long
def test_a_policy_is_exported_without_its_critic_and_taken_with_it_or_without(
    here: Path, cli: Commands
) -> None:
    cli("run", _written(_team()), "--logdir runs --name team")
    same, headed = _team(), _team()
    same["agents"]["motor"]["parameters"] = "runs/team:motor"
    del headed["agents"]["motor"]["objective"]["critic"]
    with Simulation.resume("runs/team") as team, Simulation(Scenario.model_validate(same)) as other:
        program = torch.export.load(team.export("team.pt2")).module()
        outputs = team.compose(agents=["motor"])({"observation": torch.linspace(-0.1, 0.1, 8).view(1, 2, 4)})
        assert outputs[0]["motor"].shape == (1, 2, 2)
        assert not any("critic" in name for name in program.state_dict())
        taken = team.agents["motor"].parameters
        own = other.agents["motor"].parameters
        assert "critic.0.weight" in taken
        assert all(torch.equal(p, own[name]) for name, p in taken.items())
        with Simulation(Scenario.model_validate(headed)) as third:
            found = third.load_weights("runs/team")
            lost = dict.fromkeys(("value.weight", "value.bias"), "the run's agent has none")
            assert found.left["motor"] == lost
            own = third.agents["motor"].parameters
            assert all(torch.equal(p, own[name]) for name, p in taken.items() if "critic" not in name)
    headed["agents"]["motor"]["parameters"] = "runs/team:motor"
    assert "parameters value.weight None, this agent needs" in cli.refused("run", _written(headed))
    same["agents"]["motor"]["objective"]["normalise"] = "none"
    assert "give both the same objective.normalise" in cli.refused("run", _written(same))


Change = Callable[[dict[str, Any]], object]


def _goal(**keys: Any) -> Change:
    return lambda document: document["agents"]["motor"]["objective"].update(keys)
