"""Runs of split models, of the library too: tied and frozen weights, pipelines, and which model comes back."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from warnings import catch_warnings, simplefilter

import pytest
import torch
from torch import Tensor, nn

import antiphon
from antiphon import Scenario, Simulation
from antiphon.agents.models import GPT, ResNet
from antiphon.splitting.split_scenarios import gpt as library_gpt
from antiphon.splitting.split_scenarios import resnet
from tests.splitting.models import ResNet as SmallResNet
from tests.splitting.models import UNet
from tests.splitting.parts import gpt, pictures, split_gpt


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [place for place, value in one.items() if not torch.equal(value, other[place])] == []


@pytest.mark.long
@pytest.mark.parametrize(
    ("gradient", "frozen"), [("local", ["blocks.0"]), ("aug_local", ["blocks.3", "norm", "head"])]
)
def test_frozen_submodules_keep_their_numbers(gradient: str, frozen: list[str]) -> None:
    """Whole parts among them, and all that a local net is made of."""
    model = gpt(dropout=0.0)
    for name in frozen:
        model.get_submodule(name).requires_grad_(False)
    with Simulation(split_gpt(model, gradient, ["blocks.1", "blocks.3"])) as run:
        run.run(2)
        joined = antiphon.join(run)
    for (key, p), q in zip(model.named_parameters(), joined.parameters(), strict=True):
        assert q.requires_grad == p.requires_grad
        assert torch.equal(p, q) == (not p.requires_grad), key


@pytest.mark.long
def test_a_finished_run_comes_back(tmp_path: Path) -> None:
    model = gpt(dropout=0.2, tied=True)
    scenario, other_scenario = (split_gpt(model, "local", ["blocks.2"]) for _ in range(2))
    with Simulation(scenario, logdir=tmp_path / "run") as run:
        run.run(3)
        expected = antiphon.join(run).state_dict()
    same(expected, antiphon.join(run).state_dict())  # closed
    with Simulation.resume(tmp_path / "run", scenario=other_scenario) as again:
        found = antiphon.join(again)
    same(expected, found.state_dict())


# --- gpt and resnet --------------------------------------------------------------------------------------


MAKE: dict[str, Any] = {"gpt": library_gpt, "resnet": resnet}
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


# --- pipelines -------------------------------------------------------------------------------------------


STILL = {"kind": "sgd", "lr": 1e-30}
PIPELINES = [(SmallResNet, ["layer1.1", "layer2.0.conv2", "fc"]), (UNet, ["bottom", "up2"])]
"""The second has a skip from part 0 to part 2; the first one inside a block."""


def losses(make: Callable[[], nn.Module], at: list[str], delay: int, steps: int) -> list[float]:
    torch.manual_seed(0)
    scenario = antiphon.split(
        make(), at, env=pictures(), delay=delay, coupling="detached", batch=4, optimiser=STILL
    )
    found = []
    with Simulation(scenario) as run:
        for _ in range(steps):
            loss = run.step()["losses"].get(f"part{len(at)}")
            found += [] if loss is None else [float(loss)]
    return found


@pytest.mark.long
@pytest.mark.parametrize(("make", "at"), PIPELINES)
def test_every_sample_keeps_its_label_and_its_skips(make: Callable[[], nn.Module], at: list[str]) -> None:
    """While nothing learns, a pipeline has the losses of the whole model, so many steps later."""
    whole, pipelined = losses(make, at, 0, 6), losses(make, at, 1, 6 + len(at))
    assert len(whole) == 6
    assert pipelined == pytest.approx(whole, rel=1e-5)
