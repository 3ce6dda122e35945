"""Runs that differ in their seed alone, as TensorBoard serves them: each, and all as one."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from werkzeug.test import Client

from antiphon.telemetry.statistics import student_t
from antiphon.telemetry.tab.judgements import judgements
from antiphon.telemetry.tab.series import RunData, Series
from tests.kit.tab import run_over_seeds, with_verdicts
from tests.telemetry.tab.serving import client, decoded, get, refused
from tests.telemetry.tab.writing import LOSS, graph, write

NAN = math.nan
VALUES = {0: [0.5, -0.2], 1: [0.6, NAN], 2: [0.55, NAN]}
"""By seed, of two channels; each has an interval of 0.15 to both sides."""
COSINES = {0: [0.1, 0.3], 1: [0.3, 0.3], 2: [0.5, 0.3]}
WHOLE = "small · all seeds"


def write_seed(folder: Path, seed: int, **changes: Any) -> None:
    """Write a run with a value at step 20, and a cosine at steps 10 and 20."""
    ends = {"": 0.0, "_low": -0.15, "_high": 0.15}
    rows: dict[int, dict[str, Any]] = {
        step: {"antiphon/channel/cosine": COSINES[seed], LOSS: [float(seed), seed + step / 10]}
        for step in (10, 20)
    }
    rows[20] |= {
        f"antiphon/channel/value{end}": [one + by for one in VALUES[seed]] for end, by in ends.items()
    }
    settings = {"seed": str(seed), "data_seed": str(seed), "width": "8"}
    write(folder, rows, document=graph(**{"seed": seed, "settings": settings} | changes))


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Client:
    """A client of three seeds; of two further runs whose settings or seeds do not fit, and of folders named by their seeds."""
    logdir = tmp_path_factory.mktemp("runs")
    for seed in VALUES:
        write_seed(logdir / f"small-s{seed}", seed)
    write_seed(logdir / "other-s0", 0)
    write_seed(logdir / "other-s1", 1, settings={"seed": "1", "width": "9"})
    for seed in (1, 2):
        write_seed(logdir / "folders" / f"seed{seed}", seed)
    for again in ("a", "b"):
        write_seed(logdir / f"same-s0-{again}", 0)
    return client(logdir)


def test_they_stand_under_one_name_before_the_newest_of_them(served: Client) -> None:
    """Those of other settings, of one seed, or whose names tell no seed, do not."""
    names = get(served, "runs").json
    assert [name for name in names if "all seeds" in name] == ["folders · all seeds", WHOLE]
    assert names[names.index(WHOLE) :] == [WHOLE, "small-s2", "small-s1", "small-s0"]
    found = get(served, "graph", run=WHOLE).json
    assert found["settings"] == {"width": "8"}
    seeds = found["seeds"]
    assert list(seeds) == ["small-s0", "small-s1", "small-s2"]
    assert [path.endswith(name) for name, path in seeds.items()] == [True] * 3


def ask(served: Client, kind: str, metric: str) -> dict[int, list[float]]:
    steps, values = decoded(get(served, "metric", run=WHOLE, kind=kind, metric=metric))
    return dict(zip(map(int, steps), values.tolist(), strict=True))


def test_a_number_is_the_mean_over_seeds_with_students_interval(served: Client) -> None:
    half = student_t(2) * 0.05 / math.sqrt(3)
    assert ask(served, "channel", "value") == {20: pytest.approx([0.55, -0.2])}
    low = ask(served, "channel", "value_low")[20]
    assert low == pytest.approx([0.55 - half, NAN], nan_ok=True, rel=1e-5)
    assert ask(served, "mean", "value")[20] == pytest.approx(
        [0.55, -0.2, half, NAN, 3, 1], nan_ok=True, rel=1e-5
    )
    cosines = ask(served, "mean", "cosine")[20]  # each seed's over its newest entries, then over seeds
    assert cosines == pytest.approx([0.3, 0.3, student_t(2) * 0.2 / math.sqrt(3), 0, 3, 3], abs=1e-5)
    losses = ask(served, "mean", "agent/loss")[10]
    assert losses[:2] == pytest.approx([1.0, 2.0])
    score = ask(served, "headline", "loss")[20]
    assert score == pytest.approx([2.0, student_t(2) / math.sqrt(3), 3], rel=1e-5)


def test_verdicts_are_over_seeds_and_beside_them_stands_what_each_finds(served: Client) -> None:
    """Helps: all seeds; a channel of which one seed alone has a value has no verdict, and why is said."""
    assert [int(flag) & 7 for flag in ask(served, "verdict", "channel")[20]] == [1, 0]
    assert ask(served, "seeds", "value")[20] == [3, 0, 0, 1, 0, 0]
    told = get(served, "catalog", run=WHOLE).json
    value = told["verdicts"]["measures"][0]
    assert value["reasons"] == {"b->a": "1 of 3 seeds has one"}
    assert (value["shown"], value["links"]) == (20, "3 seeds")
    assert told["messages"] == []
    loop = told["verdicts"]["by"]
    assert loop.startswith("for run in ")
    assert loop.endswith('/small-s2; do antiphon evaluate --value "$run"; done')


def test_seeds_that_were_measured_at_different_steps_are_said_to_be(tmp_path: Path) -> None:
    """Means are of one step. An interval of two seeds is one that rests on them; where few leave most unresolved there are more to take."""
    for seed, step in ((0, 10), (1, 20)):
        ends = {
            f"antiphon/channel/value{end}": [0.5 + by] * 2
            for end, by in (("", 0), ("_low", -1), ("_high", 1))
        }
        write(tmp_path / f"s{seed}", {step: ends}, document=graph(seed=seed))
    told = get(client(tmp_path), "catalog", run="ring · all seeds").json["verdicts"]
    why = "1 of 2 seeds has one; s0: measured at step 10; means are of one step"
    assert told["measures"][0]["reasons"] == {"a->b": why, "b->a": why}
    assert told["measures"][0]["links"] == "1 of 2 seeds"
    assert told["common"] == [
        "An interval of two seeds rests on the one difference between them: take --seeds 5"
    ]
    assert told["few"] == ""


def test_few_seeds_that_leave_most_channels_unresolved_are_too_few(tmp_path: Path) -> None:
    for seed in range(5):
        ends = {f"antiphon/channel/value{end}": [seed - 2.0, seed - 1.0] for end in ("", "_low", "_high")}
        write(tmp_path / "few" / f"s{seed % 3}", {10: ends}, document=graph(seed=seed % 3))
        write(tmp_path / "many" / f"s{seed}", {10: ends}, document=graph(seed=seed))
    for name, advice in (("few", "try --seeds 5"), ("many", "")):
        told = get(client(tmp_path / name), "catalog", run="ring · all seeds").json["verdicts"]
        assert told["few"] == advice


def test_what_is_measured_over_other_links_than_the_runs_says_so(tmp_path: Path) -> None:
    for drop, links in ((0.0, "perfect links"), (0.5, "perfect links, not the run's")):
        made = graph()
        made["channels"] = [channel | {"drop": drop} for channel in made["channels"]]
        undefined = {"ablation_zero": {"step": 10, "reasons": {}, "links": "perfect links"}}
        metrics = {
            ("channel", f"ablation_zero{end}"): Series(np.array([10]), np.array([[0.5, 0.5]], np.float32))
            for end in ("", "_low", "_high")
        }
        told = RunData("run", made, None, metrics, undefined=undefined).catalogue()["verdicts"]
        assert told["measures"][0]["links"] == links
        assert any("--links as_run" in line for line in told["common"]) == (drop > 0)


def test_a_name_for_seeds_that_are_none_is_no_run(served: Client) -> None:
    refused(get(served, "catalog", run="other · all seeds"), 404, "no run")
    refused(get(served, "metric", run=WHOLE, kind="channel", metric="gate"), 404, "no channel metric")


def test_seeds_of_different_lengths_are_those_that_have_a_step(tmp_path: Path) -> None:
    for seed, steps in ((0, (10, 20)), (1, (10,)), (2, (10,))):
        rows = {step: {"antiphon/channel/age": [seed, seed + step]} for step in steps}
        write(tmp_path / f"s{seed}", rows, document=graph(seed=seed))
    steps, values = decoded(
        get(client(tmp_path), "metric", run="ring · all seeds", kind="mean", metric="age")
    )
    assert steps == [10, 20]
    assert np.isnan(values[1]).tolist() == [False, False, True, True, False, False]
    assert values[:, 4].tolist() == [3, 1]


def test_of_seeds_of_which_different_log_entries_are_kept_the_newest_counts(tmp_path: Path) -> None:
    """At every step that a seed has reached."""
    lasts = {0: 60, 1: 77, 2: 90}
    for seed, last in lasts.items():
        rows = {step: {"antiphon/channel/age": [step, seed]} for step in range(1, last + 1)}
        write(tmp_path / f"s{seed}", rows, document=graph(seed=seed))
    found = client(tmp_path, samples_per_plugin={"antiphon": 10})
    steps, values = decoded(get(found, "metric", run="ring · all seeds", kind="mean", metric="age"))
    first = {
        seed: decoded(get(found, "metric", run=f"s{seed}", kind="channel", metric="age"))[0][0]
        for seed in lasts
    }
    assert len(steps) > 10, "they have different entries"
    for step, row in zip(steps, values, strict=True):
        assert row[4] == sum(first[seed] <= step <= lasts[seed] for seed in lasts)
        assert row[0] <= step


def test_a_score_that_no_seed_has_is_empty(tmp_path: Path) -> None:
    """And one that a single seed has is that seed's."""
    for seed in (0, 1):
        accuracy = {"antiphon/agent/accuracy": [NAN, 0.5 if seed else NAN]}
        write(tmp_path / f"s{seed}", {1: accuracy | {LOSS: [NAN, NAN]}}, document=graph(seed=seed))
    found = client(tmp_path)
    steps, _ = decoded(get(found, "metric", run="ring · all seeds", kind="headline", metric="loss"))
    assert steps == []
    _, values = decoded(get(found, "metric", run="ring · all seeds", kind="headline", metric="accuracy"))
    assert values.tolist() == [pytest.approx([0.5, NAN, 1], nan_ok=True)]


