"""What the benchmarks of split models have in common: a GPT, its data, and the ways in which it is trained."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import antiphon
from antiphon.engine.simulation import Simulation
from antiphon.envs import from_tensors, make

sys.path.insert(0, str(Path(__file__).parent))
from baselines.gpt_by_hand import VOCABULARY, Gpt, GptByHand

__all__ = ["WAYS", "prepared"]

LOCAL = {"kind": "local", "target": "following"}
WAYS: dict[str, dict[str, Any]] = {
    "locked": {"coupling": "locked", "sweep": True},
    "decoupled, sweep": {"gradient": LOCAL, "sweep": True},
    "decoupled, no sweep": {"gradient": LOCAL, "sweep": False},
    "plain loop": {},
    "plain loop, checkpointed": {},
}
"""Ways of training; of a split, what is given to `antiphon.split`."""


def data(length: int, batch: int) -> Any:
    """Return an environment of sequences in which each token follows from the two before it, with some noise."""
    torch.manual_seed(0)
    count = 4 * batch
    tokens = torch.randint(VOCABULARY, (count, length + 1))
    for place in range(2, length + 1):
        known = (3 * tokens[:, place - 1] + tokens[:, place - 2]) % VOCABULARY
        tokens[:, place] = torch.where(torch.rand(count) < 0.9, known, tokens[:, place])
    return from_tensors(
        tokens=tokens[:, :-1], following=tokens[:, 1:], training_only=["following"], test=0.0, validation=0.0
    )


def prepared(
    way: str, blocks: int, *, width: int, length: int, batch: int
) -> tuple[Callable[[], object], list[Tensor]]:
    """Return what takes one training step in one of the ways, and the parameters that it changes."""
    env = data(length, batch)
    torch.manual_seed(0)
    model = Gpt(blocks, width, length, recompute=way == "plain loop, checkpointed")
    if not WAYS[way]:
        hand = GptByHand(model)
        source = make(env, batch=batch)
        source.request({"tokens", "following"})
        shown = list(source.reset(seed=0))

        def step() -> object:
            loss = hand.step(shown[0]["tokens"], shown[1]["following"])
            shown[0], _, _, _, shown[1] = source.step(None)
            return loss

        return step, list(model.parameters())
    scenario = antiphon.split(
        model,
        [f"blocks.{i}" for i in range(1, blocks)],
        env=env,
        objective={"kind": "classification", "target": "following"},
        batch=batch,
        optimiser={"kind": "adam", "lr": 1e-3},
        **WAYS[way],
    )
    simulation = Simulation(scenario)

    def simulated() -> object:
        simulation.advance(keep=False)  # as in the middle of a run, at a step that nobody looks at
        return simulation.learned.by_agent()[f"part{blocks - 1}"]

    system = simulation.system
    learners = [agent.learner for agent in system.agents.values()]
    models = [m for channel in system.channels.values() for m in channel.models]
    return simulated, [p for one in (*learners, *models) for p in one.parameters.values()]
