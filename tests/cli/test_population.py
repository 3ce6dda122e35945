"""`antiphon population` and `resume` of one: what they print and leave, and what they refuse."""

from __future__ import annotations

import itertools
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from antiphon.envs.base import StepResult
from antiphon.envs.images import Digits
from tests.kit.commands import Commands

POPULATION = """
population: mine
scenario: digits-mlp
members: 3
steps: 12
set: {depth: 2, width: 4, batch: 4}
vary: {lr: {from: 0.0001, to: 0.1, log: true}}
select: {every: 5, copy: 0.5}
"""
WORDS = "population mine.yaml --logdir runs --checkpoint-every 5"


def stopped_at(moment: int) -> Callable[..., StepResult]:
    """Steps of the environment, of which one gets a SIGINT."""
    taken, step = itertools.count(1), Digits.step

    def stepped(self: Digits, actions: Any = None) -> StepResult:
        if next(taken) == moment:
            signal.raise_signal(signal.SIGINT)
        return step(self, actions)

    return stepped


@pytest.fixture
def file(here: Path) -> Path:
    """The document."""
    path = here / "mine.yaml"
    path.write_text(POPULATION, encoding="utf-8")
    return path


def test_check_accepts_what_run_trains(here: Path, cli: Commands, file: Path) -> None:
    """Its steps are other than its scenario's."""
    assert cli.code("check", str(file)) == 0
    assert "warning" not in cli.out


@pytest.mark.long
def test_a_population_prints_its_members_and_leaves_their_runs(here: Path, cli: Commands, file: Path) -> None:
    out = cli(f"{WORDS} --name it")
    assert "mine · 3 members · 12 steps" in out
    assert "lineage      runs/it/lineage.csv" in out
    best = next(line.split()[-1] for line in out.splitlines() if line.startswith("best "))
    names = [path.name for path in sorted((here / "runs/it").glob("member-*"))]
    assert names == ["member-0", "member-1", "member-2"]
    assert Path(best).name in names
    rows = (here / "runs/it/lineage.csv").read_text().splitlines()
    assert rows[0] == "step,member,parent,accuracy,standard_error,lr,next_lr"
    assert [row.split(",")[0] for row in rows[1::3]] == ["5", "10", "12"]
    assert (here / "runs/it/lineage.svg").read_text().startswith("<?xml")
    assert cli("evaluate runs/it") == cli(f"evaluate {best}")


@pytest.mark.parametrize(
    ("moment", "lost"),
    [(24, True), pytest.param(15, False, marks=pytest.mark.long)],
    ids=["killed", "stopped"],
)
def test_what_ends_early_is_resumed_to_the_same_lineage(
    here: Path, cli: Commands, file: Path, monkeypatch: pytest.MonkeyPatch, moment: int, lost: bool
) -> None:
    """It ends after a selection whose checkpoint is the newest, like one that is killed, or just before one."""
    whole = cli.json(f"{WORDS} --name whole")
    with monkeypatch.context() as stopping:
        stopping.setattr(Digits, "step", stopped_at(moment))
        assert cli.code(f"{WORDS} --name stopped") == 130
    assert "antiphon resume runs/stopped continues" in cli.err
    for checkpoint in here.glob("runs/stopped/*/checkpoints/*8") if lost else ():
        shutil.rmtree(checkpoint)
    resumed = cli.json("resume runs/stopped")
    texts = [(here / "runs" / folder / "lineage.csv").read_text() for folder in ("whole", "stopped")]
    assert texts[0] == texts[1]
    scores = [[one["score"] for one in each["members"]] for each in (whole, resumed)]
    assert scores[0] == scores[1]


OWN = """
scenario: own
parameters: {lr: {default: 0.1}}
env: {id: antiphon/Digits-v0}
agents: {A: {network: {hidden: [4]}, observes: [image], objective: {kind: classification, target: label}}}
training:
  steps: 12
  batch: 4
  optimiser: {kind: adam, lr: $lr, schedule: {kind: linear, scale: 0}}
"""


@pytest.fixture
def own(here: Path, file: Path) -> Path:
    """The document of a population whose learning rates fall to 0."""
    Path("own.yaml").write_text(OWN)
    document = POPULATION.replace("digits-mlp", "own.yaml").replace("set: {depth: 2, width: 4, batch: 4}", "")
    file.write_text(document)
    return file


