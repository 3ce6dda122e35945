"""Runs of split models: tied and frozen weights, and which model comes back.

That they are saved, forked, recorded and computed elsewhere as other runs are: the documents `split …` of tests/contracts.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import antiphon
from antiphon import RunError, ScenarioError, Simulation
from antiphon.errors import ScenarioWarning
from tests.engine.numbers import one_line
from tests.kit.documented import Population
from tests.splitting.parts import chain_split, gpt, split_gpt


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


class Wrapped(nn.Module):
    """A model with a submodule called as antiphon calls an agent's."""

    def __init__(self) -> None:
        super().__init__()
        self.module = gpt(dropout=0.0)

    def forward(self, idx: Tensor) -> Tensor:
        found: Tensor = self.module(idx)
        return found


@pytest.mark.long
def test_a_submodule_called_module_keeps_its_name() -> None:
    model = Wrapped()
    with Simulation(split_gpt(model, "lens", ["module.blocks.1"])) as run:
        run.run(2)
        joined = antiphon.join(run)
        part1 = run.agents["part1"].parameters
    assert joined.state_dict().keys() == model.state_dict().keys()
    assert torch.equal(joined.module.blocks[1].proj.weight, part1["module.module.blocks.1.proj.weight"])


@pytest.mark.long
def test_of_several_seeds_each_has_a_model_of_its_own() -> None:
    scene = split_gpt(gpt(dropout=0.2), "local", ["blocks.2"])
    with Simulation(scene, seed=1) as alone:
        alone.run(3)
        expected = antiphon.join(alone).state_dict()
    seeds = Population(scene, [0, 1])
    try:
        seeds.run(3)
        first, second = (antiphon.join(one).state_dict() for one in seeds.simulations)
        with one_line(
            "join: run is Population; give an antiphon.Simulation .*one of the `simulations`", RunError
        ):
            antiphon.join(seeds)  # type: ignore[call-overload]
    finally:
        seeds.close()
    same(expected, second)
    assert not torch.equal(first["norm.weight"], second["norm.weight"])


@pytest.mark.long
@pytest.mark.parametrize("tie", [pytest.param("copy", marks=pytest.mark.nightly), "together"])
def test_weights_of_another_run_and_a_finished_run_come_back(tie: Any, tmp_path: Path) -> None:
    model = gpt(dropout=0.2, tied=True)
    scenario, other_scenario = (split_gpt(model, "lens", ["blocks.2"], tie=tie) for _ in range(2))
    with Simulation(scenario, logdir=tmp_path / "run") as run:
        run.run(3)
        expected = antiphon.join(run).state_dict()
    same(expected, antiphon.join(run).state_dict())  # closed
    with Simulation(scenario, seed=5) as other:
        other.load_weights(tmp_path / "run")
        same(expected, antiphon.join(other).state_dict())
    with Simulation.resume(tmp_path / "run", scenario=other_scenario) as again:
        found = antiphon.join(again, into=gpt(tied=True))
    same(expected, found.state_dict())


def test_a_tie_without_shared_weights_warns() -> None:
    with pytest.warns(
        ScenarioWarning, match="tie='copy' has no effect, since no parameter is in several parts"
    ) as warned:
        split_gpt(gpt(), "lens", ["blocks.1"], tie="copy")
    assert len(warned) == 1


def test_tied_weights_made_independent_come_back_as_two_and_the_scenario_keeps_its_own() -> None:
    model = gpt(tied=True)
    scenario = split_gpt(model, "linear", ["blocks.1"], tie="copy", coupling="detached")
    networks = [agent.network for agent in scenario.agents.values()]
    own = {p.data_ptr(): p.numel() for network in networks for p in network.parameters()}
    assert sum(own.values()) == sum(p.numel() for p in model.parameters())  # one copy of each
    assert not own.keys() & {p.data_ptr() for p in model.parameters()}
    results = []
    for _ in range(2):  # a run does not change what the next begins with
        with Simulation(scenario) as run:
            run.run(steps=3)
            joined = antiphon.join(run)
            part0, part1 = (run.agents[name].parameters for name in ("part0", "part1"))
        results.append(joined.state_dict())
        assert not torch.equal(joined.head.weight, joined.wte.weight)
        assert torch.equal(joined.head.weight, part1["module.head.weight"])
        assert torch.equal(joined.wte.weight, part0["module.wte.weight"])
    assert not torch.equal(results[0]["head.weight"], model.head.weight)
    assert model.head.weight is model.wte.weight
    same(*results)


class Scaled(nn.Module):
    """A chain with a table that is no buffer."""

    def __init__(self, size: int = 6) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(7, 6), nn.Linear(6, 5)
        self.table = torch.ones(size)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.second(self.first(x) * self.table)
        return y


def test_a_model_that_does_not_fit_is_left_as_it_is() -> None:
    with Simulation(chain_split(Scaled())) as run:
        run.run(steps=2)
        into = Scaled(3)
        before = {name: value.clone() for name, value in into.state_dict().items()}
        with one_line(
            r"join: 'table' is \[6\] in the run, and no buffer of that size in the model", RunError
        ):
            antiphon.join(run, into)
        same(before, into.state_dict())
        assert not torch.equal(antiphon.join(run).first.weight, into.first.weight)


def test_telemetry_is_the_scenario_s() -> None:
    scenario = split_gpt(
        gpt(dropout=0.0), "local", telemetry={"period": 20, "recorders": [{"kind": "wandb"}]}
    )
    assert scenario.telemetry.period == 20
    assert scenario.telemetry.recorders[0].kind == "wandb"
    with pytest.raises(ScenarioError, match=r"telemetry\.perod: unknown key"):
        split_gpt(gpt(dropout=0.0), "local", telemetry={"perod": 20})
