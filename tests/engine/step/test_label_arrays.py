"""Targets of a class at every site, [B, T]: losses, predictors, masks and probes, on both engines."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from antiphon.engine.planning.advice import advice
from antiphon.engine.probes.representation import rdm, represent
from antiphon.engine.simulation import Simulation
from antiphon.envs import from_sequences, from_tensors
from antiphon.scenarios import Scenario
from tests.engine.scenes import scenario_of

COUNT, LENGTH, CLASSES, WIDTH = 90, 4, 5, 3
TOKENS = torch.randint(CLASSES, (COUNT, LENGTH), generator=torch.Generator().manual_seed(0))
TOKENS[0, 0] = CLASSES - 1
FOLLOWING = (2 * TOKENS + TOKENS.roll(1, 1)) % CLASSES


class Embedded(nn.Module):
    """Tokens [B, T] to a vector for each, [B, T * WIDTH]."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        assert (inputs, outputs) == (LENGTH, LENGTH * WIDTH)
        self.table = nn.Embedding(CLASSES, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        return self.table(x.long()).flatten(-2)


class Logits(nn.Module):
    """Logits of a class at each site, [B, T * CLASSES], that depend on this site and the one before."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        assert (inputs, outputs) == (LENGTH * WIDTH, LENGTH * CLASSES)
        self.hidden, self.head = nn.Linear(2 * WIDTH, 16), nn.Linear(16, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        sites = x.unflatten(-1, (LENGTH, WIDTH))
        return self.head(self.hidden(torch.cat([sites, sites.roll(1, -2)], -1)).tanh()).flatten(-2)


def scene(
    kind: str = "classification", env: Any = None, common: dict[str, Any] | None = None, **channel: Any
) -> Scenario:
    """Two chains of an embedding and what reads it, so that the cohort engine stacks them."""
    goal = {"kind": kind, "target": "following"}
    agents: dict[str, Any] = {}
    channels = []
    for chain in "xy":
        agents[f"{chain}0"] = {
            "observes": ["tokens"],
            "categories": "index",
            "network": Embedded,
            **(common or {}),
        }
        agents[f"{chain}1"] = {"network": Logits, "objective": goal, **(common or {})}
        channels.append(
            {"from": f"{chain}0", "to": f"{chain}1", "size": LENGTH * WIDTH, "norm": "none", **channel}
        )
    source = from_tensors(tokens=TOKENS, following=FOLLOWING) if env is None else env
    return scenario_of(agents, channels, source, optimiser={"kind": "adam", "lr": 0.02})


COUPLINGS: dict[str, dict[str, Any]] = {
    "locked": {"coupling": "locked"},
    "local": {"gradient": {"kind": "local", "target": "following"}},
    "local, mlp": {"gradient": {"kind": "local", "target": "following", "hidden": [6]}},
    "sobolev_label": {"gradient": {"kind": "sobolev_label", "target": "following"}},
    "linear, given the labels": {"gradient": {"kind": "linear", "context": ["following"]}},
    "sobolev, given the labels": {"gradient": {"kind": "sobolev", "context": ["following"]}},
}


@pytest.mark.parametrize("name", COUPLINGS)
def test_both_engines_learn_the_same(name: str) -> None:
    found = []
    for backend in ("cohort", "reference"):
        with Simulation(scene(**COUPLINGS[name]), backend=backend, dtype=torch.float64) as simulation:
            simulation.run(12)
            system = simulation._system
            numbers = {
                f"{n} {k}": v for n, a in system.agents.items() for k, v in a.learner.parameters.items()
            }
            for n, channel in system.channels.items():
                if channel.predictor is not None:
                    numbers |= {f"{n} {k}": v for k, v in channel.predictor.parameters.items()}
            found.append((numbers, simulation.evaluate()))
    assert found[0][0].keys() == found[1][0].keys()
    for key, mine in found[0][0].items():
        torch.testing.assert_close(mine, found[1][0][key], rtol=1e-10, atol=1e-12, msg=key)
    for agent in ("x1", "y1"):
        mine, theirs = (each.agents[agent] for _, each in found)
        assert mine == pytest.approx(theirs)


@pytest.mark.parametrize(("kind", "metric"), [("classification", "accuracy"), ("coding", "bits")])
def test_an_evaluation_is_the_mean_over_sites(kind: str, metric: str) -> None:
    with Simulation(scene(kind, **COUPLINGS["local"])) as simulation:
        simulation.run(300)
        found = simulation.evaluate().agents["x1"]
        examples = next(iter(simulation.world.env.batches("test", COUNT)))
        outputs = simulation.compose()(tokens=examples["tokens"])["x1"].view(-1, LENGTH, CLASSES)
    nats = F.cross_entropy(outputs.movedim(2, 1), examples["following"]).item()
    assert found["loss"] == pytest.approx(nats, rel=1e-5)
    right = (outputs.argmax(2) == examples["following"]).double().mean().item()
    expected = right if metric == "accuracy" else nats / torch.log(torch.tensor(2.0)).item()
    assert found[metric] == pytest.approx(expected, rel=1e-5)
    assert right > 0.9


@pytest.mark.parametrize("backend", ["cohort", "reference"])
def test_an_absent_target_counts_nowhere(backend: str) -> None:
    """Rows without a target: their labels may be anything."""
    words = list(TOKENS.view(18, 5, LENGTH))
    masks = [torch.tensor([True, False, True, True, False])] * 18
    found = []
    for noise in (0, 3):
        labels = [
            (2 * word + noise * (~mask).long().unsqueeze(1)) % CLASSES
            for word, mask in zip(words, masks, strict=True)
        ]
        env = from_sequences(tokens=words, following=labels, _following=masks, test=0.0, validation=0.0)
        with Simulation(scene(env=env, **COUPLINGS["sobolev_label"]), backend=backend) as simulation:
            simulation.run(10)
            found.append({n: a.learner.parameters for n, a in simulation._system.agents.items()})
    for name, parameters in found[0].items():
        assert all(torch.equal(value, found[1][name][key]) for key, value in parameters.items())


def test_representations_have_a_label_at_every_site() -> None:
    with Simulation(scene(**COUPLINGS["locked"])) as simulation:
        simulation.run(200)
        shown = represent(simulation, examples=15)
        assert shown.target == "following"
        assert shown.labels.shape == (15, LENGTH)
        split = next(iter(simulation.world.env.batches("test", COUNT)))
        assert shown.labels[0].tolist() == split["following"][0].tolist()  # in the split's order
        assert rdm(simulation, examples=15)["x0"].shape == (15, 15)


def test_the_labels_are_observations_that_no_agent_need_see() -> None:
    scenario = scene(**COUPLINGS["linear, given the labels"])
    assert not advice(scenario)
