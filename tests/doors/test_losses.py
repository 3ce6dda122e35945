"""What a user hands over as a loss keeps its meaning, or is refused in one line."""

from __future__ import annotations

from pathlib import Path

import pytest

from antiphon import Simulation
from tests.commands import Commands
from tests.engine.scenes import CLASSIFY, scenario_of

# --- what selects ------------------------------------------------------------------------------------------

KEYS = {"keep_best": "accuracy", "patience": {"loss": 9}}
"""Both ways of selecting by scores."""
SELECTING = """\
scenario: chosen
env: {id: antiphon/Digits-v0}
agents: {a: {observes: [image], objective: {kind: classification, target: label}}}
training: {batch: 16, steps: 4, evaluate: {period: 2, split: SPLIT, keep_best: accuracy, patience: {loss: 9}}}
"""


def test_scores_that_are_selected_on_the_test_split_are_said_to_be(here: Path, cli: Commands) -> None:
    for split, selected in (("validation", False), ("test", True)):
        (here / "chosen.yaml").write_text(SELECTING.replace("SPLIT", split))
        said = "selected on this split by keep_best and patience: no test"
        result = cli.json("run chosen.yaml --name", split)
        assert ("keep_best and patience select on the test split" in cli.err) is selected
        assert result.get("selected_on_test", []) == ["keep_best", "patience"] * selected
        for words in (["evaluate", result["run_dir"]], ["resume", result["run_dir"], "--steps", "6"]):
            assert (said in " ".join(cli(words).split())) is selected
        cli("study chosen.yaml --steps 4 --seeds 1 --jobs 1 --logdir", f"study-{split}")
        table = (here / f"study-{split}" / "table.md").read_text()
        assert ("default (selected on test)" in table and said in table) is selected


@pytest.mark.parametrize("split", ["test", "validation"])
def test_an_evaluation_says_that_its_split_has_selected(split: str) -> None:
    scenario = scenario_of(
        {"a": {"observes": ["image"], "objective": CLASSIFY}}, evaluate={"period": 9, "split": "test", **KEYS}
    )
    with Simulation(scenario) as simulation:
        assert ("selected on this split" in str(simulation.evaluate(split))) is (split == "test")
