"""The network that infers a latent: its divergence, and which agents may have it."""

from __future__ import annotations

import pytest
import torch
from torch.distributions import Normal

from antiphon import Scenario, Simulation
from antiphon.agents.posterior import kl_divergence
from tests.contracts.builders import Document

SHOWN = {"id": "antiphon/Digits-v0"}
GOAL: Document = {"kind": "classification", "target": "label"}
LATENT: Document = {"from": "fast", "to": "mind", "size": 2, "sample": "latent", "coupling": "locked"}


def document(channel: Document = LATENT, prior: int = 4, **fast: object) -> Document:
    fast = {
        "observes": ["image"],
        "network": {"kind": "posterior", "size": 3},
        "objective": "own_loss",
    } | fast
    plain = {"network": {"kind": "mlp", "hidden": [4], "norm": "none"}}
    slow, mind = {**plain, "observes": ["image"]}, {**plain, "objective": GOAL}
    agents = {"slow": slow, "fast": fast, "mind": mind}
    channels = [{"from": "slow", "to": "fast", "size": prior, "norm": "none"}, channel]
    return {"scenario": "latent", "env": SHOWN, "agents": agents, "channels": channels}


def test_the_divergence_is_that_of_normal_distributions() -> None:
    q, p = torch.randn(2, 5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    posterior, prior = (Normal(x[:, :3], x[:, 3:].exp()) for x in (q, p))
    known = torch.distributions.kl_divergence(posterior, prior).sum(1)
    assert torch.allclose(kl_divergence(q, p), known, atol=1e-13)
    assert float(kl_divergence(q, q).abs().max()) < 1e-14
    assert torch.autograd.gradcheck(kl_divergence, (q.requires_grad_(), p.requires_grad_()))


def test_the_loss_is_the_divergence_from_what_is_read_and_the_composition_sends_the_mean() -> None:
    """The port holds as many log deviations, and has no norm."""
    with Simulation(Scenario.model_validate(document()), dtype=torch.float64) as simulation:
        composed, shown = simulation.compose(), simulation.signals["image"]
        fast, slow, mind = (simulation.agents[name].module for name in ("fast", "slow", "mind"))
        prior = slow(shown.flatten(1))["to_fast"]
        posterior = fast(torch.cat([shown.flatten(1), prior], 1))["to_mind"]
        expected = mind(posterior[:, :2])["objective"]
        assert torch.allclose(composed({"image": shown})["mind"], expected, atol=1e-12)
        heads = [name for name in simulation.agents["fast"].parameters if name.startswith("to_mind")]
        assert heads == ["to_mind.weight", "to_mind.bias"]
        known = kl_divergence(posterior, prior).mean().item()
        assert float(simulation.step()["losses"]["fast"]) == pytest.approx(known, abs=1e-12)
