"""Populations: what is copied and what is not, who is chosen, and that all of it can be killed and resumed."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
import torch
from torch.utils._pytree import tree_flatten

import antiphon
from antiphon.engine.episodes import EpisodeStatistics
from antiphon.engine.state.checkpoint import copy_tree
from antiphon.jobs.populations.figure import lineage_svg
from antiphon.jobs.populations.run import PopulationRun
from antiphon.jobs.populations.selection import (
    Entry,
    Score,
    initial_values,
    scored_values,
    selected,
    unvaried,
)
from antiphon.running.library import template_named
from antiphon.scenarios.population_spec import PopulationSpec, find_population
from tests.contracts.twins import differences, facts
from tests.engine.numbers import one_line
from tests.kit.some import some

TEAM = {"width": 4, "units": 4, "batch": 4, "unroll": 4}
RATES = {"lr": {"from": 1e-3, "to": 1e-1, "log": True}}


def digits(**values: Any) -> antiphon.Scenario:
    return antiphon.load("digits-mlp").resolve(values={"depth": 2, "width": 8, "batch": 8, **values})


def lossy(**values: Any) -> antiphon.Scenario:
    return antiphon.load("lossy").resolve(values=values)


def test_a_population_is_closed_by_its_block_and_each_member_notes_what_ended_it(tmp_path: Path) -> None:
    def fail(members: antiphon.Population) -> None:
        with members:
            members.step()
            raise KeyError

    with pytest.raises(KeyError):
        fail(antiphon.Population(digits(), [0, 1], logdir=tmp_path / "p"))
    exits = [json.loads(path.read_text())["exit"] for path in sorted(tmp_path.glob("p*/**/run.json"))]
    assert exits == ["failed", "failed"]
    with antiphon.Population(digits(), [0, 1], logdir=tmp_path / "q") as members:
        members.run(2)
    exits = [json.loads(path.read_text())["exit"] for path in sorted(tmp_path.glob("q*/**/run.json"))]
    assert exits == ["done", "done"]


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
    before = [copy_tree(one.running.state_dict()) for one in population.simulations]
    population.exploit(2, 0)
    after = [one.running.state_dict() for one in population.simulations]
    assert same(before[:2], after[:2])
    own, copied = before[2].pop("system"), after[2].pop("system")
    assert same(before[2], after[2])
    learned = {key: before[0]["system"][key] for key in ("learners", "predictors", "inputs", "outliers")}
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
    state = copy_tree(population.simulations[0].running.state_dict())
    population.run(4)
    learned = population.simulations[0].agents["hand"].buffers[RETURNS]
    # as a member that had these statistics from the window's beginning on
    twin = antiphon.Simulation(poles(1.0)[0], seed=0, dtype=torch.float64)
    twin.running.load_state_dict(state)
    for _ in range(4):
        twin.step()
    torch.testing.assert_close(learned, twin.agents["hand"].buffers[RETURNS], rtol=1e-9, atol=1e-9)
    assert learned[1] > 0.9 * parent[1]


@pytest.mark.parametrize("kind", ["fa", "dfa"])
def test_a_copy_gets_the_fixed_weights_that_its_parent_has_learned_with(kind: str, tmp_path: Path) -> None:
    """They differ between seeds; a checkpoint keeps them."""
    channel = {"from": "eye", "to": "mind", "size": 4, "coupling": "locked", "feedback": kind}
    scenario = antiphon.Scenario.model_validate(
        {
            "scenario": "fixed",
            "env": {"id": "antiphon/Digits-v0"},
            "agents": {
                "eye": {"observes": ["image"], "network": {"kind": "mlp", "hidden": [4]}},
                "mind": {"objective": {"kind": "classification", "target": "label"}},
            },
            "channels": [channel],
            "training": {"batch": 4},
        }
    )
    population = antiphon.Population([scenario] * 2, seeds=[0, 1], dtype=torch.float64)
    population.run(3)
    population.exploit(1, 0)
    copy = population.simulations[1]
    loaded = antiphon.Simulation.load(copy.save(tmp_path / "copy"))
    parent = population.simulations[0].running.state_dict()["system"]["feedback"]
    for one in (copy, loaded):
        assert same(one.running.state_dict()["system"]["feedback"], parent)


# --- settings ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["parts", "capture", "stacked", "evaluate", "patience", "seed", "nonsense"])
def test_a_setting_that_a_population_does_not_have_is_refused(name: str) -> None:
    with one_line(f"Population: {name}: "):
        antiphon.Population([digits()] * 2, seeds=[0, 1], **{name: 2})
    with one_line("Population: exist='resume': members are resumed together by antiphon.population"):
        antiphon.Population([digits()] * 2, seeds=[0, 1], exist="resume")


def test_members_write_run_directories_with_checkpoints(tmp_path: Path) -> None:
    settings: dict[str, Any] = {"logdir": tmp_path / "it", "checkpoint_every": 3}
    population = antiphon.Population([digits()] * 2, seeds=[0, 1], **settings)
    population.run(4)
    population.step()
    population.step()
    names = sorted(path.name for path in tmp_path.glob("it/member-1/checkpoints/*"))
    assert names == ["step-000000004", "step-000000006"]
    population.close()
    again = antiphon.Population([digits()] * 2, seeds=[0, 1], **settings)
    assert [one.logdir for one in again.simulations] == [tmp_path / f"it-2/member-{n}" for n in (0, 1)]
    again.close()
    with pytest.raises(antiphon.RunError, match="already exists"):
        antiphon.Population([digits()] * 2, seeds=[0, 1], **settings, exist="error")


def test_members_end_early_as_the_scenario_says() -> None:
    scenario = digits(lr=0.3).with_training(evaluate={"period": 2, "patience": {"loss": 1}})
    population = antiphon.Population([scenario] * 2, seeds=[0, 1], dtype=torch.float64)
    population.run(60)
    for seed, member in enumerate(population.simulations):
        alone = antiphon.Simulation(scenario, seed=seed, dtype=torch.float64)
        alone.run(60, progress=False)
        assert (member.now, member.stop_reason) == (alone.now, alone.stop_reason)
        assert "has not improved" in str(member.stop_reason)


@pytest.mark.long
def test_members_that_end_early_keep_their_score_and_are_not_replaced(tmp_path: Path) -> None:
    def patient(lr: float = 0.01) -> antiphon.Scenario:
        return digits(lr=lr).with_training(evaluate={"period": 2, "patience": {"loss": 1}})

    members = antiphon.population(
        patient,
        vary={"lr": [0.01, 0.3]},
        members=3,
        steps=24,
        select={"every": 4, "copy": 0.5, "by": "accuracy"},
        logdir=tmp_path / "it",
    )
    ends = {one["member"]: one["steps"] for one in members.result["members"]}
    assert len(set(ends.values())) > 1
    for member, end in ends.items():
        rows = [row for row in members.lineage if row["member"] == member]
        assert rows[-1]["step"] == end
        assert rows[-1]["score"] == members.result["members"][member]["score"] is not None


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
    assert {(step, value) for step, _, value in alone.changes} == {(5, 0.03)}
    population.run(4)
    alone.run(4)
    found = [facts(population.simulations[1]), facts(alone)]
    assert not list(differences(*found, tolerance=1e-10))


def test_structure_is_refused() -> None:
    with one_line("hidden\\[0\\]: 8 and 9: .*cannot vary within a population"):
        antiphon.Population([digits(), digits(width=9)], seeds=[0, 1])


@pytest.mark.parametrize("name", ["cartpole-team", "digits-mlp"])
def test_what_is_read_of_a_member_is_what_its_own_run_shows(name: str) -> None:
    """Also where another one is copied or keeps a history, and in the steps after."""
    scenario = antiphon.load(name).resolve(values=TEAM if name == "cartpole-team" else {"width": 8})
    population = antiphon.Population([scenario] * 3, seeds=[0, 1, 2], dtype=torch.float64)
    alone = antiphon.Simulation(scenario, seed=1, dtype=torch.float64)
    histories = [one.history for one in (population.simulations[1], alone)]
    for step in range(17):
        population.step()
        alone.step()
        if step % 7 == 3:
            population.exploit(2, 0)
        if step % 5 == 0:
            read = [
                (one.signals, one.world.figures(), one.train_means.means(), one.train_means.row())
                for one in (population.simulations[1], alone)
            ]
            torch.testing.assert_close(*read, rtol=1e-10, atol=1e-10)
    assert read[0][2] | read[0][3]
    torch.testing.assert_close(*[[value for *_, value in one] for one in histories], equal_nan=True)


def test_members_whose_agents_act_in_parts_are_what_they_are_alone() -> None:
    """Agents that act are one stack over all members, where those of one member stand side by side."""
    scenario = antiphon.load("capture-flag").resolve(values={"width": 8, "batch": 4, "unroll": 4})
    agents = {name: agent.model_copy(update={"share": None}) for name, agent in scenario.agents.items()}
    scenario = scenario.model_copy(update={"agents": agents})
    population = antiphon.Population([scenario] * 2, seeds=[0, 1], dtype=torch.float64)
    assert population.sequential_reason is None
    alone = antiphon.Simulation(scenario, seed=1, dtype=torch.float64)
    population.run(12)
    alone.run(12)
    assert not list(differences(facts(population.simulations[1]), facts(alone), tolerance=1e-10))


# --- who is chosen -----------------------------------------------------------------------------------------


def spec(**keys: Any) -> PopulationSpec:
    known = {"population": "it", "scenario": "digits-mlp", "members": 10, "vary": {"lr": RATES["lr"]}}
    return PopulationSpec(**{**known, "select": {"every": 5}, **keys})


def chosen(scores: Sequence[Score], metric: str = "accuracy", **keys: Any) -> list[Entry]:
    """Those that are replaced; all others keep their values."""
    population = spec(members=len(scores), **keys)
    assert population.select is not None
    before = initial_values(population)
    found = selected(population, population.select, 5, metric, scores, before)
    assert [(one.member, one.score, one.error) for one in found] == [
        (n, own.value, own.error) for n, own in enumerate(scores)
    ]
    assert all(one.copied or one.values == before[one.member] for one in found)
    return [one for one in found if one.copied]


def test_the_worst_fifth_copies_the_best_fifth() -> None:
    scores = [Score(value / 10) for value in (5, 1, 9, 4, 3, 6, 2, 7, 8, 5)]
    found = chosen(scores)
    assert {copy.member for copy in found} == {1, 6}
    assert {copy.parent for copy in found} <= {2, 8}
    assert found == chosen(scores)
    assert {copy.member for copy in chosen(scores, "loss")} == {2, 8}


def test_noise_is_not_selected() -> None:
    assert not chosen([Score(0.5, 0.1), Score(0.7, 0.1)])
    assert chosen([Score(0.5, 0.01), Score(0.7, 0.01)])
    assert not chosen([Score(None), Score(None)])


def test_a_member_without_a_score_is_neither_replaced_nor_copied() -> None:
    assert not chosen([Score(None), Score(0.1)])
    found = chosen(
        [Score(None), Score(0.1), Score(0.3), Score(0.2), Score(None)], select={"every": 5, "copy": 0.5}
    )
    assert [(copy.member, copy.parent) for copy in found] == [(1, 2)]


def test_a_member_that_has_ended_is_copied_but_not_replaced() -> None:
    assert not chosen([Score(0.1, 0.0, ended=True), Score(0.7)])
    assert [copy.parent for copy in chosen([Score(0.1), Score(0.7, 0.0, ended=True)])] == [1]


def test_an_episode_counts_once_it_is_longer_than_the_newest_that_has_ended() -> None:
    """A member that fails no more is not judged by its last failure, nor one that never succeeds by its last success."""
    statistics = EpisodeStatistics((), 3, "cpu", torch.float64)
    reward, never = torch.tensor([1.0, -1.0, 1.0]), torch.zeros(3, dtype=torch.bool)
    assert not len(statistics.latest())
    statistics.add(reward, {}, never)
    assert statistics.latest().tolist() == [1.0, -1.0, 1.0]
    statistics.add(reward, {}, ~never)
    for _ in range(2):
        statistics.add(reward, {}, never)
        assert statistics.latest().tolist() == [2.0, -2.0, 2.0]
        assert statistics.figures()["episode_return"] == pytest.approx(2 / 3)
    for _ in range(2):
        statistics.add(reward, {}, never)
    assert statistics.latest().tolist() == [4.0, -4.0, 4.0]


def test_values_stay_within_their_range_or_list() -> None:
    scores = [Score(0.0), Score(1.0)]
    for seed in range(20):
        keys = {"seed": seed, "vary": {"lr": {"from": 1.0, "to": 1.1}, "scale": [0.1, 0.2, 0.4]}}
        before, (copy,) = initial_values(spec(members=2, **keys)), chosen(scores, **keys)
        assert 1.0 <= copy.values["lr"] <= 1.1
        places = [keys["vary"]["scale"].index(one["scale"]) for one in (before[1], copy.values)]
        assert abs(places[0] - places[1]) <= 1


# --- the paper's example ------------------------------------------------------------------------------------


@pytest.mark.long
@pytest.mark.parametrize(
    ("changes", "low", "high"),
    [({}, 1.19, 1.2), pytest.param({"select": None}, -0.42, 0.4, marks=pytest.mark.nightly)],
    ids=["population", "grid"],
)
def test_figure_2_of_the_paper(tmp_path: Path, changes: dict[str, Any], low: float, high: float) -> None:
    """Jaderberg et al. 2017: a population of two reaches the optimum of 1.2, a grid of the two surrogates does not."""
    toy = some(find_population("toy"))
    assert [list(one.values()) for one in initial_values(toy)] == [[0.001, 1.0], [0.75, 0.001]]
    run = PopulationRun(toy.with_keys(**changes), template_named(toy.scenario), tmp_path / "it")
    assert run.scheduler.sequential_reason is None
    assert low <= 1.2 - 2 * run.train()["best"]["score"] <= high
    whole = lineage_svg(run.lineage, run.spec, "error")
    assert (tmp_path / "it/lineage.svg").read_text() == whole


# --- the figure --------------------------------------------------------------------------------------------

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</text><script>alert(1)</script>"


def drawn(
    vary: dict[str, Any], *entries: Entry
) -> list[tuple[dict[str, tuple[float, float]], list[list[float]]]]:
    """Return the panels of a lineage of two members: the places of the labels, and the ends x, y, x, y of the lines."""
    picture = ElementTree.fromstring(lineage_svg(entries, spec(members=2, vary=vary), "error"))
    assert {one.tag.removeprefix(SVG) for one in picture.iter()} == {
        "svg",
        "style",
        "rect",
        "g",
        "path",
        "text",
        "tspan",
    }
    panels = []
    for panel in list(picture.iter(f"{SVG}g"))[1:]:  # the first is the legend
        texts = {
            str(one.text): (float(one.attrib["x"]), float(one.attrib["y"]))
            for one in panel.iter(f"{SVG}text")
            if one.attrib.get("class") != "name"
        }
        paths = [one.attrib["d"] for one in panel.iter(f"{SVG}path") if "stroke" in one.attrib]
        lines = [line for path in paths for line in path.split("M")[1:]]
        panels.append((texts, [[float(number) for number in re.split("[ L]", line)] for line in lines]))
    return panels


def test_a_line_branches_where_a_member_is_copied() -> None:
    """Steps are linear, the axis of a parameter is as its range, and the best member is drawn last."""
    vary = {"lr": {"from": 0.01, "to": 1.0, "log": True}, HOSTILE: [1.0, 2.0, 4.0]}
    low, high = {"lr": 0.1, HOSTILE: 2.0}, {"lr": 1.0, HOSTILE: 1.0}
    before = [Entry(5, 0, 0, 0.5, 0.0, low), Entry(5, 1, 1, 0.75, 0.0, {"lr": 0.01, HOSTILE: 2.0})]
    copied = [Entry(10, 0, 0, 0.5, 0.0, low), Entry(10, 1, 0, 0.75, 0.0, high)]
    ends = [Entry(20, 0, 0, 0.75, 0.0, low), Entry(20, 1, 1, 0.25, 0.0, high)]
    (texts, scores), (places, rates), (others, _) = drawn(vary, *before, *copied, *ends)
    assert ("error" in texts, "lr" in places, HOSTILE in others) == (True, True, True)
    start, ten, twenty = (places[step][0] for step in ("0", "10", "20"))
    assert ten == (start + twenty) / 2
    own, parent, copy = (places[value][1] - 4 for value in ("0.01", "0.1", "1"))
    assert parent == (own + copy) / 2
    assert [ten, parent, ten, copy] in rates
    assert [ten, copy, twenty, copy] in rates
    assert [ten, parent, twenty, parent] in rates
    x, y, then, reached = scores[-1]
    assert (x, then) == (ten, twenty)
    assert y < reached  # of member 1, whose error becomes the smallest


def test_the_winner_is_bold_from_its_beginning_and_members_have_their_numbers() -> None:
    """Member 1 has won, which was copied from member 0 at step 10: the bold line is 0's until then."""
    rate, other = {"lr": 0.1}, {"lr": 0.4}
    before = [Entry(10, 0, 0, 0.2, 0.0, rate), Entry(10, 1, 0, 0.9, 0.0, other)]
    ends = [Entry(20, 0, 0, 0.5, 0.0, rate), Entry(20, 1, 1, 0.1, 0.0, other)]
    keys = {"members": 2, "vary": {"lr": [0.1, 0.4]}}
    first = initial_values(spec(**keys))[0]["lr"]
    picture = ElementTree.fromstring(lineage_svg([*before, *ends], spec(**keys), "error"))
    legend, *panels = picture.iter(f"{SVG}g")
    assert "".join(legend.itertext()).endswith("bold: the winner, member 1, from its beginning")
    bold = [path.attrib["d"] for path in picture.iter(f"{SVG}path") if path.attrib.get("class") == "winner"]
    scores, rates = ([tuple(map(float, end.split())) for end in path[1:].split("L")] for path in bold)
    places = {one.text: float(one.attrib["y"]) - 4 for one in panels[0].iter(f"{SVG}text")}
    assert [round(end[1]) for end in scores] == [round(places["0.2"]), scores[1][1]]
    assert scores[1][1] > scores[0][1]  # 0.1, the lowest error of all, is at the bottom
    heights = [end[1] for end in rates]
    assert heights[0] == heights[1]
    assert heights[2] == heights[3]
    assert (heights[1] > heights[2]) is (first < 0.4)
    names = [one.text for one in panels[0].iter(f"{SVG}text") if one.attrib.get("class") == "name"]
    assert names == ["0", "1"]  # from the top down


