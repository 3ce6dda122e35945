"""Populations: what is copied and what is not, who is chosen, and that all of it can be killed and resumed."""

from __future__ import annotations

import csv
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._pytree import tree_flatten

import antiphon
from tests.contracts.twins import differences, facts
from tests.jobs.populations.made import digits
from tests.kit.running import state_of

TEAM = {"width": 4, "units": 4, "batch": 4, "unroll": 4}


def lossy(**values: Any) -> antiphon.Scenario:
    return antiphon.load("lossy").resolve(values=values)


def same(one: Any, other: Any) -> bool:
    """Whether two trees of states are equal to the bit."""
    (leaves, kind), (others, other_kind) = map(tree_flatten, (one, other))
    pairs = zip(leaves, others, strict=True)
    return kind == other_kind and all(
        torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b for a, b in pairs
    )


# --- exploit and explore -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["digits-mlp", "lossy", "cartpole-team", "two-timescales"])
def test_a_copy_gets_what_was_learned_and_keeps_all_else(name: str) -> None:
    scenario = antiphon.load(name).resolve(values=TEAM if name == "cartpole-team" else {})
    population = antiphon.Population([scenario] * 3, seeds=[0, 1, 2], dtype=torch.float64)
    population.run(7)
    before = [state_of(one) for one in population.simulations]
    population.exploit(2, 0)
    after = [one.running.state_dict() for one in population.simulations]
    assert same(before[:2], after[:2])
    own, copied = before[2].pop("system"), after[2].pop("system")
    assert same(before[2], after[2])
    learned = {key: before[0]["system"][key] for key in ("learners", "predictors", "inputs")}
    statistics = {name: learner["buffers"] for name, learner in learned["learners"].items()}
    for group in own["groups"]:
        window = group["window"]
        window["statistics_before"] = {name: statistics[name] for name in window["statistics_before"]}
    assert same({**own, **learned}, copied)
    assert not same(own["learners"], copied["learners"])


def poles(*weights: float) -> list[antiphon.Scenario]:
    """Scenarios with a reward of different weights, whose values are normalised by its returns."""
    return [
        antiphon.Scenario.model_validate(
            {
                "scenario": "pole",
                "env": {"id": "antiphon/CartPole-v0"},
                "agents": {
                    "hand": {
                        "observes": ["observation"],
                        "acts": True,
                        "network": {"kind": "mlp", "hidden": [4]},
                        "clock": {"unroll": 8},
                        "objective": {"kind": "a2c", "normalise": "returns", "reward": {"reward": weight}},
                    }
                },
                "training": {"batch": 4, "optimiser": {"kind": "sgd", "lr": 1e-6}},
            }
        )
        for weight in weights
    ]


RETURNS = "value.returns"


def test_a_copy_in_the_middle_of_a_window_learns_from_it_with_the_statistics_of_its_parent() -> None:
    """Its values are in the units of the parent's returns: with its own rewards they move slowly from there."""
    population = antiphon.Population(poles(1.0, 100.0), seeds=[0, 1], dtype=torch.float64)
    population.run(12)
    own, parent = (one.agents["hand"].buffers[RETURNS].clone() for one in population.simulations)
    assert parent[1] > 3 * own[1]
    population.exploit(0, 1)
    saved = population.simulations[0].running.state_dict()["system"]
    window = saved["groups"][0]["window"]
    assert torch.equal(window["statistics_before"]["hand"][RETURNS], parent)
    state = state_of(population.simulations[0])
    population.run(4)
    learned = population.simulations[0].agents["hand"].buffers[RETURNS]
    # as a member that had these statistics from the window's beginning on
    twin = antiphon.Simulation(poles(1.0)[0], seed=0, dtype=torch.float64)
    twin.running.load_state_dict(state)
    for _ in range(4):
        twin.step()
    torch.testing.assert_close(learned, twin.agents["hand"].buffers[RETURNS], rtol=1e-9, atol=1e-9)
    assert learned[1] > 0.9 * parent[1]


# --- settings ----------------------------------------------------------------------------------------------


def test_members_end_early_as_the_scenario_says() -> None:
    scenario = digits(lr=0.3).with_training(evaluate={"period": 2, "patience": {"loss": 1}})
    population = antiphon.Population([scenario] * 2, seeds=[0, 1], dtype=torch.float64)
    population.run(60)
    for seed, member in enumerate(population.simulations):
        alone = antiphon.Simulation(scenario, seed=seed, dtype=torch.float64)
        alone.run(60, progress=False)
        assert (member.now, member.stop_reason) == (alone.now, alone.stop_reason)
        assert "has not improved" in str(member.stop_reason)


def test_a_copied_member_goes_on_like_a_run_with_its_state_and_values() -> None:
    """Windows that are open at the copy are replayed under the new parameters."""
    rates = (0.01, 0.02)
    population = antiphon.Population([digits(lr=rate) for rate in rates], seeds=[0, 1], dtype=torch.float64)
    population.run(5)
    population.exploit(1, 0)
    population.explore(1, digits(lr=0.03))
    events = list(population.simulations[1].events)
    population.explore(1, digits(lr=0.03))
    assert events == population.simulations[1].events  # nothing has changed
    alone = population.simulations[1].fork()
    assert {(step, value) for step, _, value in alone.running.changes} == {(5, 0.03)}
    population.run(4)
    alone.run(4)
    found = [facts(population.simulations[1]), facts(alone)]
    assert not list(differences(*found, tolerance=1e-10))


# --- runs --------------------------------------------------------------------------------------------------


@pytest.mark.long
def test_a_member_that_diverges_goes_on_as_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vary = {"lr": [0.01, 1e30]}
    select = {"every": 20, "copy": 0.5}
    values = {"depth": 2, "width": 8, "batch": 8}
    members = antiphon.population(
        "digits-mlp", vary=vary, select=select, values=values, members=4, steps=30, logdir=tmp_path / "it"
    )
    lineage = csv.DictReader((tmp_path / "it/lineage.csv").read_text().splitlines())
    revived = [row for row in lineage if int(row["step"]) < 20]
    assert revived
    assert all(row["parent"] != row["member"] and not row["accuracy"] for row in revived)
    assert {one["exit"] for one in members.result["members"]} == {"done"}
    assert {one["values"]["lr"] for one in members.result["members"]} == {0.01}
    member = next(tmp_path.glob(f"it/member-{revived[0]['member']}"))
    assert "since it diverged" in json.loads((member / "result.json").read_text())["events"][0]["event"]