def test_whether_signals_follow_is_judged_over_seeds(tmp_path: Path) -> None:
    """By Student's t over the medians of the seeds: of these two of three seem to follow by themselves."""
    for seed, cosine in enumerate((0.11, 0.12, -0.15)):
        rows = {step: {"antiphon/channel/cosine": [cosine, cosine]} for step in (10, 20)}
        write(tmp_path / f"small-s{seed}", rows, document=graph(seed=seed))
    seeds = client(tmp_path)

    def signals(run: str) -> np.ndarray[Any, Any]:
        return decoded(get(seeds, "metric", run=run, kind="verdict", metric="signals"))[1]

    numbers = signals(WHOLE)[-1]
    half = student_t(2) * np.std([0.11, 0.12, -0.15], ddof=1) / math.sqrt(3)
    assert numbers[:3] == pytest.approx([0.08 / 3, 0.08 / 3 - half, 0.08 / 3 + half], abs=1e-6)
    assert not np.isnan(numbers[6]), "it is said of all seeds"
    assert np.isnan(signals("small-s0")[:, 6]).all(), "not of one that seems to follow"
    catalogue: Any = get(seeds, "catalog", run=WHOLE).json
    lost, _ = catalogue["verdicts"]["lost"]
    assert "medians of 2 channels and 3 seeds (means over 4 log entries) are cosine {cosine}" in lost


