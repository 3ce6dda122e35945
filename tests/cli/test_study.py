"""`antiphon study`: the library's list, documents, overrides, what it prints, what it refuses."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from antiphon.scenarios.study_spec import StudySpec
from tests.kit.commands import Commands

TEXT = """\
study: toy
scenario: digits-mlp
variants: [locked, detached, local]
set: {width: 8, batch: 16}
grid: {depth: [2, 3]}
metric: error
budgets:
  small: {steps: 4, seeds: 2}
  paper: {steps: 6, seeds: 1}
"""


@pytest.fixture(autouse=True)
def _toy(here: Path) -> None:
    """A study in the working directory."""
    (here / "toy.yaml").write_text(TEXT)


def test_studies_are_listed(cli: Commands) -> None:
    printed = cli("list studies")
    assert all(name in printed for name in StudySpec.library_names())
    small = cli.json("list studies")["studies"]["dni-unlock"]["budgets"]["small"]
    assert small == {"seeds": 3, "steps": 5000}


@pytest.mark.long
def test_a_document_is_run_under_a_budget_and_gone_on_with(here: Path, cli: Commands) -> None:
    words = "study toy.yaml --budget paper --jobs 1 --logdir mine"
    cli(words)
    assert cli.err.splitlines()[0] == "6 runs of 6 steps, 1 at a time, in mine"
    assert cli.err.splitlines()[1].startswith("[1/6] depth=2 locked s0: error ")
    assert "toy, budget paper: 6 steps, 1 seed" in cli.out
    assert "table        mine/table.md, table.csv, figure.svg" in cli.out
    result = cli.json(words)
    assert cli.err.count("(kept)") == 6
    assert (result["study"], result["budget"]) == ("toy", "paper")
    assert len(result["lines"]) == len(result["runs"]) == 6
    cli("report mine")
    text = (here / "report.html").read_text(encoding="utf-8")
    assert sorted(re.findall(r'<tr><th scope="row">([^<]*-s0)<', text)) == sorted(result["runs"])


def test_every_cell_is_built_before_the_first_run(here: Path, cli: Commands) -> None:
    Path("seen.yaml").write_text(
        "scenario: seen\nparameters: {seen: {default: image}}\nenv: antiphon/Digits-v0\n"
        "agents: {a: {observes: [$seen], objective: {kind: classification, target: label}}}\n"
    )
    Path("s.yaml").write_text(
        "study: s\nscenario: seen.yaml\nbudgets: {b: {steps: 1, seeds: 1}}\ngrid: {seen: [image, imge]}\n"
    )
    assert cli.code("study s.yaml --jobs 1 --logdir s") == 2
    line = "s: seen=imge default: seen.yaml:4: agents.a.observes: no signal 'imge'; did you mean 'image'?"
    assert cli.err.splitlines()[1:] == [f"error: {line}"]
    assert not list(Path().glob("s/*"))
