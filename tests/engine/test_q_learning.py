"""Learners of values: legal actions, refusals, exports and metrics; their numbers are held to loops by hand in tests/numerics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from antiphon import Scenario, Simulation
from antiphon.agents.advantages import Advantages
from antiphon.agents.distributions import Categorical
from antiphon.agents.masked import NEVER
from antiphon.agents.policy_passes import PolicyPorts
from antiphon.agents.q_learning import EpsilonGreedy, QLearning
from tests.contracts.builders import Document
from tests.contracts.documents import Q, pairs, unread
from tests.engine.test_masked_choices import PLAYERS, board
from tests.kit.running import buffers_of

VALUES: Document = {"kind": "q", "epsilon": 0.5, "explore": 20}


@pytest.mark.cases(1)
@pytest.mark.parametrize(
    "name", ["mask before", "mask between", pytest.param("recurrent", marks=pytest.mark.long), "of one's own"]
)
def test_no_choice_that_is_not_legal_is_explored(name: str) -> None:
    """The world of these raises at one."""
    with Simulation(board(PLAYERS[name][0], VALUES)) as simulation:
        simulation.run(steps=60, progress=False)
        assert simulation.agents["player"].updates > 0
        assert simulation.evaluate(episodes=1).return_ >= 0


def test_a_choice_that_is_not_legal_is_in_no_value() -> None:
    target = torch.tensor([[1.0, 9.0, NEVER], [NEVER, NEVER, NEVER]])
    outputs = torch.tensor([[3.0, 2.0, NEVER], [NEVER, NEVER, NEVER]])
    assert QLearning.value(outputs, target).tolist() == [1.0, 0.0]


def test_actions_are_explored_as_often_as_epsilon_says() -> None:
    outputs = torch.tensor([[0.0, 2.0, NEVER, 1.0]]).expand(30000, -1)
    uniforms = torch.rand(30000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    shares = EpsilonGreedy(4, 0.3).sample(outputs, uniforms).bincount(minlength=4) / 30000
    torch.testing.assert_close(shares, torch.tensor([0.1, 0.8, 0.0, 0.1]), atol=0.01, rtol=0)


def test_an_error_of_values_is_logged_without_its_sign() -> None:
    goal = QLearning(Categorical(2))
    outputs, targets = torch.tensor([[[1.0, 0.0], [5.0, 2.0]]]), torch.tensor([[3.0, 0.0]])
    never = torch.zeros(1, 2, dtype=torch.bool)
    actions = torch.tensor([[0, 1]])
    advantages = Advantages(targets, targets, ~never, targets)
    metrics = goal.losses(PolicyPorts(outputs, None), actions, advantages).metrics
    assert {name: value.tolist() for name, value in metrics.items()} == {"td_error": [2.0], "q_value": [1.5]}
    assert {*metrics} == {*goal.logged}


class Scaled(nn.Module):
    """A map with a parameter that has no axis."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.map, self.scale = nn.Linear(inputs, outputs), nn.Parameter(torch.tensor(1.5))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        scaled: torch.Tensor = self.map(x) * self.scale
        return scaled


def test_a_target_network_has_the_shapes_of_its_network(tmp_path: Path) -> None:
    """Else its agent's parameters fit no other run of the scenario."""
    scene = unread(pairs({**Q, "period": 1}, actor={"network": Scaled}))
    with Simulation(Scenario.model_validate(scene)) as simulation:
        simulation.run(steps=20, progress=False)
        actor = simulation.agents["a0"]
        numbers = {**actor.parameters}
        assert actor.updates > 0
        assert numbers["module.scale"] != 1.5
        for name, copy in actor.buffers.items():
            if name.startswith("target."):
                assert torch.equal(copy, numbers[name.removeprefix("target.")]), name
        saved = simulation.save(tmp_path / "saved")
    scene["agents"]["a0"] = {**scene["agents"]["a0"], "parameters": f"{saved}:a0"}
    with Simulation(Scenario.model_validate(scene)) as simulation:
        assert torch.equal(simulation.agents["a0"].parameters["module.scale"], numbers["module.scale"])


@pytest.mark.long
def test_a_buffer_is_written_in_place_and_no_fork_or_checkpoint_has_a_part_in_it(tmp_path: Path) -> None:
    """Else each window would take a copy of the whole buffer."""
    scenario = Scenario.model_validate(unread(pairs({**Q, "epochs": 2, "replay": 3})))
    with Simulation(scenario) as simulation:
        simulation.run(steps=20, progress=False)
        before = buffers_of(simulation)
        path = simulation.save(tmp_path / "saved")
        with simulation.fork() as fork, Simulation.load(path, scenario=scenario) as loaded:
            others = [(twin, [one.clone() for one in buffers_of(twin)]) for twin in (fork, loaded)]
            simulation.run(steps=20, progress=False)
            after = buffers_of(simulation)
            assert [one.data_ptr() for one in after] == [one.data_ptr() for one in before]
            for twin, was in others:
                assert was
                assert all(map(torch.equal, buffers_of(twin), was))
                assert not torch.equal(buffers_of(twin)[0], after[0])
                twin.run(steps=20, progress=False)
                assert all(map(torch.equal, buffers_of(twin), after))


def test_epsilon_is_logged_and_set_in_mid_run() -> None:
    simulation = Simulation(Scenario.model_validate(pairs(Q, 2)))
    epsilons = []
    for _ in range(9):
        simulation.step()
        epsilons += [own["epsilon"] for own in simulation.learned.metrics().values() if "epsilon" in own]
    half = 0.3 + 0.7 * (1 - 3 / 6)  # at the end of the first window
    assert epsilons == pytest.approx([half, half, 0.3, 0.3])
    simulation.set("a0.epsilon", 0.9)


@pytest.mark.long
def test_the_exported_policy_takes_the_best_action_and_has_no_target_network(tmp_path: Path) -> None:
    with Simulation(board(objective=VALUES), dtype=torch.float64) as simulation:
        simulation.run(steps=20, progress=False)
        path = simulation.export(tmp_path / "p.pt2", actions="greedy")
        exported: Any = torch.export.load(path)
        x = {
            "taken": torch.rand(5, 5).double(),
            "action_mask": torch.eye(5).double() + torch.eye(5).roll(1, 1),
        }
        assert torch.equal(exported.module()(x), torch.as_tensor(simulation.policy().act(x)))
        sampled: Any = torch.export.load(simulation.export(tmp_path / "s.pt2", actions="sampled"))
        assert x["action_mask"].gather(1, sampled.module()(x)[:, None]).all()
    assert not [name for name in exported.state_dict if "target" in name]
