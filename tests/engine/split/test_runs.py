"""Runs of split models in the sweep order: the same bits whatever is recorded, in one piece or resumed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import antiphon
from antiphon.engine.runs.seeds import Seeds
from antiphon.engine.simulation import Simulation
from antiphon.errors import RunError
from antiphon.scenarios import Scenario
from antiphon.scenarios.training import TelemetrySpec
from tests.contracts.twins import made, side_by_side
from tests.engine.numbers import one_line
from tests.engine.split.models import ResNet, UNet
from tests.engine.split.test_credit import gpt
from tests.engine.split.test_credit import scenario as of_text
from tests.engine.split.test_training import pictures

STEPS = 7
TELEMETRY = TelemetrySpec(every=2, histograms=True)


def of_pictures(model: Any, at: list[str], gradient: Any, **settings: Any) -> Scenario:
    found: Scenario = antiphon.split(
        model, at, env=pictures(), gradient=gradient, batch=4, steps=STEPS, **settings
    )
    return found


def resnet(gradient: Any, at: tuple[str, ...] = ("layer1.1", "layer2"), **settings: Any) -> Scenario:
    """Batch norm in every part, and in the head of a local net."""
    torch.manual_seed(0)
    return of_pictures(ResNet(), list(at), gradient, **settings)


def text(gradient: Any, **settings: Any) -> Scenario:
    """Dropout in every part."""
    return of_text(gpt(dropout=0.2), gradient, ["blocks.1", "blocks.3"], **settings)


LABELLED = {"kind": "sobolev_label", "target": "label", "hidden": [4]}
SPLITS: dict[str, Callable[..., Scenario]] = {
    "text, local": lambda **s: text("local", **s),
    "text, lens": lambda **s: text("lens", **s),
    "text, aug_local": lambda **s: text({"kind": "aug_local", "layers": 1}, **s),
    "text, linear": lambda **s: text({"kind": "linear", "context": ["following"]}, **s),
    "text, tied": lambda **s: of_text(
        gpt(dropout=0.2, tied=True), "local", ["blocks.1", "blocks.3"], tie="together", **s
    ),
    "maps, local": lambda **s: resnet("local", **s),
    "maps, aug_local": lambda **s: resnet({"kind": "aug_local", "at": "layer2"}, ("layer1.1",), **s),
    "maps, sobolev_label": lambda **s: resnet(LABELLED, **s),
    "maps, conv": lambda **s: resnet({"kind": "conv", "filter": 3, "hidden": [4]}, **s),
    "maps, detached": lambda **s: resnet("linear", coupling="detached", **s),
}
CORE = ("text, lens", "text, tied", "maps, aug_local", "maps, conv")


def numbers(run: Simulation) -> dict[str, Tensor]:
    """Every parameter, statistic and moment of agents and predictors."""
    found: dict[str, Tensor] = {}
    owners: dict[str, Any] = {name: agent.learner for name, agent in run._system.agents.items()}
    owners |= {name: channel.predictor for name, channel in run._system.channels.items()}
    for name, owner in owners.items():
        if owner is not None:
            moments = owner.optimiser.tensors()
            each = {**owner.parameters, **owner.buffers, **{f"moment {i}": m for i, m in enumerate(moments)}}
            found |= {f"{name} {key}": value.detach().clone() for key, value in each.items()}
    return found


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [place for place, value in one.items() if not torch.equal(value, other[place])] == []


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=() if n in CORE else (pytest.mark.nightly,)) for n in SPLITS]
)
def test_bits_do_not_depend_on_what_is_recorded_or_on_a_resumed_run(name: str, tmp_path: Path) -> None:
    make = SPLITS[name]
    recorded = make().model_copy(update={"telemetry": TELEMETRY})
    with Simulation(make()) as plain, Simulation(recorded, logdir=tmp_path / "run") as watched:
        watched.channels["part0->part1"].record(["message"])
        plain.run(STEPS)
        watched.run(STEPS)
        expected = numbers(plain)
        same(expected, numbers(watched))
    with Simulation(make()) as first:
        first.run(3)  # nothing is kept at its steps but the last
        first.until = STEPS
        first.run(seconds=0.0)
        saved = first.save(tmp_path / "at-3")
        with Simulation.load(saved, first.scenario) as second:
            second.run(STEPS - 3)
            same(expected, numbers(second))
    with Simulation(make()) as by_hand:
        for _ in range(STEPS):
            by_hand.step()
        same(expected, numbers(by_hand))


# --- what does not learn -----------------------------------------------------------------------------------


@pytest.mark.parametrize("gradient", ["linear", "local", "lens", "aug_local"])
@pytest.mark.parametrize("frozen", [["blocks.0"], ["blocks.2", "wte"], ["blocks.3", "norm", "head"]])
def test_frozen_submodules_keep_their_numbers_on_both_engines(gradient: str, frozen: list[str]) -> None:
    """Whole parts among them, and all that a local net is made of."""
    model = gpt(dropout=0.0)
    for name in frozen:
        model.get_submodule(name).requires_grad_(False)
    scene = of_text(model, gradient)
    reference, cohort = made(scene, "reference"), made(scene, "cohort")
    side_by_side(reference, cohort, 6)
    for run in (reference, cohort):
        joined = antiphon.join(run)
        for (key, p), q in zip(model.named_parameters(), joined.parameters(), strict=True):
            assert q.requires_grad == p.requires_grad
            assert torch.equal(p, q) == (not p.requires_grad), key


class Wrapped(nn.Module):
    """A model with a submodule called as antiphon calls an agent's."""

    def __init__(self) -> None:
        super().__init__()
        self.module = gpt(dropout=0.0)

    def forward(self, idx: Tensor) -> Tensor:
        found: Tensor = self.module(idx)
        return found


