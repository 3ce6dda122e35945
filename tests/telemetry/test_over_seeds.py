"""Seeds as one run of TensorBoard: when a step is written, over which seeds, and what is left out."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import networkx as nx
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]

from antiphon.errors import RunError
from antiphon.telemetry import CsvRecorder, Figure, RunDescription
from antiphon.telemetry.over_seeds import OverSeeds


def described(top: int = 32, agents: int = 2) -> RunDescription:
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    names = [f"a{number}" for number in range(agents)]
    for name in names:
        graph.add_node(name, role="agent", period=1)
    return RunDescription(yaml="", hparams={}, graph=graph, names={"agents": names, "channels": []}, top=top)


def loss(value: float, name: str = "a0") -> Figure:
    return Figure("agent", name, "loss", value)


def read(folder: Path) -> Any:
    return EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()


def curve(folder: Path, tag: str) -> list[tuple[int, float]]:
    return [(event.step, event.value) for event in read(folder).Scalars(tag)]


def test_a_step_is_written_once_every_seed_is_past_it(tmp_path: Path) -> None:
    bands = OverSeeds(tmp_path / "seeds", described(), 2)
    bands.take(0, 1, [loss(1.0)])
    bands.take(0, 2, [loss(2.0)])
    bands.take(1, 1, [loss(3.0)])
    assert not (tmp_path / "seeds").exists()
    bands.take(1, 2, [loss(5.0)])
    assert curve(tmp_path / "seeds", "agent/a0/loss") == [(1, 2.0)]
    bands.take(0, 3, [loss(7.0)])
    bands.ended(1)
    assert curve(tmp_path / "seeds", "agent/a0/loss") == [(1, 2.0), (2, 3.5)]
    bands.close()
    bands.close()
    assert curve(tmp_path / "seeds", "agent/a0/loss") == [(1, 2.0), (2, 3.5), (3, 7.0)]
    assert curve(tmp_path / "seeds", "seeds/agent/a0/loss/low") == [(1, 1.0), (2, 2.0), (3, 7.0)]


def test_a_long_run_has_the_rows_that_its_seeds_have(tmp_path: Path) -> None:
    bands = OverSeeds(tmp_path, replace(described(), every=10, until=20_030), 2)
    value = Figure("agent", "a0", "value", 1.0)
    for step in (20_000, 20_010, 20_020, 20_030):
        for seed in (0, 1):
            bands.take(seed, step, [loss(float(step)), value])
    bands.close()
    assert [step for step, _ in curve(tmp_path, "agent/a0/loss")] == [20_000, 20_020, 20_030]
    assert [step for step, _ in curve(tmp_path, "agent/a0/value")] == [20_000, 20_010, 20_020, 20_030]


def test_what_is_not_finite_and_whose_time_it_is_are_left_out(tmp_path: Path) -> None:
    bands = OverSeeds(tmp_path, described(top=1), 2)
    bands.take(0, 1, [loss(math.nan), loss(4.0, "a1"), Figure("run", "", "seconds", 3.0)])
    bands.take(1, 1, [loss(2.0), loss(5.0, "a1"), Figure("env", "", "solved", 1.0)])
    bands.close()
    tags = read(tmp_path).Tags()["scalars"]
    assert curve(tmp_path, "agent/a0/loss") == [(1, 2.0)]
    assert not [tag for tag in tags if "a1" in tag or "seconds" in tag]  # a1 is beyond the first `top`
    assert curve(tmp_path, "seeds/env/solved/high") == [(1, 1.0)]


def test_a_table_that_is_there_is_taken_over_and_old_events_are_replaced(tmp_path: Path) -> None:
    table = CsvRecorder(tmp_path / "metrics.csv")
    table.begin(described())
    for step in (1, 2, 3):
        table.figures(step, [loss(float(step))])
    table.close()
    for value in (10.0, 20.0):
        bands = OverSeeds(tmp_path / "seeds", described(), 2)
        bands.read(0, tmp_path / "metrics.csv", until=2)
        bands.read(1, tmp_path / "none.csv")
        for step in (1, 2):
            bands.take(1, step, [loss(value)])
        bands.close()
    assert curve(tmp_path / "seeds", "agent/a0/loss") == [(1, 10.5), (2, 11.0)]
    assert len(list((tmp_path / "seeds").iterdir())) == 1
    (tmp_path / "metrics.csv").write_text("step,kind\nx,agent\n")
    with pytest.raises(RunError, match=r"metrics.csv: does not fit \("):
        bands.read(0, tmp_path / "metrics.csv")


def test_a_damaged_table_is_found_before_old_events_are_replaced(tmp_path: Path) -> None:
    for seed in (0, 1):
        table = CsvRecorder(tmp_path / f"{seed}.csv")
        table.begin(described())
        for step in (1, 2, 3):
            table.figures(step, [loss(float(step))])
        table.close()
    earlier = OverSeeds(tmp_path / "seeds", described(), 1)
    earlier.take(0, 1, [loss(7.0)])
    earlier.close()
    with (tmp_path / "1.csv").open("a") as file:
        file.write("4,agent,a0\n")
    bands = OverSeeds(tmp_path / "seeds", described(), 2)
    bands.read(0, tmp_path / "0.csv")
    with pytest.raises(RunError, match=r"1.csv: does not fit \("):
        bands.read(1, tmp_path / "1.csv")
    assert curve(tmp_path / "seeds", "agent/a0/loss") == [(1, 7.0)]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    bands = OverSeeds(tmp_path / "file/seeds", described(), 1)
    bands.take(0, 1, [loss(1.0)])
    with pytest.raises(RunError, match="cannot be written"):
        bands.close()
