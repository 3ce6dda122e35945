"""Objectives: losses and scores per sample, which targets fit them, and the divergence of a posterior."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch.distributions import Normal

from antiphon import Scenario, Simulation
from antiphon.agents.objectives import Weighted, objective_of
from antiphon.agents.recurrent import kl_divergence
from antiphon.base.extensions import Catalogue
from antiphon.comms import Mask
from tests.contracts.builders import Document

OBJECTIVES = Catalogue("objective")


def test_classification() -> None:
    objective = OBJECTIVES["classification"]()
    output, target = torch.eye(4)[[0, 1, 2, 2]] * 5, torch.tensor([0, 1, 2, 3])
    torch.testing.assert_close(
        objective.loss(output, target), F.cross_entropy(output, target, reduction="none")
    )
    assert objective.score(output, target).tolist() == [1, 1, 1, 0]
    assert objective.score(output.double(), target).dtype == torch.float64
    assert objective.metric == "accuracy"


@pytest.mark.parametrize("sites", [(4,), (2, 3)])
def test_labels_at_sites_are_averaged_per_sample(sites: tuple[int, ...]) -> None:
    output, target = torch.randn(6, torch.Size(sites).numel() * 5), torch.randint(5, (6, *sites))
    laid_out = output.view(6, *sites, 5)
    nats = F.cross_entropy(laid_out.movedim(-1, 1), target, reduction="none").flatten(1).mean(1)
    right = (laid_out.argmax(-1) == target).double().flatten(1).mean(1)
    classification, coding = OBJECTIVES["classification"](), OBJECTIVES["coding"]()
    for objective in (classification, coding):
        torch.testing.assert_close(objective.loss(output, target), nats)
    torch.testing.assert_close(classification.score(output.double(), target), right)
    torch.testing.assert_close(coding.score(output, target), nats / math.log(2))
    even = coding.score(torch.zeros(1, 24), torch.tensor([[3, 0, 7]]))
    torch.testing.assert_close(even, torch.tensor([3.0]))  # bits per symbol, not per sample


def test_coding_of_a_symbol() -> None:
    objective = OBJECTIVES["coding"]()
    output, target = torch.randn(4, 5), torch.tensor([0, 1, 4, 2])
    nats = F.cross_entropy(output, target, reduction="none")
    torch.testing.assert_close(objective.loss(output, target), nats)
    torch.testing.assert_close(objective.score(output, target), nats / math.log(2))
    even = objective.score(torch.zeros(1, 8), torch.tensor([3]))
    torch.testing.assert_close(even, torch.tensor([3.0]))  # one of eight: three bits
    assert objective.metric == "bits"


def test_coding_of_a_vector_of_bits() -> None:
    objective = OBJECTIVES["coding"]()
    output, target = torch.randn(4, 6), torch.randint(2, (4, 2, 3)).float()
    p = torch.where(target.flatten(1) == 1, output.sigmoid(), 1 - output.sigmoid())
    torch.testing.assert_close(objective.loss(output, target), -p.log().sum(1))
    torch.testing.assert_close(objective.score(output, target), -p.log2().mean(1))
    assert objective.score(torch.zeros(2, 6), target[:2]).tolist() == pytest.approx([1, 1])
    scalar = objective.loss(output[:, :1], target[:, 0, 0])
    torch.testing.assert_close(scalar, -p[:, 0].log())


def test_a_weighted_sum_masks_each_objective_on_its_own() -> None:
    kinds = {"label": "classification", "parity": "classification", "angle": "regression"}
    parts = {name: objective_of(kind, {}) for name, kind in kinds.items()}
    whole = Weighted(list(parts), list(parts.values()), [3, 2, 1], [1.0, 0.5, 2.0])
    assert whole.metrics == (
        *("label_loss", "label_accuracy", "parity_loss", "parity_accuracy"),
        *("angle_loss", "error"),
    )
    output = torch.randn(4, 6, dtype=torch.float64)
    target = {
        "label": torch.randint(3, (4,)),
        "parity": torch.randint(2, (4,)),
        "angle": torch.randn(4, 1).double(),
    }
    label, parity, angle = (
        part.loss(output[:, outputs], target[name])
        for (name, part), outputs in zip(parts.items(), whole.outputs, strict=True)
    )
    terms = [(loss, loss, Mask.of(True), None) for loss in (label, parity, angle)]
    torch.testing.assert_close(whole.combined(terms)[0], label + 0.5 * parity + 2.0 * angle)
    there = torch.tensor([True, False, False, True])
    label_term = label * there, label * there, Mask.of(there), None
    losses, score, present = whole.combined([label_term, None, (angle, angle, Mask.of(True), None)])
    torch.testing.assert_close(losses, label * there + 2.0 * angle)
    assert present is Mask.of(True)
    means = whole.means(score.sum(0), 4)
    assert means == pytest.approx(
        {
            "label_loss": label[there].mean().item(),
            "label_accuracy": label[there].mean().item(),
            "angle_loss": angle.mean().item(),
            "error": angle.mean().item(),
        }
    )
    assert whole.combined([label_term, None, None])[2] is not Mask.of(True)


# --- posteriors ------------------------------------------------------------------------------------------


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
