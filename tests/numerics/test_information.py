"""Whether a channel carries its receiver's signal, or only what its context knows (semantics 9)."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from antiphon import Simulation
from antiphon.base.kinds import fitting
from antiphon.envs import Source, from_tensors
from antiphon.scenarios import Scenario

SEEDS = [0, *(pytest.param(seed, marks=pytest.mark.nightly) for seed in (1, 2))]


def corners(rows: int) -> Source:
    """Noise on 4x4 pixels. The receiver wants the sign of one corner; `label`, which is for training, is another's."""
    image = torch.randn(rows, 1, 4, 4, generator=torch.Generator().manual_seed(1))
    wanted, label = ((image[:, 0, place, :2].sum((1, 2)) > 0).long() for place in (slice(2), slice(2, 4)))
    return from_tensors(image=image, wanted=wanted, label=label, training_only=["wanted", "label"], test=0.25)


def pair(
    gradient: dict[str, Any],
    seed: int = 0,
    *,
    size: Any = (1, 1, 1),
    coupling: str = "decoupled",
    back: int | None = None,
) -> Simulation:
    """A sender that sees the image and has no objective, and a receiver that hears it through a narrow message."""
    scenario = {
        "scenario": "information",
        "env": corners(4_000),
        "agents": {
            "sender": {"observes": ["image"], "network": {"kind": "mlp", "hidden": [16]}},
            "receiver": {
                "network": {"kind": "mlp", "hidden": [16]},
                "objective": {"kind": "classification", "target": "wanted"},
            },
        },
        "channels": [
            {
                "from": "sender",
                "to": "receiver",
                "size": size,
                "norm": "batch",
                "coupling": coupling,
                "gradient": fitting("gradient", gradient),
                "link": {} if back is None else {"delay": [0, back]},
            }
        ],
        "training": {"batch": 64, "steps": 300, "optimiser": {"kind": "adam", "lr": 0.003}},
    }
    return Simulation(Scenario.model_validate(scenario), seed=seed)


def accuracy(gradient: dict[str, Any], seed: int, **given: Any) -> float:
    """Of the receiver after 300 steps, on examples not seen."""
    simulation = pair(gradient, seed, **given)
    simulation.run()
    return float(simulation.evaluate().accuracy)


@pytest.mark.cases(2)
@pytest.mark.parametrize("kind", ["linear", "mlp", "conv", "critic", "sobolev", "sobolev_label"])
def test_with_nothing_returned_the_injection_stays_exactly_zero(kind: str) -> None:
    """Neither gradient nor loss comes back, so nothing of the receiver can: (a) of the rule."""
    hidden = [8] if kind in ("mlp", "conv", "sobolev") else []
    gradient = {"kind": kind, "context": ["label"], "target": "label", "hidden": hidden, "size": 3}
    simulation = pair(gradient, size=(3, 1, 1), back=100)
    start = {k: p.data.clone() for k, p in simulation.agents["sender"].parameters.items()}
    simulation.run(20)
    for key, p in simulation.agents["sender"].parameters.items():
        assert torch.equal(p, start[key])


@pytest.mark.long
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize(
    ("kind", "hidden"),
    [
        ("linear", []),
        ("mlp", [16]),
        pytest.param("conv", [16], marks=pytest.mark.nightly),
        pytest.param("sobolev", [32], marks=pytest.mark.nightly),
    ],
)
def test_a_sender_learns_what_its_receiver_is_asked(kind: str, hidden: list[int], seed: int) -> None:
    """Through one number: (b) of the rule, three seeds.

    Nothing that is for training tells the predictor what is wanted: its context is what the sender sees itself,
    and a label of something else. After 300 steps linear .93-.97, mlp .95-.97, conv .95-.97, sobolev .94-.96,
    where backpropagation reaches .96-.97.
    """
    gradient = {"kind": kind, "context": ["image", "label"], "hidden": hidden, "size": 3}
    assert accuracy(gradient, seed) > 0.88
