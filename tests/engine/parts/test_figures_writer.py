"""Figures of parts between the rows of a run: written where a part has gone or come back, and not otherwise."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from antiphon.engine.base_simulation import BaseSimulation
from antiphon.engine.parts import coordinator, figures_writer
from antiphon.engine.parts.settings import PartsSettings
from antiphon.engine.simulation import Simulation
from antiphon.telemetry.parts.part_figures import PartFigures
from antiphon.telemetry.parts.parts_csv import read_parts
from tests.engine.numbers import all_parameters, equal
from tests.engine.parts.fakes import FakeParts
from tests.engine.parts.test_coordinator import scenario


class MortalParts(FakeParts):
    """Parts of which the second is gone when the first has taken 7 and 8 steps, and comes back as another start."""

    def statistics(self) -> list[PartFigures]:
        first, second = super().statistics()
        step = first.steps_taken
        if 7 <= step < 9:
            second = replace(second, alive=False, heartbeat_age=2.0)
        return [first, replace(second, incarnation=int(step >= 9))]


@pytest.fixture(autouse=True)
def looking(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(figures_writer, "_LOOK_EVERY", 0.0)


def run(
    folder: Path, kind: type[FakeParts], monkeypatch: pytest.MonkeyPatch
) -> list[tuple[int, int, bool, int]]:
    """Run 12 steps, and return step, steps taken by the first part, and state of the second part, by row."""

    def open_parts(simulation: BaseSimulation, settings: PartsSettings) -> FakeParts:
        return kind(simulation, settings)

    monkeypatch.setattr(coordinator, "open_parts", open_parts)
    with Simulation(scenario(12), logdir=folder, parts=2) as simulation:
        simulation.run()
    lines: list[Any] = [line.split(",") for line in (folder / "parts.csv").read_text().splitlines()]
    heads, *rows = lines
    found = [dict(zip(heads, row, strict=True)) for row in rows]
    pairs = zip(found[::2], found[1::2], strict=True)
    return [
        (int(a["step"]), int(a["steps_taken"]), b["alive"] == "1", int(b["incarnation"])) for a, b in pairs
    ]


def test_a_part_that_goes_and_comes_back_has_rows_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = run(tmp_path / "run", MortalParts, monkeypatch)
    steps = [(step, alive, incarnation) for step, _, alive, incarnation in rows]
    assert (5, False, 0) in steps, "gone while the first part is at 7, the second has taken 5 steps"
    assert steps == sorted(steps, key=lambda row: row[0])
    assert [row[1:] for row in steps][-1] == (True, 1)
    changes = [rows[0], *(row for before, row in pairwise(rows) if before[2:] != row[2:])]
    assert [row[2:] for row in changes] == [(True, 0), (False, 0), (True, 1)]
    assert {1, 5, 10, 12} <= {step for step, *_ in steps}
    assert list(read_parts(tmp_path / "run" / "parts.csv")) == sorted({step for step, *_ in steps})


def test_while_a_part_is_gone_its_rows_are_kept_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Gone at two looks, steps 7 and 8 of the first part: one row, or one for each where the first of them is old."""
    gone = [row for row in run(tmp_path / "seldom", MortalParts, monkeypatch) if not row[2]]
    monkeypatch.setattr(figures_writer, "_GONE_EVERY", 0.0)
    often = [row for row in run(tmp_path / "often", MortalParts, monkeypatch) if not row[2]]
    assert (len(gone), len(often)) == (1, 2)


@pytest.mark.parametrize("parts", [1, 2])
def test_rows_that_a_checkpoint_does_not_know_are_dropped_also_in_one_process(
    parts: int, tmp_path: Path
) -> None:
    folder = tmp_path / "run"
    with Simulation("lossy", logdir=folder, parts=2) as simulation:
        simulation.run(steps=3)
    table = folder / "parts.csv"
    newest = table.read_text().splitlines()[-1]
    table.write_text(table.read_text() + newest.replace("3,", "9,", 1) + "\n")
    assert list(read_parts(table)) == [1, 3, 9]
    with Simulation.resume(folder, parts=parts) as simulation:
        simulation.run(steps=2)
    assert list(read_parts(table)) == [1, 3] + [5] * (parts - 1)


def test_while_all_run_there_are_only_the_rows_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = run(tmp_path / "run", FakeParts, monkeypatch)
    assert [step for step, *_ in rows] == [1, 5, 10, 12]


def test_the_figures_of_parts_add_up_and_change_no_number(tmp_path: Path) -> None:
    with (
        Simulation("lossy", logdir=tmp_path / "run", parts=2) as written,
        Simulation("lossy", parts=2) as unwritten,
        Simulation("lossy") as whole,
    ):
        found = []
        for simulation in (written, unwritten, whole):
            simulation.run(steps=120)
            found.append(all_parameters(simulation))
    assert equal(found[0], found[1])
    assert equal(found[0], found[2])
    table = read_parts(tmp_path / "run" / "parts.csv")
    assert list(table) == [1, 100, 120]
    for step, rows in table.items():
        assert [(row.part, row.steps_taken) for row in rows] == [(0, step - 1), (1, step - 1)]
        assert sum(row.bytes_sent for row in rows) == sum(row.bytes_received for row in rows)
    newest = table[120]
    assert all(row.calls > 0 and 0 < row.computing < row.seconds and row.bytes_sent > 0 for row in newest)