def test_a_row_has_score_and_values_of_one_moment() -> None:
    keys = {"members": 2, "vary": {"lr": [0.1, 0.4]}}
    start = initial_values(spec(**keys))
    copied, end = Entry(10, 1, 0, 0.9, 0.0, {"lr": 0.7}), Entry(20, 1, 1, 0.1, 0.0, {"lr": 0.7})
    rows = list(scored_values(spec(**keys), [end, copied]))
    assert rows == [(copied, start[1]), (end, {"lr": 0.7})]


def test_members_without_scores_are_drawn() -> None:
    vary = {"lr": RATES["lr"]}
    assert [len(lines) for _, lines in drawn(vary)] == [0, 0]
    ends = [Entry(3, member, member, None, 0.0, {"lr": 0.1}) for member in (0, 1)]
    assert [len(lines) for _, lines in drawn(vary, *ends)] == [0, 2]


# --- runs --------------------------------------------------------------------------------------------------


def test_a_member_that_diverges_goes_on_as_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    vary = {"lr": [0.01, 1e30]}
    select = {"every": 20, "copy": 0.5}
    values = {"depth": 2, "width": 8, "batch": 8}
    members = antiphon.population(
        "digits-mlp", vary=vary, select=select, values=values, members=4, steps=30, logdir=tmp_path / "it"
    )
    revived = [row for row in members.lineage if row["step"] < 20]
    assert revived
    assert all(row["parent"] != row["member"] and row["score"] is None for row in revived)
    assert {one["exit"] for one in members.result["members"]} == {"done"}
    assert {one["values"]["lr"] for one in members.result["members"]} == {0.01}
    member = next(tmp_path.glob(f"it/member-{revived[0]['member']}"))
    assert "since it diverged" in json.loads((member / "result.json").read_text())["events"][0]["event"]


