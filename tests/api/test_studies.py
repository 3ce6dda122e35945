"""Studies from Python: the command's table and figure, of scenarios, templates and functions."""

from __future__ import annotations

import csv
import os
from pathlib import Path

import pytest

import antiphon
from antiphon import load, study
from tests.kit.commands import Commands

TINY = {"depth": 2, "width": 8, "batch": 16}


@pytest.mark.long
def test_it_is_the_commands_table_and_figure(here: Path, cli: Commands) -> None:
    words = "study digits-mlp --set depth=2 --set width=8 --set batch=16 --variant locked --variant detached"
    printed = cli(words, "--steps 3 --seeds 2 --jobs 1 --logdir line")
    settings = {"variants": ["locked", "detached"], "seeds": 2, "steps": 3, "jobs": 1}
    table = antiphon.study("digits-mlp", values=TINY, **settings, logdir="line")
    shown, place = str(table).rsplit("\n\n", 1)
    assert printed.split()[: len(shown.split())] == shown.split()  # the same runs: not a digit differs
    assert place == f"runs in {os.path.relpath(table.directory)}"
    assert repr(table) == str(table)
    other = study(load("digits-mlp"), values=TINY, **settings, logdir=here / "python")
    assert other.directory == here / "python"
    frame = other.to_pandas()
    with (here / "python/table.csv").open(newline="") as file:
        written = list(csv.DictReader(file))
    assert list(frame.columns) == list(written[0])
    assert [str(value) for value in frame["mean"]] == [row["mean"] for row in written]
    assert [axes.get_ylabel() for axes in other.plot().axes] == ["accuracy %"]
    assert other.plot().axes
