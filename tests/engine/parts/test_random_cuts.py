"""Random graphs cut at random compute the bits of the uncut run."""

from __future__ import annotations

import random
from typing import Any

import pytest
import torch

from antiphon.engine.build.builder import build
from antiphon.engine.parts.placement import check_placement, units_of
from antiphon.envs import registry
from antiphon.scenarios import Scenario
from tests.engine.parts.test_part import check_cut

GRAPHS, MORE = 10, 100
STEPS = 10
SIZES = (16, 32)
"""Multiples of 16: matrices of stacked agents begin at multiples of 64 bytes, however many there are (docs/parts.md)."""
Document = dict[str, Any]


def gradient(rng: random.Random) -> Document:
    """A synthetic gradient of any kind that learns from what crosses the cut, or from a loss of its own."""
    kind = rng.choice(["linear", "linear", "mlp", "critic", "sobolev", "sobolev_label", "local"])
    if kind in ("local", "sobolev_label"):
        return {"kind": kind, "target": "label"}
    context = rng.sample(["label", "returned", "from.phase", "to.phase"], rng.randint(0, 2))
    hidden = {"hidden": [16]} if kind == "mlp" else {}
    return {"kind": kind, "context": context, **hidden}


def channel(rng: random.Random, size: int) -> Document:
    """A channel that can be cut."""
    coupling = rng.choice(["decoupled"] * 5 + ["unlocked", "detached", "delayed"])
    link: Document = {"delay": rng.randint(1, 3)}
    if coupling != "delayed":
        link |= rng.choice([{}, {}, {"drop": 0.3}, {"noise": 0.1}, {"bits": 4}, {"rate": 0.5}])
    if rng.random() < 0.3:
        link["back"] = rng.randint(1, 3)
    found: Document = {"coupling": coupling, "size": size, "link": link}
    if coupling in ("decoupled", "unlocked"):
        found["gradient"] = gradient(rng)
    if coupling == "unlocked" or (coupling == "decoupled" and rng.random() < 0.2):
        found["input"] = {
            "kind": "linear",
            "context": rng.sample(["held", "age", "left_half", "from.phase", "to.phase"], rng.randint(1, 2)),
        }
    return found


def agent(rng: random.Random) -> Document:
    """A kind of agent."""
    network: Document = rng.choice(
        [
            {"kind": "mlp", "hidden": [rng.choice(SIZES)], "norm": rng.choice(["none", "layer", "batch"])},
            {"kind": "gru", "size": 16},
        ]
    )
    period = rng.choice([1, 1, 2])
    found: Document = {
        "observes": ["image"],
        "network": network,
        "fan_in": rng.choice(["concat", "concat", "sum", "mean"]),
        "clock": {"period": period, "phase": rng.randrange(period), "unroll": rng.choice([1, 1, 2, 3])},
    }
    if rng.random() < 0.7:
        found["objective"] = {"kind": "classification", "target": "label", "when": "each"}
    if rng.random() < 0.2:
        found["p_update"] = 0.5
    return found


def scenario(rng: random.Random) -> Scenario:
    """A random graph of a few kinds of agents and channels, so that some of either are stacked."""
    kinds = [agent(rng) for _ in range(rng.randint(1, 2))]
    size = rng.choice(SIZES)
    ways = [channel(rng, size) for _ in range(rng.randint(1, 2))]
    names = [f"a{i}" for i in range(rng.randint(3, 7))]
    agents = {name: dict(rng.choice(kinds)) for name in names}
    agents[names[-1]]["objective"] = {"kind": "classification", "target": "label", "when": "each"}
    edges = {(name, names[(i + 1) % len(names)]) for i, name in enumerate(names)}
    edges |= {(a, b) for a in names for b in names if a != b and rng.random() < 0.2}
    return Scenario.model_validate(
        {
            "scenario": "random",
            "env": {"id": "antiphon/Digits-v0", "hold": 2, "episode": rng.choice(["stream", "example"])},
            "agents": agents,
            "channels": [{"from": a, "to": b, **rng.choice(ways)} for a, b in sorted(edges)],
            "training": {"batch": 16, "optimiser": {"kind": rng.choice(["adam", "sgd"]), "lr": 0.01}},
        }
    )


def cut(rng: random.Random, found: Scenario, parts: int) -> dict[str, int]:
    """A placement of the scenario's units at random, no part of it empty."""
    env = registry.describe(found.env)
    system = build(found, env, seed=0, device=torch.device("cpu"), dtype=torch.float32)
    units = units_of(system)
    parts = min(parts, len(units))
    where = [*range(parts), *(rng.randrange(parts) for _ in range(len(units) - parts))]
    rng.shuffle(where)
    placement = {name: part for unit, part in zip(units, where, strict=True) for name in unit}
    check_placement(system, placement)
    return placement


@pytest.mark.parametrize(
    "seed", [*range(GRAPHS), *(pytest.param(n, marks=pytest.mark.nightly) for n in range(GRAPHS, MORE))]
)
def test_a_random_cut_of_a_random_graph_changes_no_bit(seed: int) -> None:
    rng = random.Random(seed)
    found = scenario(rng)
    placement = cut(rng, found, rng.randint(2, 3))
    assert len(set(placement.values())) > 1
    check_cut(found, placement, steps=STEPS, seed=seed)
