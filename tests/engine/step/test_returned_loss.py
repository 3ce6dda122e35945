"""What a critic is told: its receiver's loss, once per window, however often the window used the message."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from antiphon.engine.simulation import Simulation
from antiphon.scenarios import Scenario
from tests.engine.scenes import CLASSIFY, digits

TICKS = 3


def pair(link: dict[str, Any]) -> Scenario:
    """The eye speaks once in three steps; the mind reads that message at each of its three ticks, and learns then."""
    agents = {
        "eye": {"observes": ["left_half"], "clock": {"period": TICKS}},
        "mind": {"observes": ["right_half"], "clock": {"unroll": TICKS}, "objective": CLASSIFY},
    }
    gradient = {"kind": "sobolev", "context": ["label"]}
    return digits(
        agents, [{"from": "eye", "to": "mind", "size": 4, "gradient": gradient, "link": link}], batch=16
    )


@pytest.mark.parametrize("drop", [0.0, 0.3])
def test_the_loss_of_a_window_is_told_once(drop: float) -> None:
    with Simulation(pair({"drop": drop})) as simulation:
        simulation.run(TICKS)
        (update,) = (u for u in simulation.learned.updates if u.group.members == ("mind",))
        (example,) = simulation.learned.predictor_updates["eye->mind"].examples
        assert update.window_loss.samples is not None
        assert example.loss is not None
        heard = torch.ones(16, dtype=torch.bool) if example.valid is None else example.valid
        assert bool(heard.any())
        assert torch.allclose(example.loss[heard], update.window_loss.samples[heard])
        assert not bool(example.loss[~heard].any())


def test_who_has_no_loss_of_its_own_returns_what_its_critic_expects() -> None:
    """The first critic of a chain hears the second's value, times its discount; the classifier's own loss goes back one hop."""
    gradient = {"kind": "sobolev", "context": ["label"], "discount": 0.5}
    channels = [{"from": a, "to": b, "size": 4, "gradient": gradient} for a, b in ("xy", "yz")]
    agents = {"x": {"observes": ["image"]}, "y": {}, "z": {"objective": CLASSIFY}}
    with Simulation(digits(agents, channels, batch=16)) as simulation:
        simulation.run(5)
        twin = simulation.fork()
        simulation.step()
        near = simulation.learned.predictor_updates["y->z"].examples[0]
        far = simulation.learned.predictor_updates["x->y"].examples[0]
        critic = twin.system.channels["y->z"].predictor  # as it was before the step
        assert critic is not None
        value = critic.value(near)
        assert value.abs().max() > 0
        assert torch.allclose(far.loss, 0.5 * value)  # type: ignore[arg-type]