@pytest.mark.long
def test_random_search_changes_nothing(tmp_path: Path) -> None:
    """Nor does an end before the last step, from which it continues."""
    fixed: dict[str, Any] = {"values": TEAM, "members": 3, "steps": 12, "vary": RATES, "exist": "resume"}
    begun = antiphon.population("cartpole-team", logdir=tmp_path / "it", **fixed, until=5)
    assert [(row["step"], row["member"]) for row in begun.lineage] == [(5, 0), (5, 1), (5, 2)]
    members = antiphon.population("cartpole-team", logdir=tmp_path / "it", **fixed, until=12)
    assert (
        [row["member"] for row in members.lineage] == [row["parent"] for row in members.lineage] == [0, 1, 2]
    )
    scenario = antiphon.load("cartpole-team").resolve(
        values={**TEAM, **members.result["members"][1]["values"]}
    )
    alone = antiphon.Simulation(scenario.with_training(steps=12), seed=1)
    alone.run()
    with antiphon.Simulation.resume(tmp_path / "it/member-1") as resumed:
        found = [facts(resumed), facts(alone)]
    assert not list(differences(*found, tolerance=1e-4))


def test_members_that_run_one_after_the_other_stop_and_continue_too(tmp_path: Path) -> None:
    for until in (2, 4):
        run = PopulationRun(
            spec(members=2, steps=8, select=None, set={"depth": 2, "width": 8, "batch": 8}),
            antiphon.load("digits-mlp"),
            tmp_path / "it",
            exist="resume",
            until=until,
            backend="native",
        )
        assert [one["steps"] for one in run.train()["members"]] == [until, until]
        facts = json.loads((tmp_path / "it/member-1/run.json").read_text())
        assert (facts["step"], facts["steps"]) == (until, until)


