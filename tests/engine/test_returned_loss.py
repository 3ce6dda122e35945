"""What a critic is told: its receiver's loss, once per window, however often the window used the message."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from antiphon.engine.simulation import Simulation
from antiphon.scenarios import Scenario

TICKS = 3


def pair(link: dict[str, Any]) -> Scenario:
    """The eye speaks once in three steps; the mind reads that message at each of its three ticks, and learns then."""
    return Scenario.model_validate(
        {
            "scenario": "told",
            "env": {"id": "antiphon/Digits-v0"},
            "agents": {
                "eye": {"observes": ["left_half"], "clock": {"period": TICKS}},
                "mind": {
                    "observes": ["right_half"],
                    "clock": {"unroll": TICKS},
                    "objective": {"kind": "classification", "target": "label"},
                },
            },
            "channels": [
                {
                    "from": "eye",
                    "to": "mind",
                    "size": 4,
                    "gradient": {"kind": "sobolev", "context": ["label"]},
                    "link": link,
                }
            ],
            "training": {"batch": 16, "steps": 20},
        }
    )


@pytest.mark.parametrize("drop", [0.0, 0.3])
def test_the_loss_of_a_window_is_told_once(drop: float) -> None:
    with Simulation(pair({"drop": drop})) as simulation:
        simulation.run(TICKS)
        (update,) = (u for u in simulation.learned.updates if u.unit.members == ("mind",))
        (example,) = simulation.learned.lessons["eye->mind"].examples
        assert update.loss is not None
        assert example.loss is not None
        heard = torch.ones(16, dtype=torch.bool) if example.valid is None else example.valid
        assert bool(heard.any())
        assert torch.allclose(example.loss[heard], update.loss[heard])
        assert not bool(example.loss[~heard].any())
