"""The library scenarios `gpt` and `resnet`: variants, parameters, and the model that comes back."""

from __future__ import annotations

from typing import Any
from warnings import catch_warnings, simplefilter

import pytest
import torch

import antiphon
from antiphon import Scenario, Simulation
from antiphon.agents.models import GPT, ResNet
from tests.kit.documented import gpt, resnet

MAKE: dict[str, Any] = {"gpt": gpt, "resnet": resnet}
SMALL: dict[str, dict[str, Any]] = {
    "gpt": {"length": 8, "width": 8, "heads": 2, "blocks": 3, "batch": 4},
    "resnet": {"channels": 4, "stages": (1, 2), "batch": 4},
}
COUPLINGS = {"locked": None, "detached": None, "local": "local", "decoupled": "local"}
KINDS: dict[str, dict[str, str | None]] = {
    "gpt": {**COUPLINGS, "aug_local": "local"},
    "resnet": {**COUPLINGS, "aug_local": "local"},
}
"""The kind of gradient of each variant; None: it has none."""
FURTHER = (
    ("gpt", "local"),
    ("gpt", "detached"),
    ("resnet", "locked"),
    ("resnet", "local"),
    ("resnet", "decoupled"),
)
"""Variants that are made as others are."""
CASES = [(name, variant) for name, kinds in KINDS.items() for variant in kinds]


def scenario(name: str, variant: str, **values: Any) -> Scenario:
    made: Scenario = MAKE[name](**{**SMALL[name], **MAKE[name].variants[variant], **values})
    return made


@pytest.mark.parametrize(
    ("name", "values"),
    [("gpt", {"blocks": 1}), ("gpt", {"blocks": 1, "tied": True}), ("resnet", {"stages": (1,)})],
)
def test_a_model_of_one_block_is_one_agent_and_nothing_is_said_of_channels(
    name: str, values: dict[str, Any]
) -> None:
    with catch_warnings():
        simplefilter("error")
        found = scenario(name, "decoupled", **values)
    assert (len(found.agents), len(found.channels), found.share) == (1, 0, ())


@pytest.mark.long
@pytest.mark.parametrize(
    ("name", "variant"),
    [pytest.param(*one, marks=pytest.mark.nightly if one in FURTHER else ()) for one in CASES],
)
def test_a_run_gives_the_model_back(name: str, variant: str) -> None:
    found, kind = scenario(name, variant), KINDS[name][variant]
    assert list(MAKE[name].variants) == list(KINDS[name])
    assert {channel.coupling.name for channel in found.channels} == {"decoupled" if kind else variant}
    assert kind is None or {channel.gradient.kind for channel in found.channels} == {kind}
    with Simulation(found) as simulation:
        before = {n: p.clone() for n, p in antiphon.join(simulation).named_parameters()}
        simulation.run(3)
        model = antiphon.join(simulation)
        assert simulation.evaluate("validation").agents["part2"]["loss"] > 0
    assert isinstance(model, GPT if name == "gpt" else ResNet)
    moved = {n for n, p in model.named_parameters() if not torch.equal(p, before[n])}
    first = {n for n in before if n.startswith(("tokens", "positions", "conv.", "blocks.0"))}
    assert any(n.startswith("head") for n in moved)
    assert (not moved & first) if variant == "detached" else (first & moved)


def test_a_tied_head_stays_the_embedding() -> None:
    with Simulation(scenario("gpt", "local", tied=True)) as simulation:
        simulation.run(3)
        model = antiphon.join(simulation)
    assert torch.equal(model.head.weight, model.tokens.weight)
