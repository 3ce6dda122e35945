"""Conformance check of user-defined kinds, such as your own gradient or objective."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch

from antiphon.base.errors import ScenarioError, suggest
from antiphon.base.extensions import POINTS
from antiphon.comms.backward_requests import constant
from antiphon.comms.couplings import Detached, Unlocked
from antiphon.running.simulation import Simulation
from antiphon.scenarios import Scenario
from antiphon.scenarios.channel_specs import CouplingSpec

_STEPS = 6
_LINK = {"delay": 1, "drop": 0.25}
_PARTS = {"s0": 0, "s1": 0, "r0": 1, "r1": 1}
_TOLERANCE = 1e-9
"""Tolerance of parameters in float64, relative and absolute: a stack computes the same sums in another order."""


def check(kind: Any, *, point: str, **options: Any) -> None:
    """Check that a kind works in every way that runs use it: alone, in a stack, saved and resumed.

    A small scenario trains with it for some steps in float64: four agents, in two pairs of identical ones. A coupling is also
    checked over links that delay and lose messages, and in two parts. What the kind raises is raised.

    Args:
        kind: The class or factory, or its registered name.
        point: Its extension point, such as `gradient`.
        options: Keys of the kind in a scenario file; they may name signals of `antiphon/Digits-v0`, such as `image`, `label`.

    Raises:
        AssertionError: A check fails; one line says what differs.
        ScenarioError: There is no such kind or extension point.
    """
    if point not in POINTS:
        raise ScenarioError(f"check: unknown extension point {point!r}{suggest(point, POINTS)}")
    scenario = Scenario.model_validate(_document(point, {"kind": kind, **options}))
    if isinstance(kind, str):
        again = Scenario.from_yaml(scenario.to_yaml())
        assert again == scenario, "the scenario differs after it was written to YAML and read back"
    alone = _learned(scenario, stacked=False)
    untouched = _learned(scenario, stacked=False, steps=0)
    trained = {key for key in alone if not torch.equal(alone[key], untouched[key])}
    assert trained, "no parameter is trained"
    if point == "coupling" and not isinstance(scenario.channels[0].coupling, Detached):
        problem = "no sender is trained; let `credit` return a gradient, or use detached"
        assert any(key.startswith("s0 ") for key in trained), problem
    _same(alone, _learned(scenario, stacked=False), "the same seed", 0.0)
    stacked = _learned(scenario)
    _same(alone, stacked, "a stack", _TOLERANCE)
    with tempfile.TemporaryDirectory() as folder:
        _same(stacked, _learned(scenario, saved=Path(folder) / "state"), "a resumed run", 0.0)
    if point == "coupling" and not scenario.channels[0].coupling.joins_endpoints:
        scenario = Scenario.model_validate(_document(point, {"kind": kind, **options}, link=_LINK))
        stacked = _learned(scenario)
        _same(_learned(scenario, stacked=False), stacked, "a stack over a link", _TOLERANCE)
        _same(stacked, _learned(scenario, parts=_PARTS), "the run in parts", 0.0)


def _document(point: str, kind: dict[str, Any], link: dict[str, Any] | None = None) -> dict[str, Any]:
    """Return a document in which the kind stands at its point: two pairs of a sender and a receiver; `link`: of all channels."""
    network = {"kind": "mlp", "hidden": [5], "norm": "layer"}
    sender: dict[str, Any] = {"observes": ["image"], "network": network}
    receiver: dict[str, Any] = {
        "network": network,
        "objective": {"kind": "classification", "target": "label"},
    }
    channel: dict[str, Any] = {
        # a network's 14 outputs are hardly as many as its state has, for which they could then be taken
        "size": 7 if point == "network" else 4,
        "norm": "layer",
        "gradient": {"kind": "linear", "context": ["label"]},
    }
    training: dict[str, Any] = {"batch": 8, "steps": _STEPS, "optimiser": {"kind": "sgd", "lr": 0.001}}
    document: dict[str, Any] = {
        "scenario": "check",
        "env": {"id": "antiphon/Digits-v0"},
        "training": training,
    }
    if point == "gradient":
        channel["gradient"] = {"context": ["label"], **kind}
    elif point == "input":
        channel |= {"coupling": Unlocked.name, "input": {"context": ["image"], **kind}}
    elif point == "coupling":
        crossing = CouplingSpec.model_validate(kind).made
        channel |= {"coupling": kind, **({} if link is None else {"link": link})}
        if crossing.replaces_messages:
            channel["input"] = {"kind": "linear", "context": ["image"]}
        if not crossing.predicts:
            del channel["gradient"]
        if crossing.uses_returned and not crossing.waits:
            sender["clock"] = {
                "unroll": _STEPS - 2
            }  # gradients are back within the window, also over the link
        document["env"]["hold"] = 4  # what is read late is of the same example
    elif point == "objective":
        receiver["objective"] = {"target": "label", **kind}
    elif point == "network":
        sender["network"] = kind if isinstance(kind["kind"], str) else kind["kind"]
    elif point == "optimiser":
        training["optimiser"] = {"lr": 0.01, **kind}
    elif point == "schedule":
        training["optimiser"]["schedule"] = kind
    elif point == "sample":
        sender["objective"] = {"kind": "classification", "target": "label"}
        size = {} if "vocabulary" in kind else {"size": 4}  # symbols say it themselves
        channel = {"gradient": channel["gradient"], "sample": kind, **size}
    document["agents"] = {
        f"{end}{i}": agent for i in range(2) for end, agent in (("s", sender), ("r", receiver))
    }
    document["channels"] = [{"from": f"s{i}", "to": f"r{j}", **channel} for i in range(2) for j in range(2)]
    return document


def _learned(
    scenario: Scenario,
    *,
    stacked: bool = True,
    steps: int = _STEPS,
    saved: Path | None = None,
    parts: dict[str, int] | None = None,
) -> dict[str, torch.Tensor]:
    """Return the parameters after some steps; `saved`: of a simulation that loads the state of another half-way."""
    settings: dict[str, Any] = {"seed": 1, "dtype": torch.float64, "stacked": stacked, "parts": parts}
    with Simulation(scenario, **settings) as first:
        first.run(steps if saved is None else steps // 2)
        if saved is None:
            return _parameters(first)
        first.save(saved)
    with Simulation.load(saved, scenario) as simulation:
        simulation.run(steps - steps // 2)
        return _parameters(simulation)


def _parameters(simulation: Simulation) -> dict[str, torch.Tensor]:
    owners: dict[str, Any] = dict(simulation.agents)
    for name, channel in simulation.channels.items():
        owners |= {f"{name} gradient": channel.synthetic_gradient, f"{name} input": channel.synthetic_input}
    return {
        f"{name} {key}": constant(p).clone()
        for name, owner in owners.items()
        if owner is not None
        for key, p in owner.parameters.items()
    }


def _same(
    parameters: dict[str, torch.Tensor], expected: dict[str, torch.Tensor], action: str, tolerance: float
) -> None:
    for key, value in parameters.items():
        away = float((value - expected[key]).abs().max()) if value.numel() else 0.0
        most = tolerance * (1 + float(value.abs().max())) if value.numel() else 0.0
        assert away <= most, f"{action} gives other parameters: {key!r} differs by {away:.2g}"
