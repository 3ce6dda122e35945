"""Learners of values: legal actions, refusals, exports and metrics; their numbers are held to loops by hand in tests/numerics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from antiphon import Simulation
from antiphon.agents.masked import NEVER
from antiphon.agents.q_learning import EpsilonGreedy
from tests.contracts.builders import Document
from tests.engine.test_masked_choices import PLAYERS, board

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


def test_actions_are_explored_as_often_as_epsilon_says() -> None:
    outputs = torch.tensor([[0.0, 2.0, NEVER, 1.0]]).expand(30000, -1)
    uniforms = torch.rand(30000, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    shares = EpsilonGreedy(4, 0.3).sample(outputs, uniforms).bincount(minlength=4) / 30000
    torch.testing.assert_close(shares, torch.tensor([0.1, 0.8, 0.0, 0.1]), atol=0.01, rtol=0)


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