def test_what_is_refused(here: Path, cli: Commands, file: Path) -> None:
    cli(f"{WORDS} --name it --steps 4")
    assert "known: runs/it" in cli.refused("evaluate nowhere")
    for words, line in {
        "--name it --exist resume": "runs/it: holds another population (steps is 4, not 12); choose another name",
        "--name new --set lr=1": "population: set.lr: varies; leave it out here or in `vary`",
        "--name new --set widht=3": "population: set.widht: digits-mlp has no parameter 'widht'; did you mean 'width'?",
    }.items():
        found = cli.refused(WORDS, words)
        assert line in found
    for old, new, line in [
        ("lr: {from", "depth: [2, 3], lr: {from", "set.depth: varies; leave it out here or in `vary`"),
        (
            "lr: {from",
            "delay: {from: 1, to: 5}, lr: {from",
            "vary.delay: is a whole number: structure, which cannot",
        ),
        (
            "from: 0.0001, to: 0.1, log: true",
            "from: -1, to: 1",
            "mine.yaml:7: vary.lr: must be greater than 0, not -1",
        ),
        ("lr: {from", "rate: {from", "mine.yaml:7: vary.rate: digits-mlp has no parameter 'rate'"),
        (
            "{from: 0.0001, to: 0.1, log: true}",
            "[0.1, .nan]",
            "mine.yaml:7: vary.lr[1]: must be a finite number",
        ),
        (
            "{from: 0.0001, to: 0.1, log: true}",
            "[0.1, true]",
            "mine.yaml:7: vary.lr[1]: must be a number, not true",
        ),
        ("vary: {", "vary: {}  # {", "mine.yaml:7: vary: must be a mapping of at least 1 key, not {}"),
        ("every: 5", "every: 0", "mine.yaml:8: select.every: must be at least 1, not 0"),
        ("copy: 0.5", "copies: 0.5", "unknown key 'copies'; did you mean 'copy'?"),
        ("members: 3", "members: 1", "members: must be at least 2, not 1"),
        ("members: 3", "members: 100000", "members: must be at most 10000, not 100000"),
        ("scenario: digits-mlp", "", "mine.yaml:2: scenario: is missing; name the scenario"),
        ("digits-mlp", "digit-mlp", "mine.yaml:3: scenario: no scenario 'digit-mlp'; did you mean"),
        (
            "digits-mlp",
            "train:build",
            "mine.yaml:3: scenario: 'train:build' is a function, which no file names; pass it in Python: antiphon.population(build, …)",
        ),
        ("digits-mlp", "pole", "pole: is a population, not a scenario; antiphon population trains it"),
    ]:
        file.write_text(POPULATION.replace(old, new), encoding="utf-8")
        assert line in cli.refused(f"{WORDS} --name other")
    assert not (here / "runs/other").exists()
    assert (
        cli.refused("run mine.yaml") == "mine.yaml: is a population; antiphon population mine.yaml trains it"
    )


@pytest.mark.long
def test_a_population_is_shown_as_its_best_run_and_is_in_the_list(
    here: Path, cli: Commands, file: Path
) -> None:
    best = cli.json(f"{WORDS} --name it --steps 4")["best"]["run_dir"]
    assert cli("show runs/it") == cli(f"show {best}")
    assert cli("evaluate runs/it") == cli(f"evaluate {best}")
    line = cli.refused(f"resume {best}")
    assert line.startswith(
        f"{best}: is one of a population, whose members continue together: antiphon resume "
    )
    assert "A league of capture the flag" in cli("list")
    assert list(cli.json("list")["populations"]) == ["flags", "pole", "toy"]
    for options in ("--resolved", "--timeline", "--set lr=1"):
        line = f"show: {options.split()[0]} has no effect here; leave out all options but --yaml, --json"
        assert cli.refused("show pole", options) == line
    assert cli("show pole") == cli("show pole --yaml")
    assert cli("show pole").startswith("population: pole\n")
    assert cli.json("show pole")["select"]["every"] == 250
    assert "feudal: is a study, not a scenario; antiphon study runs it" in cli.refused("run feudal")