def test_a_population_made_in_python_is_resumed_with_its_function(tmp_path: Path) -> None:
    antiphon.population(digits, vary=RATES, members=2, steps=4, logdir=tmp_path / "it")
    with one_line("it: its scenario was made in Python; add --scenario MODULE:FUNCTION", antiphon.RunError):
        PopulationRun.of_directory(tmp_path / "it")
    again = PopulationRun.of_directory(tmp_path / "it", f"{__name__}:digits").train()
    assert [one["exit"] for one in again["members"]] == ["done", "done"]


@pytest.mark.parametrize(
    ("argument", "fix"),
    [
        ({"jobs": 0}, "must be a whole number, at least 1"),
        ({"jobs": 2.5}, "must be a whole number, at least 1"),
        ({"until": True}, "must be a whole number, at least 1"),
        ({"exist": "number"}, "must be resume, overwrite or error"),
    ],
)
def test_an_argument_that_a_population_cannot_have_is_refused(
    tmp_path: Path, argument: dict[str, Any], fix: str
) -> None:
    (name,) = argument
    with one_line(f"population: {name}=.*; {fix}", antiphon.ScenarioError):
        antiphon.population("digits-mlp", vary={"lr": [0.1, 0.2]}, logdir=tmp_path / "it", **argument)
    assert not (tmp_path / "it").exists()


