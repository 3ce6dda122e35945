"""Event files of a run, read back: sessions, torn ends, damage, and what is not ours."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from antiphon.errors import RunError
from antiphon.telemetry import RunData, read_run
from antiphon.telemetry.event_file import EventFile
from tests.telemetry.tab.writing import graph, rows, write

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
