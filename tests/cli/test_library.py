"""Library scenarios that are made in Python, by name on the command line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import antiphon
from tests.engine.numbers import one_line
from tests.kit.commands import Commands

TINY = "--set length=8 --set width=8 --set heads=2 --set blocks=2 --set batch=4"


@pytest.mark.long
def test_a_run_is_resumed_evaluated_reported_and_shown_by_its_directory_alone(
    here: Path, cli: Commands
) -> None:
    run = f"run gpt --variant local {TINY} --steps 4 --name a --logdir ."
    result = cli.json(run)
    assert (result["scenario"], result["steps"], result["exit"]) == ("gpt", 4, "done")
    facts = json.loads((here / "a/run.json").read_text())
    assert (facts["variant"], facts["values"]["gradient"], facts["values"]["width"]) == ("local", "local", 8)
    assert cli.json(f"{run} --exist resume") == result
    assert cli.json("resume a --steps 6")["steps"] == 6
    assert cli.json("evaluate a --split validation --ablate zero")["agents"]["part1"]["bits"] > 0
    assert cli.json("show a")["agents"].keys() == {"part0", "part1"}
    cli("report a --output a.html")
    assert "part0" in (here / "a.html").read_text()


def test_what_is_made_in_python_runs_by_its_name_in_python_too_and_load_names_the_function() -> None:
    with antiphon.Simulation("resnet") as simulation:
        assert simulation.scenario.scenario == "resnet"
        assert list(simulation.agents) == ["part0", "part1", "part2", "part3"]
    with one_line(
        r"resnet: is made in Python, and has no YAML template; call it: "
        r"from antiphon\.splitting\.split_scenarios import resnet; resnet\(\)"
    ):
        antiphon.load("resnet")