@pytest.mark.parametrize("gradient", ["lens", "aug_local"])
def test_a_submodule_called_module_keeps_its_name(gradient: str) -> None:
    model = Wrapped()
    with made(of_text(model, gradient, ["module.blocks.1", "module.blocks.2"]), "cohort") as run:
        run.run(2)
        joined = antiphon.join(run)
        part1 = run.agents["part1"].parameters
    assert joined.state_dict().keys() == model.state_dict().keys()
    found = joined.module.blocks[1].proj.weight
    assert torch.equal(found.double(), part1["module.module.blocks.1.proj.weight"].float().double())


# --- which model ---------------------------------------------------------------------------------------------


def test_of_several_seeds_each_has_a_model_of_its_own() -> None:
    scene = text("local")
    with Simulation(scene, seed=1) as alone:
        alone.run(3)
        expected = antiphon.join(alone).state_dict()
    seeds = Seeds(scene, [0, 1])
    try:
        seeds.run(3)
        first, second = (antiphon.join(one).state_dict() for one in seeds.simulations)
        with one_line("join: run is Seeds; give an antiphon.Simulation .*one of the `simulations`", RunError):
            antiphon.join(seeds)  # type: ignore[call-overload]
    finally:
        seeds.close()
    same(expected, second)
    assert not torch.equal(first["norm.weight"], second["norm.weight"])


@pytest.mark.parametrize("what", ["scenario", "path", "into"])
def test_what_is_no_run_or_no_model_is_one_line(what: str, tmp_path: Path) -> None:
    scene: Any = text("local")
    if what == "into":
        with Simulation(scene) as run, one_line("join: into is str; give a torch.nn.Module", RunError):
            antiphon.join(run, into="model.pt")  # type: ignore[type-var]
        return
    with one_line("join: run is .*; give an antiphon.Simulation", RunError):
        antiphon.join(scene if what == "scenario" else tmp_path)


@pytest.mark.parametrize("backend", ["cohort", "reference"])
def test_after_quarantine_the_others_come_back_trained(backend: str) -> None:
    scene = text("local", on_divergence="quarantine")
    with Simulation(scene, backend=backend) as run:
        run.run(2)
        run._system.agents["part2"].learner.parameters["module.norm.weight"].data.fill_(float("inf"))
        before = antiphon.join(run).state_dict()
        run.run(3)
        after = antiphon.join(run).state_dict()
        assert [line for _, line in run.events if "part2" in line]
    assert before["norm.weight"].isinf().all()
    kept = {key for key, value in before.items() if torch.equal(value, after[key])}
    assert kept == {key for key in before if key.startswith(("blocks.3", "norm", "head"))}


@pytest.mark.parametrize("tie", [None, "copy", "together"])
def test_weights_of_another_run_and_a_finished_run_come_back(tie: Any, tmp_path: Path) -> None:
    def make() -> Scenario:
        return of_text(gpt(dropout=0.2, tied=tie is not None), "lens", ["blocks.2"], tie=tie)

    with Simulation(make(), logdir=tmp_path / "run") as run:
        run.run(3)
        expected = antiphon.join(run).state_dict()
    same(expected, antiphon.join(run).state_dict())  # closed
    with Simulation(make(), seed=5) as other:
        other.load_weights(tmp_path / "run")
        same(expected, antiphon.join(other).state_dict())
    with Simulation.resume(tmp_path / "run", scenario=make()) as again:
        found = antiphon.join(again, into=gpt(tied=tie is not None))
    same(expected, found.state_dict())


# --- several tensors -----------------------------------------------------------------------------------------


def test_every_tensor_of_a_cut_has_a_local_head_of_its_own() -> None:
    torch.manual_seed(0)
    scene = of_pictures(UNet(), ["bottom", "up2"], "local")
    sizes = [channel.size for channel in scene.channels]
    side_by_side(made(scene, "reference"), made(scene, "cohort"), 3)
    with made(scene, "cohort") as run:
        heads = [channel.predictor for channel in run._system.channels.values()]
        widths = [p.parameters["module.conv.weight"].shape[1] for p in heads if p is not None]
    assert widths == [size[0] for size in sizes if isinstance(size, tuple)]
    assert len(widths) == 4


@pytest.mark.parametrize("kind", ["lens", "aug_local"])
def test_layers_that_read_several_tensors_are_no_head(kind: str) -> None:
    with one_line("gradient: the layers from 'up2' on read relu, up1, and a head reads one message; name"):
        of_pictures(UNet(), ["bottom", "up2"], {"kind": kind, "at": "up2"})
