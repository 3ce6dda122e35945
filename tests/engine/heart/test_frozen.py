"""Frozen and pretrained agents: `learn: false` and `parameters: RUN:agent`."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from antiphon import Simulation
from tests.contracts.builders import LABEL, Document, document
from tests.contracts.twins import made
from tests.numerics.linear import GOAL, descend, leaves, said, simulation_of
from tests.numerics.recurring import BATCH, played


def chain(coupling: str = "decoupled", seed: int = 3, **middle: Any) -> Simulation:
    """a -> b -> c with batch norm; b is the one that is changed."""
    net: Document = {"network": {"kind": "mlp", "hidden": [6], "norm": "batch"}}
    agents = {"a": {"observes": ["x"], **net}, "b": {**net, **middle}, "c": {"objective": LABEL}}
    channel = {"coupling": coupling, "size": 4, "gradient": {"kind": "linear", "context": ["label"]}}
    return made(
        document(agents, [{"from": s, "to": r, **channel} for s, r in ("ab", "bc")]), "cohort", seed=seed
    )


def numbers(simulation: Simulation, agent: str) -> dict[str, Tensor]:
    handle = simulation.agents[agent]
    return {k: v.detach().clone() for k, v in (handle.parameters | handle.buffers).items()}


def moved(before: dict[str, Tensor], simulation: Simulation, agent: str) -> list[str]:
    return [k for k, v in numbers(simulation, agent).items() if not torch.equal(v, before[k])]


@pytest.mark.parametrize("coupling", ["locked", "decoupled", "delayed"])
def test_a_frozen_agent_never_moves_but_passes_the_gradient_on(coupling: str) -> None:
    with chain(coupling, learn=False) as simulation:
        before = {name: numbers(simulation, name) for name in "abc"}
        simulation.run(12)
        assert not moved(before["b"], simulation, "b")
        assert simulation.agents["b"].updates == 0
        for name in "ac":
            assert any("weight" in key for key in moved(before[name], simulation, name))


def test_behind_a_frozen_agent_a_locked_group_equals_plain_autograd_in_evaluation_mode_there() -> None:
    source = played(endless=True)
    frozen: Document = {"network": {"kind": "mlp", "hidden": [5], "norm": "batch"}, "learn": False}
    agents = {"a": {"observes": ["x"]}, "b": frozen, "c": {"objective": GOAL}}
    locked = {"coupling": "locked"}
    with simulation_of(
        agents, [{"from": s, "to": r, **locked} for s, r in ("ab", "bc")], source
    ) as simulation:
        statistics = simulation.agents["b"].buffers
        statistics["0.norm.mean"].fill_(0.3)
        statistics["0.norm.var"].fill_(2.0)
        a, b, c = (leaves(simulation.agents[name]) for name in "abc")
        hidden = said(b, "0", said(a, "to_b", source.at(0)["x"]))
        gain = b["0.norm.gain"], b["0.norm.bias"]
        hidden = F.batch_norm(hidden, statistics["0.norm.mean"], statistics["0.norm.var"], *gain)
        output = said(c, "objective", said(b, "to_c", torch.relu(hidden)))
        loss = (output - source.at(0)["y"]).square().mean(1).sum() / BATCH
        expected = descend(a, loss)
        simulation.step()
        for key, p in simulation.agents["a"].parameters.items():
            torch.testing.assert_close(p.detach(), expected[key].detach(), atol=1e-12, rtol=0)
