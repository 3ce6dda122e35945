"""What several seeds say together: means and bands in TensorBoard, and a summary."""

from __future__ import annotations

import json
import math
import statistics
from pathlib import Path
from typing import Any

import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator  # type: ignore[import-untyped]
from tensorboard.plugins.custom_scalar import layout_pb2  # type: ignore[import-untyped]

from antiphon.engine.runs.seeds import summary_of
from tests.engine.seeds_asked import SEEDS, copies, figures, go, interrupt, spoilt


def curve(folder: Path, tag: str) -> dict[int, float]:
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0, "tensors": 0}).Reload()
    return {event.step: event.value for event in events.Scalars(tag)}


@pytest.mark.parametrize("parts", [False, True])
def test_means_and_bands_are_a_run_of_tensorboard(tmp_path: Path, parts: bool) -> None:
    if parts:
        go(tmp_path, on_step=interrupt(7))
    go(tmp_path, resume_if_exists=True)
    tables = [figures(tmp_path / f"x-s{seed}") for seed in SEEDS]
    for name, metric in (("n2", "loss"), ("n2", "accuracy"), ("n0", "parameter_norm")):
        tag = f"agent/{name}/{metric}"
        mean, low, high = (
            curve(tmp_path / "x-seeds", f"seeds/{tag}/{edge}") for edge in ("mean", "low", "high")
        )
        assert list(mean) == [1, 4, 8, 12]
        assert curve(tmp_path / "x-seeds", tag) == mean
        for step in mean:
            values = [table[str(step), "agent", name, metric] for table in tables]
            error = statistics.stdev(values) / math.sqrt(3)
            assert mean[step] == pytest.approx(statistics.fmean(values), rel=1e-5)
            assert high[step] - mean[step] == pytest.approx(error, rel=1e-3, abs=1e-6)
            assert mean[step] - low[step] == pytest.approx(error, rel=1e-3, abs=1e-6)
    assert list(curve(tmp_path / "x-seeds", "channel/n0__to__n1/cosine")) == [4, 8, 12]
    events = EventAccumulator(str(tmp_path / "x-seeds"), size_guidance={"tensors": 0}).Reload()
    last = events.Tensors("custom_scalars__config__")[-1].tensor_proto.string_val[0]
    (category,) = layout_pb2.Layout.FromString(last).category
    assert category.title == "Agents over seeds"
    found = {chart.title: chart.margin.series[0] for chart in category.chart}
    assert {"n2 accuracy", "n2 loss", "n0 updates"} <= found.keys()
    series = found["n2 loss"]
    assert (series.value, series.lower, series.upper) == tuple(
        f"seeds/agent/n2/loss/{edge}" for edge in ("mean", "low", "high")
    )


def test_bands_are_over_the_seeds_that_are_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    spoilt(tmp_path, monkeypatch, (0,))
    found = curve(tmp_path / "x-seeds", "agent/n2/loss")
    tables = [figures(tmp_path / f"x-s{seed}") for seed in SEEDS]
    assert list(found) == [1, 4, 8, 12]
    for step, among in ((4, tables), (8, tables[1:]), (12, tables[1:])):
        values = [table[str(step), "agent", "n2", "loss"] for table in among]
        assert found[step] == pytest.approx(statistics.fmean(values), rel=1e-5)


def test_bands_of_seeds_one_after_the_other(tmp_path: Path) -> None:
    go(tmp_path, copies())
    one, other = (figures(tmp_path / f"x-s{seed}") for seed in (0, 1))
    (name,) = {name for _, kind, name, metric in one if (kind, metric) == ("agent", "bits")}
    found = curve(tmp_path / "x-seeds", f"seeds/agent/{name}/bits/mean")
    assert list(found) == [6]
    for step, mean in found.items():
        key = (str(step), "agent", name, "bits")
        assert mean == pytest.approx((one[key] + other[key]) / 2, rel=1e-5)
    assert list(curve(tmp_path / "x-seeds", "seeds/env/solved/mean")) == [1, 6]


def test_the_object_of_json_is_kept(tmp_path: Path) -> None:
    outcome = go(tmp_path)
    assert json.loads((tmp_path / "x-seeds/seeds.json").read_text()) == outcome.result


def result(seed: int, accuracy: float | None, exit: str = "done", **env: float | None) -> dict[str, Any]:
    return {
        "seed": seed,
        "exit": exit,
        "accuracy": accuracy,
        "error": None,
        "bits": None,
        "loss": 1.0,
        "env": env,
    }


def test_a_summary_is_of_the_seeds_that_came_to_their_end() -> None:
    found = summary_of(
        [
            result(0, 0.5, solved=4.0),
            result(1, 0.7, solved=None),
            result(2, 0.1, "diverged"),
            result(3, 0.2, "stopped"),
        ]
    )
    assert list(found) == ["accuracy", "loss", "solved"]
    assert (found["accuracy"]["mean"], found["accuracy"]["n"]) == (pytest.approx(0.6), 2)
    assert (found["solved"]["mean"], found["solved"]["n"]) == (4.0, 1)
    assert summary_of([result(0, 0.5, "stopped")])["accuracy"]["n"] == 1
    assert summary_of([result(0, 0.5, "diverged")]) == {}
