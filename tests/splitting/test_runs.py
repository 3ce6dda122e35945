"""Runs of split models: tied and frozen weights, and which model comes back.

That they are saved, forked, recorded and computed elsewhere as other runs are: the documents `split …` of tests/contracts.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

import antiphon
from antiphon import Simulation
from tests.splitting.parts import gpt, split_gpt


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
def test_weights_of_another_run_and_a_finished_run_come_back(tmp_path: Path) -> None:
    model = gpt(dropout=0.2, tied=True)
    scenario, other_scenario = (split_gpt(model, "local", ["blocks.2"], tie="together") for _ in range(2))
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
