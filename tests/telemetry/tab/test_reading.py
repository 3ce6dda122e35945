"""Event files of a run, read back: sessions, torn ends, damage, and what is not ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from antiphon.errors import RunError
from antiphon.telemetry import RunData, read_run
from antiphon.telemetry.event_file import EventFile
from tests.telemetry.tab.writing import LOSS, graph, rows, write

TIMELINE = {"lines": ["step  1 2 3"]}


def steps(run: RunData, family: Any = "agent", metric: str = "loss") -> list[int]:
    return run.metrics[family, metric].steps.tolist()


def test_everything_comes_back(tmp_path: Path) -> None:
    messages = {"antiphon/messages/1": [[0.5, 1.5, 0.0], [2.5, 3.5, np.nan]]}
    write(tmp_path / "exp", {**rows([1, 2]), 3: {**rows([3])[3], **messages}}, timeline=TIMELINE)
    run = read_run(tmp_path / "exp")
    assert (run.name, run.graph, run.timeline) == ("exp", graph(), TIMELINE)
    assert set(run.metrics) == {("agent", "loss"), ("channel", "age")}
    loss = run.metrics["agent", "loss"]
    assert (loss.steps.dtype, loss.values.dtype) == (np.int64, np.float32)
    np.testing.assert_array_equal(loss.values, [[1, -1], [2, -2], [3, -3]])
    np.testing.assert_array_equal(run.metrics["channel", "age"].values, [[1, 1.5], [2, 2.5], [3, 3.5]])
    assert list(run.messages) == [1]
    assert run.messages[1].steps.tolist() == [3]
    np.testing.assert_array_equal(run.messages[1].samples[0], [[0.5, 1.5, 0.0], [2.5, 3.5, np.nan]])


@pytest.mark.long
def test_a_resumed_session_replaces_what_came_after_its_start(tmp_path: Path) -> None:
    write(tmp_path, rows([1, 2, 3, 4, 5]))
    write(tmp_path, rows([4, 6], scale=10.0), start=3, document=graph(seed=1))
    run = read_run(tmp_path)
    assert steps(run) == [1, 2, 3, 4, 6]
    assert run.metrics["agent", "loss"].values[:, 0].tolist() == [1, 2, 3, 40, 60]
    assert run.graph["seed"] == 1
    write(tmp_path, rows([3]), start=2, document=graph(seed=2))
    run = read_run(tmp_path)
    assert steps(run) == [1, 2, 3]
    assert run.graph["seed"] == 2


@pytest.mark.long
def test_of_several_rows_at_a_step_the_last_written_stays(tmp_path: Path) -> None:
    write(tmp_path, rows([1, 2]))
    events = EventFile(tmp_path)
    events.arrays(1, [(LOSS, np.float32([8, 9]))], "antiphon")
    events.close()
    loss = read_run(tmp_path).metrics["agent", "loss"]
    assert loss.steps.tolist() == [1, 2]
    assert loss.values.tolist() == [[8, 9], [2, -2]]


@pytest.mark.parametrize("lost", [1, 3, 4, 9, 60])
def test_a_torn_end_is_read_up_to_there(tmp_path: Path, lost: int) -> None:
    path = write(tmp_path, rows([1, 2, 3]))
    path.write_bytes(path.read_bytes()[:-lost])
    assert steps(read_run(tmp_path)) == [1, 2]


def test_a_folder_without_event_files_and_a_run_of_somebody_else(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=rf"^{tmp_path}: no event file found; pass "):
        read_run(tmp_path)
    events = EventFile(tmp_path)
    events.scalars(1, [("loss", 1.0)])
    events.close()
    with pytest.raises(RunError, match="no data for the Channels tab; pass ") as caught:
        read_run(tmp_path)
    assert "\n" not in str(caught.value)


def test_another_format_is_refused(tmp_path: Path) -> None:
    write(tmp_path, rows([1]), document={"format": 1, "nodes": []})
    with pytest.raises(RunError, match="its Channels tab has format 1, this version of antiphon reads 2"):
        read_run(tmp_path)
