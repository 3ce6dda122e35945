"""Many runs by one command: `antiphon study` and `run --seeds K`, what they print, where, and with which exit code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from antiphon.envs.images import Digits
from antiphon.scenarios.study_spec import StudySpec
from tests.cli.stopping import stopped_at
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


@pytest.mark.long
def test_a_document_is_run_under_a_budget_and_gone_on_with(here: Path, cli: Commands) -> None:
    words = "study toy.yaml --budget paper --jobs 1 --logdir mine"
    cli(words)
    assert cli.err.splitlines()[0].startswith("depth=2 locked: error ")
    assert "toy, budget paper: 6 steps, 1 seed" in cli.out
    assert "table        mine/table.md, table.csv" in cli.out
    result = cli.json(words)
    assert cli.err.count("(kept)") == 6
    assert (result["study"], result["budget"]) == ("toy", "paper")
    runs = sorted(path.name for path in Path("mine").glob("*-s0"))
    assert len(result["lines"]) == len(runs) == 6
    cli("report mine")
    text = (here / "report.html").read_text(encoding="utf-8")
    assert sorted(re.findall(r'<tr><th scope="row">([^<]*-s0)<', text)) == runs


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
    assert cli.err.splitlines() == [f"error: {line}"]
    assert not list(Path().glob("s/*"))


# --- seeds -----------------------------------------------------------------------------------------------


SMALL = "run digits-mlp --set depth=2 --set width=8 --set batch=16"
TINY = f"{SMALL} --steps 6"


@pytest.mark.long
def test_seeds_are_told_one_by_one_and_together(here: Path, cli: Commands) -> None:
    cli(TINY, "--seeds 3 --seed 4 --variant local --logdir mine --name exp")
    lines = cli.out.splitlines()
    assert lines[1] == "digits-mlp · local · 3 seeds"
    assert lines[3].split() == ["seed", "run", "accuracy", "loss"]
    runs = [[str(seed), f"mine/exp-s{seed}"] for seed in (4, 5, 6)]
    assert [line.split()[:2] for line in lines[5:8]] == runs
    rows = [line for line in lines if line.startswith(("mean ± deviation", "95 % interval"))]
    assert len(rows) == 2
    assert all("%" in row for row in rows)
    assert " ± " in rows[0].removeprefix("mean ± deviation")
    assert "over seeds   mine/exp-seeds/seeds.json" in lines
    assert "TensorBoard  antiphon tb mine" in lines
    names = ["exp-s4", "exp-s5", "exp-s6", "exp-seeds"]
    assert sorted(path.name for path in (here / "mine").iterdir()) == names
    for words in ("resume mine/exp-s5 --steps 8", "evaluate mine/exp-s5", "show mine/exp-s5"):
        cli(words)


@pytest.mark.long
def test_ctrl_c_ends_all_and_the_same_command_goes_on(
    here: Path, cli: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    words = f"{SMALL} --seeds 2 --name exp --logdir mine --steps 12 --checkpoint-every 3"
    with monkeypatch.context() as stopping:
        stopping.setattr(Digits, "step", stopped_at(7))  # a step that has a checkpoint already
        assert cli.code(words) == 130
    assert cli.out.count("(stopped after step ") == 2
    assert "stopped; the same command with --name and --exist resume continues" in cli.err
    assert any((here / "mine/exp-s1/checkpoints").iterdir())
    found = cli.json(words, "--exist resume")
    assert {(one["exit"], one["steps"]) for one in found["seeds"]} == {("done", 12)}


def test_all_that_diverge_are_an_error(here: Path, cli: Commands) -> None:
    assert cli.code(SMALL, "--steps 40 --set lr=1.0e+30 --seeds 2 --name exp") == 3
    assert cli.err.count("error: seed 0: ") == cli.err.count("error: seed 1: ") == 1
    assert cli.out.count("(diverged after step ") == 2
    assert "mean" not in cli.out


PLAIN = """\
scenario: plain
env: antiphon/Digits-v0
agents:
  eye: {observes: [image], network: {kind: mlp, hidden: [4]}}
  mind: {network: {kind: mlp, hidden: [4]}, objective: {kind: classification, target: label}}
channels:
  - {from: eye, to: mind, size: 4}
"""


@pytest.mark.long
def test_each_line_is_a_command_whose_runs_the_study_keeps(here: Path, cli: Commands) -> None:
    (here / "plain.yaml").write_text(PLAIN)
    words = "study plain.yaml --variant locked,decoupled --seeds 1 --steps 3 --logdir s --jobs 1"
    commands = cli(f"{words} --list").splitlines()
    assert not Path("s").exists()
    for command in commands:
        cli(*command.removeprefix("antiphon ").split())
    assert len(commands) == 2
    cli(words)
    assert cli.err.count("(kept)") == 2
    assert Path("s/table.md").exists()