def test_seeds_that_ran_in_turns_stand_together(tmp_path: Path) -> None:
    for seed in (0, 1):
        for name in "ab":
            write_seed(tmp_path / f"{name}-s{seed}", seed, scenario=name)
    groups = [[f"{name} · all seeds", f"{name}-s1", f"{name}-s0"] for name in "ba"]
    assert get(client(tmp_path), "runs").json == [name for group in groups for name in group]


def ablated(values: list[float], halves: list[float], *, links: str = "", drop: float = 0.0) -> RunData:
    """Return a run of a ring of so many channels with losses by ablation."""
    made = graph([f"a{at}" for at in range(len(values))], seed=len(links))
    made["channels"] = [{**channel, "drop": drop} for channel in made["channels"]]
    ends = {"": 0, "_low": -1, "_high": 1}
    metrics = {
        ("channel", f"ablation_zero{end}"): Series(
            np.array([10]), np.array([values], np.float32) + sign * np.array([halves], np.float32)
        )
        for end, sign in ends.items()
    }
    undefined = {"ablation_zero": {"step": 10, "reasons": {}, "links": links}} if links else {}
    return RunData("run", made, None, with_verdicts(metrics, made), undefined=undefined)


def test_a_verdict_over_seeds_heeds_what_each_knows_of_its_own_noise() -> None:
    """Of noisy seeds that happen to agree none is surer than their own errors leave it; of sure seeds that disagree the spread decides."""
    noisy = [ablated([value, value], [0.04, 0.012]) for value in (0.0100, 0.0101, 0.0099)]
    first, second = judgements(
        run_over_seeds("noisy", [replace(one, name=str(at)) for at, one in enumerate(noisy)])
    )
    found = first.worth["ablation_zero"]
    assert found.high - found.value == pytest.approx(0.04 / math.sqrt(3), rel=1e-4)
    assert (first.verdicts, second.verdicts) == (["unresolved"], ["matters (may be chance)"])
    sure = [ablated([value, 0.3], [0.01, 0.01]) for value in (0.1, 0.3, 0.6)]
    first, second = judgements(
        run_over_seeds("sure", [replace(one, name=str(at)) for at, one in enumerate(sure)])
    )
    assert (first.verdicts, first.worth["ablation_zero"].seeds) == (["unresolved"], "3 matter")
    assert second.verdicts == ["matters"]


