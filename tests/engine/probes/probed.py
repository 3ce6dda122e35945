"""Scenarios that probes are tried on: a chain, a corporation with cycles, agents on several timescales."""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor

from antiphon.engine.simulation import Simulation
from antiphon.scenarios import Scenario

DOUBLE = torch.float64
SMOOTH: dict[str, Any] = {"kind": "mlp", "hidden": [6], "norm": "layer", "activation": "tanh"}
GOAL = {"kind": "classification", "target": "label"}


def make(
    agents: dict[str, Any],
    channels: list[dict[str, Any]],
    *,
    batch: int = 8,
    seed: int = 0,
    dtype: torch.dtype = DOUBLE,
    training: dict[str, Any] | None = None,
    **env: Any,
) -> Simulation:
    """A simulation on the embedded digits; channels are linear, decoupled and know the label."""
    usual = {"gradient": {"kind": "linear", "context": ["label"]}}
    scenario = Scenario.model_validate(
        {
            "scenario": "probed",
            "env": {"id": "antiphon/Digits-v0", **env},
            "agents": agents,
            "channels": [{**usual, **channel} for channel in channels],
            "training": {"batch": batch, "optimiser": {"kind": "adam", "lr": 0.01}, **(training or {})},
        }
    )
    return Simulation(scenario, seed=seed, dtype=dtype)


def chain(
    coupling: str,
    norm: str = "batch",
    *,
    agent: dict[str, Any] | None = None,
    training: dict[str, Any] | None = None,
    **channel: Any,
) -> Simulation:
    """Four agents in a row; the first sees a digit, the last is told what it was."""
    layer = {"kind": "mlp", "hidden": [7], "norm": norm}
    agents: dict[str, Any] = {name: {"network": layer, **(agent or {})} for name in "abc"}
    agents["a"]["observes"] = ["image"]
    agents["d"] = {"network": {"kind": "mlp", "hidden": []}, "objective": GOAL, **(agent or {})}
    channels = [{"from": s, "to": r, "coupling": coupling, **channel} for s, r in itertools.pairwise("abcd")]
    return make(agents, channels, training=training)


def corporation(
    coupling: str,
    *,
    hold: int = 4,
    port: str | None = None,
    unroll: Any = None,
    rate: float = 1.0,
    batch: int = 8,
    **link: Any,
) -> Simulation:
    """Five agents that see a patch each, on a graph with cycles; two are told the label at the last step."""
    pairs = [tuple(pair) for pair in ("ab", "ba", "bc", "cd", "da", "ce", "ec", "ed")]
    if unroll is None:
        unroll = "episode" if coupling == "locked" else 1
    agents: dict[str, Any] = {
        name: {
            "observes": [f"patch_{i}"],
            "network": SMOOTH,
            "clock": {"unroll": unroll},
            **({"objective": GOAL} if name in "ad" else {}),
        }
        for i, name in enumerate("abcde")
    }
    channels = [
        {
            "from": s,
            "to": r,
            "size": 3,
            "norm": "layer",
            "coupling": coupling,
            "link": {"delay": 1, "rate": rate, **link},
            **({} if port is None else {"port": port}),
        }
        for s, r in pairs
    ]
    return make(agents, channels, batch=batch, patches=5, hold=hold, episode="example")


def timescales() -> Simulation:
    """Periods 1, 2 and 3, a phase, holds, delays, a mean, and windows that are open most of the time."""
    agents: dict[str, Any] = {
        "fast": {"observes": ["image"], "network": SMOOTH, "clock": {"unroll": 4}, "fan_in": "mean"},
        "slow": {"network": SMOOTH, "clock": {"period": 3, "phase": -1, "unroll": 2}},
        "even": {"observes": ["image"], "network": SMOOTH, "clock": {"period": 2, "unroll": 3}},
        "judge": {"network": SMOOTH, "objective": GOAL},
    }
    channels = [
        {"from": s, "to": r, "size": 4, "norm": "layer", "link": {"delay": d}}
        for s, r, d in [
            ("fast", "slow", 0),
            ("slow", "fast", 2),
            ("even", "fast", 1),
            ("slow", "judge", 0),
            ("fast", "even", 3),
        ]
    ]
    return make(agents, channels)


def equal(a: Any, b: Any) -> bool:
    """Whether two states are the same to the bit."""
    if isinstance(a, Tensor):
        return isinstance(b, Tensor) and torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(equal, a, b))
    return bool(a == b)
