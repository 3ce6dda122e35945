"""Verdicts on a run's channels, row by row."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from antiphon.telemetry import read_run
from antiphon.telemetry.tab.judgements import run_sentences
from antiphon.telemetry.verdicts import ABLATION_METRICS
from tests.kit.documented import ABLATIONS
from tests.kit.tab import REASONS, VERDICTS
from tests.telemetry.tab.serving import client, get
from tests.telemetry.tab.writing import graph, write

NAN = math.nan


def verdicts(folder: Path, **metrics: Mapping[int, list[float]]) -> dict[int, list[float]]:
    """The verdicts on the channels of a run with these log entries, by step."""
    steps = sorted({step for rows in metrics.values() for step in rows})
    written = {
        step: {f"antiphon/channel/{name}": rows[step] for name, rows in metrics.items() if step in rows}
        for step in steps
    }
    write(folder / "run", written)
    found = read_run(folder / "run").metrics[VERDICTS]
    assert found.values.dtype == np.float32
    return dict(zip(found.steps.tolist(), found.values.tolist(), strict=True))


def test_the_newest_row_counts_at_each_step_of_any_metric(tmp_path: Path) -> None:
    found = verdicts(
        tmp_path,
        age={1: [NAN, 0], 10: [4, 0], 20: [0, 4]},
        value_low={15: [0.1, -2.0]},
        value_high={15: [0.2, -1.0]},
    )
    assert found == {1: [0, 0], 10: [64, 0], 15: [64 + 1, 2], 20: [1, 64 + 2]}


def test_a_signal_is_against_the_gradient_by_its_mean_over_the_newest_entries(tmp_path: Path) -> None:
    """Which cover all steps of an example; four where that is not known. It is by their interval: not by one, nor if they differ much."""
    cosines = {1: [-0.1, -0.1], 2: [0.3, NAN], 3: [-0.3, -0.1], 4: [-0.3, -0.1], 5: [-0.1, -0.1]}
    found = verdicts(tmp_path, cosine=cosines)
    off = [[int(flag) & 262144 for flag in flags] for flags in found.values()]
    assert off == [[0, 0]] * 2 + [[0, 262144]] * 3


def test_the_zero_of_a_predictor_that_has_not_learned_yet_counts_at_its_step_alone(tmp_path: Path) -> None:
    cosines = {1: [0.0, 0.5], 20: [0.9, 0.7], 40: [0.9, 0.9]}
    write(tmp_path / "run", {step: {"antiphon/channel/cosine": rows} for step, rows in cosines.items()})
    found = read_run(tmp_path / "run").metrics["mean", "cosine"].values
    means, counts = np.split(found, 3, axis=1)[::2]
    assert means.tolist() == pytest.approx(np.array([[0.0, 0.5], [0.9, 0.6], [0.9, 0.7]]))
    assert counts.tolist() == [[1, 1], [1, 2], [2, 3]]


def test_a_signal_is_against_the_gradient_by_more_than_chance(tmp_path: Path) -> None:
    """Two standard errors of the mean of so many cosines: 0.07 of two entries of 100 messages of four components."""
    channels = [{**channel, "size": 4} for channel in graph()["channels"]]
    rows = {step: {"antiphon/channel/cosine": [-0.06, -0.08]} for step in (1, 2)}
    write(tmp_path / "run", rows, document=graph(channels=channels, batch=100))
    found = read_run(tmp_path / "run").metrics[VERDICTS].values.astype(int) & 262144
    assert found.tolist() == [[0, 0], [0, 262144]]


def test_a_gate_is_shut_that_is_0_as_at_most_entries_so_far(tmp_path: Path) -> None:
    """Also one that begins open, as with `passes: all`."""
    found = verdicts(tmp_path, gate={1: [NAN, 1], 10: [0, 0], 20: [0.5, 0], 30: [0, 0.1]})
    assert found == {1: [0, 0], 10: [256, 0], 20: [0, 256], 30: [256, 0]}


def test_a_run_read_from_its_files_has_them_and_the_commands_that_measure(tmp_path: Path) -> None:
    age, low, high = (f"antiphon/channel/{metric}" for metric in ("age", "value_low", "value_high"))
    write(tmp_path / "my run", {1: {age: [0, 4]}, 2: {age: [0, 0], low: [0.5, -1], high: [0.6, 1]}})
    run = read_run(tmp_path / "my run")
    assert run.metrics[VERDICTS].values.tolist() == [[0, 64], [1, 4]]
    catalogue = run.catalogue()
    assert catalogue["verdict"] == ["channel", "reasons"]
    value, ablation, *_ = catalogue["verdicts"]["measures"]
    assert catalogue["verdicts"]["by"] == f"antiphon evaluate '{tmp_path / 'my run'}' --value"
    assert not value["measured"]  # bounds without a middle
    assert "links" not in value
    channels = [{**channel, "drop": 0.5} for channel in run.graph["channels"]]
    lossy = replace(run, graph={**run.graph, "channels": channels}).catalogue()["verdicts"]["measures"]
    assert [one["links"] for one in lossy if one["metric"] == "value"] == ["links as in the run"]
    assert ablation["metric"] == "ablation_zero"
    assert [word["name"] for word in catalogue["verdicts"]["words"]] == [
        "helps",
        "harms",
        "matters",
        "misleads",
        "unresolved",
        "stale",
    ]
    assert "verdict/channel" in run.embedded()["metrics"]


def test_means_over_the_newest_entries_are_served(tmp_path: Path) -> None:
    """Of each channel the mean, half its interval, and of how many entries it is; in pages and by TensorBoard alike."""
    rows = {step: {"antiphon/channel/r2": [step / 10, NAN if step < 5 else 0.5]} for step in range(1, 6)}
    write(tmp_path / "run", rows)
    found = read_run(tmp_path / "run").metrics["mean", "r2"]
    served = get(client(tmp_path), "metric", run="run", kind="mean", metric="r2")
    assert served.data == found.pack()
    mean, half, count = found.values[-1].reshape(3, 2)
    assert mean == pytest.approx([0.35, 0.5])
    assert half[0] == pytest.approx(3.182 * np.std([0.2, 0.3, 0.4, 0.5], ddof=1) / 2, rel=1e-3)
    assert (math.isnan(half[1]), count.tolist()) == (True, [4, 1])


def test_what_follows_from_a_logged_metric_is_served_though_no_entry_has_it_of_all_channels(
    tmp_path: Path,
) -> None:
    """As where messages of several steps ago return at some steps only: the tab waits for all that its catalogue names."""
    cosines = {
        step: {"antiphon/channel/cosine": [0.2, NAN][:: 1 if step % 2 else -1]} for step in range(1, 5)
    }
    write(tmp_path / "run", cosines)
    served = client(tmp_path)
    named = json.loads(get(served, "catalog", run="run").data)["verdict"]
    assert "signals" in named
    assert [get(served, "metric", run="run", kind="verdict", metric=name).status_code for name in named] == [
        200
    ] * len(named)
    assert run_sentences(read_run(tmp_path / "run")) == []


def test_what_a_true_cosine_and_its_ceiling_say_is_flagged(tmp_path: Path) -> None:
    """By the flag of a cause in the catalogue; of an unknown number, and of one that has learned, none."""
    told = {"true_cosine": [0.05, 0.4, 0.1, NAN], "cosine_ceiling": [0.09, 0.5, 0.5, 0.5]}
    rows = {1: {f"antiphon/channel/{metric}": values for metric, values in told.items()}}
    write(tmp_path / "run", rows, document=graph("abcd"))
    run = read_run(tmp_path / "run")
    causes = run.catalogue()["verdicts"]["causes"]
    flags = run.metrics[REASONS].values[0].astype(int)
    said = [
        [
            hint.fix
            for c in causes
            for hint in c["texts"]
            if flag & c["flag"] and "cosine_ceiling" in hint.says
        ]
        for flag in flags
    ]
    more_steps = "more steps, or another rate of learning (training.predictor.lr)"
    assert said == [["more context (gradient.context), or local"], [], [more_steps], []]


def test_a_predictor_that_follows_what_returns_is_not_told_to_learn_longer(tmp_path: Path) -> None:
    """Its cosine tells, by its interval over the log entries."""
    told = {"true_cosine": [0.01] * 3, "cosine_ceiling": [0.4] * 3}
    rows = {
        step: {
            f"antiphon/channel/{metric}": values
            for metric, values in {**told, "cosine": [0.6, 0.1, 0.6 * (-1) ** step]}.items()
        }
        for step in range(1, 5)
    }
    write(tmp_path / "run", rows, document=graph("abc"))
    run = read_run(tmp_path / "run")
    causes = run.catalogue()["verdicts"]["causes"]
    flags = run.metrics[REASONS].values[-1].astype(int)
    said = [
        [
            hint.says[14:45]
            for c in causes
            for hint in c["texts"]
            if flag & c["flag"] and "cosine_ceiling" in hint.says
        ]
        for flag in flags
    ]
    assert said == [["has learned what the receiver r"], *[["has not learned yet what messag"]] * 2]


@pytest.mark.parametrize(
    ("steps", "measure"),
    [
        ({"ablation_zero": 10, "ablation_mean": 400}, "ablation_mean"),
        ({"ablation_mean": 10, "ablation_zero": 400}, "ablation_zero"),
        ({"ablation_step": 400, "ablation_mean": 400}, "ablation_mean"),
        ({"ablation_step": 400, "value": 10}, "value"),
        ({"value": 400, "ablation_mean": 10}, "ablation_mean"),
    ],
)
def test_the_measure_of_most_channels_counts_then_value_then_the_newest(
    steps: dict[str, int], measure: str, tmp_path: Path
) -> None:
    """In pages without a server and in TensorBoard."""
    written: dict[int, dict[str, list[float]]] = {step: {} for step in sorted(steps.values())}
    for name, step in steps.items():
        ends = ("", "_low", "_high")
        few = name == "value" and step == 400  # one of two channels has none
        written[step] |= {f"antiphon/channel/{name}{end}": [1, NAN if few else 2] for end in ends}
    write(tmp_path / "run", written)
    run = read_run(tmp_path / "run")
    for catalogue in (run.catalogue(), get(client(tmp_path), "catalog", run="run").json):
        assert catalogue["verdicts"]["measures"][0]["metric"] == measure


def test_each_kind_of_ablation_has_a_metric() -> None:
    assert list(ABLATION_METRICS) == [f"ablation_{kind}" for kind in ABLATIONS]


def test_signals_that_follow_nothing_are_said_of_the_run_with_their_medians(tmp_path: Path) -> None:
    """Whatever single channels seem to do; neither of one log entry, nor of those that follow."""

    def told(name: str, *cosines: list[float]) -> list[str]:
        rows = {
            step: {"antiphon/channel/cosine": row, "antiphon/channel/r2": [-3.0, -3.0, -2.0]}
            for step, row in enumerate(cosines, 2)
        }
        write(tmp_path / name, rows, document=graph("abc"))
        return run_sentences(read_run(tmp_path / name))

    lost = [[0.02, 0.5, -0.4], [-0.02, 0.5, -0.4], [0.02, 0.5, -0.4], [-0.02, 0.5, -0.4]]
    (sentence,) = told("lost", *lost)
    assert sentence.startswith(
        "the learning signals do not follow the returned gradients: medians of 3 channels (means over 4 log entries) are cosine 0 [−0.0367, 0.0367], "
        "R² −3 [−3, −3]"
    )
    (sentence,) = told("open", *([[-0.5, at, at] for at in (0.3, -0.9, 0.2, -0.9)]))
    assert sentence.startswith(
        "whether the learning signals follow the returned gradients is not resolved: medians of 3"
    )
    assert told("one", lost[0]) == []
    # what is sure is said before what is not resolved
    predictor = {
        "kind": "linear",
        "context": ["label"],
        "fast": ["its predictor's learning rate is far above", "a lower rate"],
    }
    fast = [
        {"name": f"{at}", "from": at, "to": (at + 1) % 3, "size": 2, "predictor": predictor}
        for at in range(3)
    ]
    rows = {
        step: {"antiphon/channel/cosine": [-0.5, at, at]} for step, at in enumerate((0.3, -0.9, 0.2, -0.9), 2)
    }
    write(tmp_path / "sure", rows, document=graph("abc", channels=fast))
    first, second = run_sentences(read_run(tmp_path / "sure"))
    assert "far above" in first
    assert "is not resolved" in second
    # they have followed: near the least loss little does
    assert told("before", *([[0.5, 0.6, 0.55]] * 3), *lost, *lost) == []
    (sentence,) = told("rounded", *([1e-8, 0.5, -0.4] for _ in range(4)))
    assert "cosine 0 [0, 0]" in sentence
    write(
        tmp_path / "single",
        {step: {"antiphon/channel/cosine": row} for step, row in enumerate(lost, 2)},
        document=graph(
            "abc",
            channels=[{"name": f"{at}", "from": at, "to": (at + 1) % 3, "size": 1} for at in range(3)],
        ),
    )
    (sentence,) = run_sentences(read_run(tmp_path / "single"))
    assert "are cosine 0 [−0.0367, 0.0367] (signs of one component); ablations do not" in sentence
    # where clocks differ, entries of some channels alone are left out
    assert told("slow", *([[0.0, NAN, NAN], [0.0, 0.5, 0.4]] * 4)) == []
    assert told("never together", *([[0.0, NAN, NAN], [NAN, 0.0, 0.0]] * 4)) == []
    assert told("one that never learns", *([[0.02, NAN, -0.4], [-0.02, NAN, -0.4]] * 2)) != []
    # an interval off 0, and all below what is a signal
    assert told("hardly", *([[0.01, 0.011, 0.012], [0.012, 0.011, 0.01]] * 2)) != []
    assert told("follows", *([[0.3, 0.31, 0.32], [0.3, 0.29, 0.2]] * 2)) == []
    assert told("unknown", [0.2, 0.2, 0.2], [-0.1, -0.1, -0.1], [0.5, 0.5, 0.5], [0.3, 0.3, 0.3]) == []
    served = get(client(tmp_path), "metric", run="lost", kind="verdict", metric="signals")
    assert served.data == read_run(tmp_path / "lost").metrics["verdict", "signals"].pack()
