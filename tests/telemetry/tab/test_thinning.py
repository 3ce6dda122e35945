"""What of runs goes into a page of so many bytes."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from antiphon.telemetry import Messages, RunData, Series
from antiphon.telemetry.tab.page import fitted, written


def made(name: str = "r", rows: int = 500, items: int = 50, metrics: int = 3) -> RunData:
    steps = 10 * np.arange(1, rows + 1)
    values = np.random.default_rng(0).uniform(size=(rows, items)).astype(np.float32)  # compresses little
    values[-1, -1] = rows * items - 1
    series: dict[Any, Series] = {("channel", f"m{n}"): Series(steps, values) for n in range(metrics)}
    samples = Messages(steps, [np.zeros((9, 4), np.float32)] * rows)
    return RunData(name, {"agents": [], "channels": []}, {"agents": []}, series, {0: samples})


def size(runs: list[RunData]) -> int:
    return len(written([run.embedded() for run in runs]))


def test_what_fits_is_left_as_it_is() -> None:
    run = made()
    assert fitted([run], 10_000_000) == ([run], "")


@pytest.mark.parametrize("most", [60_000, 150_000, 300_000])
def test_rows_are_thinned_evenly_with_the_first_and_the_last(most: int) -> None:
    (run,), note = fitted([made()], most)
    steps = run.metrics["channel", "m0"].steps
    assert most / 2 < size([run]) <= most
    assert 20 <= len(steps) < 500
    assert (steps[0], steps[-1]) == (10, 5000)
    assert np.ptp(np.diff(steps)) <= 10  # gaps differ by one row at most
    assert run.metrics["channel", "m0"].values[-1, -1] == 500 * 50 - 1
    assert (
        note
        == f"This page has {len(steps)} of 500 log entries, evenly spaced, including the first and the last."
    )


def test_a_few_rows_are_always_kept() -> None:
    (kept,), _ = fitted([made()], 1_000)
    assert len(kept.metrics["channel", "m0"].steps) == 20


def test_data_hold_no_mark_of_html() -> None:
    value = {"</script>": "<!-- & \u2028 \u2029", "half": "\ud800"}
    text = written(value)
    assert not set(text) & set("<>&\u2028\u2029")
    assert json.loads(text) == value | {"half": "?"}
