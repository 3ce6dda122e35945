"""Who is replaced in a population and by whom, the values that members begin with, and populations as runs."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from gymnasium.spaces import Discrete
from torch.nn.functional import cross_entropy

import antiphon
from antiphon.engine.episodes import EpisodeStatistics
from antiphon.envs import Description, Signal, World
from antiphon.jobs.populations.population_run import PopulationRun
from antiphon.jobs.populations.selection import (
    Entry,
    MemberScore,
    initial_values,
    score_of,
    selected,
)
from antiphon.nets.mask import ALL, NONE
from tests.engine.numbers import one_line
from tests.engine.scenes import scenario_of
from tests.jobs.populations.made import RATES, digits, spec


def chosen(scores: Sequence[MemberScore], metric: str = "accuracy", **keys: Any) -> list[Entry]:
    """Those that are replaced; all others keep their values."""
    population = spec(members=len(scores), **keys)
    assert population.select is not None
    before = initial_values(population)
    found = selected(population, population.select, 5, metric, scores, before)
    assert [(one.member, one.score, one.error) for one in found] == [
        (n, own.value, own.error) for n, own in enumerate(scores)
    ]
    assert all(one.copied or one.next_values == before[one.member] for one in found)
    return [one for one in found if one.copied]


def test_the_worst_fifth_copies_the_best_fifth() -> None:
    scores = [MemberScore(value / 10) for value in (5, 1, 9, 4, 3, 6, 2, 7, 8, 5)]
    found = chosen(scores)
    assert {copy.member for copy in found} == {1, 6}
    assert {copy.parent for copy in found} <= {2, 8}
    assert found == chosen(scores)
    assert {copy.member for copy in chosen(scores, "loss")} == {2, 8}


def test_noise_is_not_selected() -> None:
    assert not chosen([MemberScore(0.5, 0.1), MemberScore(0.7, 0.1)])
    assert chosen([MemberScore(0.5, 0.01), MemberScore(0.7, 0.01)])
    assert not chosen([MemberScore(None), MemberScore(None)])


def test_a_member_without_a_score_is_neither_replaced_nor_copied() -> None:
    assert not chosen([MemberScore(None), MemberScore(0.1)])
    found = chosen(
        [MemberScore(None), MemberScore(0.1), MemberScore(0.3), MemberScore(0.2), MemberScore(None)],
        select={"every": 5, "copy": 0.5},
    )
    assert [(copy.member, copy.parent) for copy in found] == [(1, 2)]


def test_an_episode_counts_once_it_is_longer_than_the_newest_that_has_ended() -> None:
    """A member that fails no more is not judged by its last failure, nor one that never succeeds by its last success."""
    statistics = EpisodeStatistics((), 3, "cpu", torch.float64)
    reward = torch.tensor([1.0, -1.0, 1.0])
    assert not len(statistics.latest())
    statistics.add(reward, {}, NONE)
    assert statistics.latest().tolist() == [1.0, -1.0, 1.0]
    statistics.add(reward, {}, ALL)
    for _ in range(2):
        statistics.add(reward, {}, NONE)
        assert statistics.latest().tolist() == [2.0, -2.0, 2.0]
        assert statistics.metrics()["episode_return"] == pytest.approx(2 / 3)
    for _ in range(2):
        statistics.add(reward, {}, NONE)
    assert statistics.latest().tolist() == [4.0, -4.0, 4.0]


@pytest.mark.parametrize(("kind", "metric"), [("regression", "error"), ("classification", "loss")])
def test_a_score_over_examples_has_its_standard_error(kind: str, metric: str) -> None:
    """Without one, equal members would replace each other by chance."""
    numbers = torch.Generator().manual_seed(0)
    x = torch.randn(1500, 4, generator=numbers)  # a split of more than one batch
    y = x[:, :1] * 2 if kind == "regression" else (x[:, 0] > 1).long()
    data = {"x": x, "y": y}
    env = antiphon.envs.from_tensors(**data, test=data, validation=data, training_only=["y"])
    agent = {"observes": ["x"], "objective": {"kind": kind, "target": "y"}}
    with antiphon.Simulation(scenario_of({"a": agent}, env=env)) as simulation:
        output = simulation.compose()({"x": x})["a"]
        losses = (
            (output - y).square().mean(1)
            if kind == "regression"
            else cross_entropy(output, y, reduction="none")
        )
        score = score_of(simulation.running, metric)
    assert score.value == pytest.approx(losses.mean().item(), rel=1e-5)
    assert score.error == pytest.approx(losses.std().item() / 1500**0.5, rel=1e-5)


def test_the_error_of_a_score_over_sequences_is_that_of_environments_whose_ticks_depend_on_each_other() -> (
    None
):
    x = [torch.full((10, 1), float(i % 4)) for i in range(8)]
    data = {"x": x, "y": x}
    env = antiphon.envs.from_sequences(**data, test=data, validation=data, training_only=["y"])
    net, levels = torch.nn.Linear(1, 1), torch.arange(4.0).unsqueeze(1)
    agent = {
        "network": net,
        "observes": ["x"],
        "objective": {"kind": "regression", "target": "y"},
        "clock": {"unroll": "episode"},
    }
    with antiphon.Simulation(scenario_of({"a": agent}, env=env)) as simulation:
        found = simulation.evaluate("validation")
    losses = (net(levels) - levels).square().mean(1)  # of the four environments, each twenty times
    assert found.agents["a"]["error"] == pytest.approx(losses.mean().item(), rel=1e-5)
    assert found.error("error") == pytest.approx(losses.std().item() / 2, rel=1e-5)


class Chances(World):
    """Episodes of a step; the first of two environments succeeds."""

    @staticmethod
    def describe(options: Any) -> Description:
        return Description(signals={"x": Signal(shape=(1,))}, action_space=Discrete(2))

    def start(self, uniforms: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"x": torch.zeros(self.num_envs, 1, dtype=self.dtype)}

    def transition(self, state: Any, actions: Any) -> Any:
        rewards = torch.arange(self.num_envs, dtype=self.dtype)
        return state, rewards, torch.ones(self.num_envs, dtype=torch.bool)

    def observe(self, state: Any) -> dict[str, torch.Tensor]:
        return state

    def metrics(self) -> Mapping[str, float | torch.Tensor]:
        return {"success": torch.arange(self.num_envs) == 0, "level": 3.0}


@pytest.mark.parametrize(
    ("metric", "value", "error"),
    [("success", 0.5, 0.5), ("episode_return", 0.5, 0.5), ("level", 3.0, 0.0)],
)
def test_a_metric_of_the_environment_has_its_standard_error_over_environments(
    metric: str, value: float, error: float
) -> None:
    antiphon.environment("test/Chances-v0")(Chances)
    agent = {"observes": ["x"], "acts": True, "objective": {"kind": "a2c"}}
    scenario = scenario_of({"a": agent}, env="test/Chances-v0", batch=2)
    with antiphon.Simulation(scenario) as simulation:
        simulation.run(steps=1, progress=False)
        assert score_of(simulation.running, metric) == pytest.approx((value, error))


# --- as runs ---------------------------------------------------------------------------------------------


@pytest.mark.long
def test_members_that_run_one_after_the_other_stop_and_continue_too(tmp_path: Path) -> None:
    for until in (2, 4):
        run = PopulationRun(
            spec(members=2, steps=8, select=None, set={"depth": 2, "width": 8, "batch": 8}),
            antiphon.load("digits-mlp"),
            tmp_path / "it",
            until=until,
            backend="native",
        )
        assert [one["steps"] for one in run.train()["members"]] == [until, until]
        facts = json.loads((tmp_path / "it/member-1/run.json").read_text())
        assert (facts["step"], facts["steps"]) == (until, until)


@pytest.mark.long
def test_a_population_made_in_python_is_resumed_with_its_function(tmp_path: Path) -> None:
    antiphon.population(digits, vary=RATES, members=2, steps=4, logdir=tmp_path / "it")
    source = f"{digits.__module__}:digits"
    with one_line(f"it: its scenario was made in Python; add --scenario {source}", antiphon.RunError):
        PopulationRun.of_directory(tmp_path / "it")
    again = PopulationRun.of_directory(tmp_path / "it", source).train()
    assert [one["exit"] for one in again["members"]] == ["done", "done"]