def test_a_tuple_of_two_numbers_is_neither_a_range_nor_a_list(tmp_path: Path) -> None:
    fix = r'vary.lr: is a tuple of two, \(0.0001, 0.1\); give {"from": 0.0001, "to": 0.1} for a range, or \[0.0001, 0.1\]'
    with one_line(f"population: {fix}", antiphon.ScenarioError):
        antiphon.population("digits-mlp", vary={"lr": (1e-4, 1e-1)}, logdir=tmp_path / "it")
    assert not (tmp_path / "it").exists()


def test_a_value_that_all_members_draw_is_warned_of() -> None:
    keys: dict[str, Any] = {"population": "it", "scenario": "digits-mlp", "members": 2}
    lines = [unvaried(PopulationSpec.of(**keys, seed=seed, vary={"lr": [0.1, 0.2]})) for seed in range(8)]
    alike = [
        len(
            {
                one["lr"]
                for one in initial_values(PopulationSpec.of(**keys, seed=seed, vary={"lr": [0.1, 0.2]}))
            }
        )
        == 1
        for seed in range(8)
    ]
    assert [bool(line) for line in lines] == alike
    assert {True, False} == set(alike)
    assert next(filter(None, lines))[0].startswith("vary.lr: all 2 members draw 0.")


def test_names_of_members_stay_beside_the_axes() -> None:
    """Where the scores of many end near the lowest one, their names move up, apart from each other."""
    keys = {"members": 20, "vary": {"lr": [0.1, 0.4]}}
    ends = [Entry(20, n, n, 1.0 if n == 19 else 0.001 * n, 0.0, {"lr": 0.1}) for n in range(20)]
    picture = ElementTree.fromstring(lineage_svg(ends, spec(**keys), "return"))
    names = [one for one in picture.iter(f"{SVG}text") if one.attrib.get("class") == "name"]
    heights = [float(one.attrib["y"]) for one in names]
    assert heights == sorted(heights)
    assert min(later - earlier for earlier, later in pairwise(heights)) >= 8.9
    assert (heights[0] >= 26, heights[-1] <= 204) == (True, True)
