"""Runs of split models: saved and gone on, seeds, quarantine, tied and frozen weights, and which model comes back."""

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
from tests.contracts.twins import differences, facts, made, side_by_side
from tests.engine.numbers import one_line
from tests.engine.split.models import ResNet
from tests.engine.split.parts import pictures
from tests.engine.split.test_credit import gpt
from tests.engine.split.test_credit import scenario as of_text


def resnet(gradient: Any) -> Scenario:
    """Batch norm in every part, and in the head of a local net."""
    torch.manual_seed(0)
    return antiphon.split(ResNet(), ["layer1.1"], env=pictures(), gradient=gradient, batch=4, steps=7)


def text(gradient: Any, **settings: Any) -> Scenario:
    """Dropout in every part."""
    return of_text(gpt(dropout=0.2), gradient, ["blocks.1", "blocks.3"], **settings)


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> None:
    assert one.keys() == other.keys()
    assert [place for place, value in one.items() if not torch.equal(value, other[place])] == []


SPLITS: dict[str, Callable[[], Scenario]] = {
    "lens": lambda: text("lens"),
    "aug_local": lambda: resnet({"kind": "aug_local", "at": "layer2"}),
    "tied": lambda: of_text(gpt(dropout=0.2, tied=True), "local", ["blocks.1", "blocks.3"], tie="together"),
    "conv": lambda: resnet({"kind": "conv", "filter": 3, "hidden": [4]}),
}


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.long if n in ("tied", "conv") else ()) for n in SPLITS]
)
def test_a_run_that_is_saved_goes_on_to_the_same_bits(name: str, tmp_path: Path) -> None:
    make = SPLITS[name]
    with Simulation(make()) as whole, Simulation(make()) as first:
        whole.run(5)
        first.run(3)
        with Simulation.load(first.save(tmp_path / "at-3"), first.scenario) as second:
            second.run(2)
            assert list(differences(facts(whole), facts(second), tolerance=0.0)) == []


# --- what does not learn -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("gradient", "frozen"),
    [
        ("local", ["blocks.0"]),
        ("lens", ["blocks.3", "norm", "head"]),
        ("aug_local", ["blocks.3", "norm", "head"]),
        pytest.param("linear", ["blocks.2", "wte"], marks=pytest.mark.long),
    ],
)
def test_frozen_submodules_keep_their_numbers_on_both_engines(gradient: str, frozen: list[str]) -> None:
    """Whole parts among them, and all that a local net is made of."""
    model = gpt(dropout=0.0)
    for name in frozen:
        model.get_submodule(name).requires_grad_(False)
    scene = of_text(model, gradient)
    reference, cohort = made(scene, "reference"), made(scene, "cohort")
    side_by_side(reference, cohort, 5)
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


def test_a_submodule_called_module_keeps_its_name() -> None:
    model = Wrapped()
    with made(of_text(model, "lens", ["module.blocks.1", "module.blocks.2"]), "cohort") as run:
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


@pytest.mark.parametrize("backend", ["cohort", "reference"])
def test_after_quarantine_the_others_come_back_trained(backend: str) -> None:
    scene = text("local", on_divergence="quarantine")
    with Simulation(scene, backend=backend) as run:
        run.run(2)
        run.agents["part2"].parameters["module.norm.weight"].data.fill_(float("inf"))
        before = antiphon.join(run).state_dict()
        run.run(3)
        after = antiphon.join(run).state_dict()
        assert [line for _, line in run.events if "part2" in line]
    assert before["norm.weight"].isinf().all()
    kept = {key for key, value in before.items() if torch.equal(value, after[key])}
    assert kept == {key for key in before if key.startswith(("blocks.3", "norm", "head"))}


@pytest.mark.parametrize("tie", ["copy", "together"])
def test_weights_of_another_run_and_a_finished_run_come_back(tie: Any, tmp_path: Path) -> None:
    def make() -> Scenario:
        return of_text(gpt(dropout=0.2, tied=True), "lens", ["blocks.2"], tie=tie)

    with Simulation(make(), logdir=tmp_path / "run") as run:
        run.run(3)
        expected = antiphon.join(run).state_dict()
    same(expected, antiphon.join(run).state_dict())  # closed
    with Simulation(make(), seed=5) as other:
        other.load_weights(tmp_path / "run")
        same(expected, antiphon.join(other).state_dict())
    with Simulation.resume(tmp_path / "run", scenario=make()) as again:
        found = antiphon.join(again, into=gpt(tied=True))
    same(expected, found.state_dict())


# --- weights that are tied ----------------------------------------------------------------------------------


def test_tied_weights_made_independent_come_back_as_two() -> None:
    model = gpt(tied=True)
    with Simulation(of_text(model, "linear", ["blocks.1"], tie="copy", coupling="detached")) as run:
        run.run(steps=3)
        joined = antiphon.join(run)
        part0, part1 = (run.agents[name].parameters for name in ("part0", "part1"))
    assert not torch.equal(joined.head.weight, joined.wte.weight)
    assert torch.equal(joined.head.weight, part1["module.head.weight"])
    assert torch.equal(joined.wte.weight, part0["module.wte.weight"])
    assert model.head.weight is model.wte.weight


def test_a_scenario_has_one_copy_of_the_parameters_of_its_own() -> None:
    model = gpt(tied=True)
    scenario = of_text(model, "local", ["blocks.1", "blocks.2"], tie="copy")
    networks = [agent.network for agent in scenario.agents.values()]
    numbers = {p.data_ptr(): p.numel() for network in networks for p in network.parameters()}
    assert sum(numbers.values()) == sum(p.numel() for p in model.parameters())
    assert not numbers.keys() & {p.data_ptr() for p in model.parameters()}
    results = []
    for _ in range(2):  # a run does not change what the next begins with
        with Simulation(scenario) as run:
            run.run(steps=2)
            results.append(antiphon.join(run).state_dict())
    assert not torch.equal(results[0]["wte.weight"], model.state_dict()["wte.weight"])
    same(*results)
