"""Populations as runs: the paper's example, members one after the other, and those of a function."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import antiphon
from antiphon.jobs.populations.population_run import PopulationRun
from antiphon.jobs.populations.selection import (
    initial_values,
)
from antiphon.running.library import template_named
from antiphon.scenarios.population_spec import PopulationSpec
from antiphon.scenarios.yaml_text import find_document
from tests.engine.numbers import one_line
from tests.jobs.populations.made import RATES, digits, spec
from tests.kit.some import some


@pytest.mark.long
@pytest.mark.parametrize(
    ("changes", "low", "high"),
    [({}, 1.19, 1.2), pytest.param({"select": None}, -0.42, 0.4, marks=pytest.mark.nightly)],
    ids=["population", "grid"],
)
def test_figure_2_of_the_paper(tmp_path: Path, changes: dict[str, Any], low: float, high: float) -> None:
    """Jaderberg et al. 2017: a population of two reaches the optimum of 1.2, a grid of the two surrogates does not."""
    toy = some(find_document(PopulationSpec, "toy"))
    assert [list(one.values()) for one in initial_values(toy)] == [[0.001, 1.0], [0.75, 0.001]]
    run = PopulationRun(toy.with_keys(**changes), template_named(toy.scenario), tmp_path / "it")
    assert run.scheduler.sequential_reason is None
    assert low <= 1.2 - 2 * run.train()["best"]["score"] <= high


@pytest.mark.long
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


@pytest.mark.long
def test_a_population_made_in_python_is_resumed_with_its_function(tmp_path: Path) -> None:
    antiphon.population(digits, vary=RATES, members=2, steps=4, logdir=tmp_path / "it")
    source = f"{digits.__module__}:digits"
    with one_line(f"it: its scenario was made in Python; add --scenario {source}", antiphon.RunError):
        PopulationRun.of_directory(tmp_path / "it")
    again = PopulationRun.of_directory(tmp_path / "it", source).train()
    assert [one["exit"] for one in again["members"]] == ["done", "done"]
