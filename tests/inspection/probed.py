"""Scenarios that probes are tried on: a chain, a corporation with cycles, agents on several timescales."""

from __future__ import annotations

import itertools
from typing import Any

import torch

from antiphon import Simulation
from tests.engine.scenes import CLASSIFY, scenario_of

DOUBLE = torch.float64
SMOOTH: dict[str, Any] = {"kind": "mlp", "hidden": [6], "norm": "layer", "activation": "tanh"}
EYE: dict[str, Any] = {"observes": ["image"], "network": SMOOTH}
JUDGE: dict[str, Any] = {"network": SMOOTH, "objective": CLASSIFY}


def make(
    agents: dict[str, Any],
    channels: list[dict[str, Any]],
    *,
    batch: int = 8,
    dtype: torch.dtype = DOUBLE,
    training: dict[str, Any] | None = None,
    **env: Any,
) -> Simulation:
    """A simulation on the embedded digits; channels are linear, decoupled and know the label."""
    usual = {"gradient": {"kind": "linear", "context": ["label"]}}
    trained = {"batch": batch, "optimiser": {"kind": "adam", "lr": 0.01}, **(training or {})}
    env = {"sampling": "with_replacement", **env}  # what is expected of these probes was measured so
    scenario = scenario_of(agents, [{**usual, **channel} for channel in channels], env, **trained)
    return Simulation(scenario, dtype=dtype)


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
    agents["d"] = {"network": {"kind": "mlp", "hidden": []}, "objective": CLASSIFY, **(agent or {})}
    channels = [{"from": s, "to": r, "coupling": coupling, **channel} for s, r in itertools.pairwise("abcd")]
    return make(agents, channels, training=training)


def corporation(
    coupling: str, *, hold: int = 4, port: str | None = None, unroll: Any = None, **link: Any
) -> Simulation:
    """Five agents that see a patch each, on a graph with cycles; two are told the label at the last step."""
    if unroll is None:
        unroll = "episode" if coupling == "locked" else 1
    own = {"network": SMOOTH, "clock": {"unroll": unroll}}
    agents: dict[str, Any] = {name: {"observes": [f"patch_{i}"], **own} for i, name in enumerate("abcde")}
    for name in "ad":
        agents[name]["objective"] = CLASSIFY
    channel = {"size": 3, "norm": "layer", "coupling": coupling, "link": {"delay": 1, **link}, "port": port}
    pairs = ("ab", "ba", "bc", "cd", "da", "ce", "ec", "ed")
    return make(
        agents, [{"from": s, "to": r, **channel} for s, r in pairs], patches=5, hold=hold, episode="example"
    )