def test_seeds_that_were_measured_over_other_links_are_left_out_and_named() -> None:
    """A mean is over one kind of links: those of most seeds."""
    over = ["links as in the run", "perfect links", "links as in the run"]
    values = [[0.3, 0.2], [9.0, 9.0], [0.5, 0.2]]
    seeds = [
        replace(ablated(value, [0.05, 0.05], links=links, drop=0.5), name=f"s{at}")
        for at, (value, links) in enumerate(zip(values, over, strict=True))
    ]
    pooled = run_over_seeds("whole", [seeds[1], seeds[0], seeds[2]])
    first, _ = judgements(pooled)
    found = first.worth["ablation_zero"]
    assert (found.value, found.seeds) == (pytest.approx(0.4), "2 matter")
    measure = pooled.catalogue()["verdicts"]["measures"][0]
    assert measure["links"] == "links as in the run, 2 of 3 seeds (s1 over perfect links, not the run's)"
    two = run_over_seeds("two", seeds[:2])
    entry = two.catalogue()["verdicts"]["measures"][0]
    why = "1 of 2 seeds has one; s1 over perfect links: means are over links as in the run"
    assert entry["reasons"] == dict.fromkeys(["a0->a1", "a1->a0"], why)


def test_cosines_over_seeds_are_no_better_known_than_those_of_each(tmp_path: Path) -> None:
    """Seeds that happen to agree: by the spread of a seed's entries, and of a single entry by what chance leaves its samples."""
    channels = [{**channel, "size": 1} for channel in graph()["channels"]]
    for seed in range(2):
        rows = {10: [0.0, NAN], 20: [0.5, 0.25]} if seed else {10: [0.5, NAN], 20: [0.0, 0.25]}
        made = graph(seed=seed, batch=16, channels=channels)
        write(
            tmp_path / f"s{seed}",
            {at: {"antiphon/channel/cosine": row} for at, row in rows.items()},
            document=made,
        )
    _, values = decoded(get(client(tmp_path), "metric", run="ring · all seeds", kind="mean", metric="cosine"))
    mean, alone, half, of_alone, *_ = values[-1].tolist()
    assert (mean, alone) == (0.25, 0.25)
    assert half == pytest.approx(student_t(1) * 0.25 / math.sqrt(2), rel=1e-5)
    assert of_alone == pytest.approx(2 / math.sqrt(16) / math.sqrt(2), rel=1e-5)
