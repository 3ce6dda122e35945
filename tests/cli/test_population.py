"""`antiphon population` and `resume` of one: what they print and leave, and what they refuse."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from antiphon.envs.images import Digits
from tests.cli.stopping import stopped_at
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


@pytest.fixture
def file(here: Path) -> Path:
    """The document."""
    path = here / "mine.yaml"
    path.write_text(POPULATION, encoding="utf-8")
    return path


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
    assert cli("evaluate runs/it") == cli(f"evaluate {best}")


@pytest.mark.parametrize(
    ("moment", "lost"),
    [
        pytest.param(24, True, marks=pytest.mark.long),
        pytest.param(15, False, marks=pytest.mark.nightly),
    ],
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
