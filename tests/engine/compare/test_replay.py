"""Replaying: two runs are run again side by side, and the first step and number in which they part is named."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from antiphon.engine.compare.differences import Difference
from antiphon.engine.compare.records import compare_digests
from antiphon.engine.compare.replay import Replay, compare_checkpoints, replay_runs
from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.runs.request import Request
from antiphon.engine.runs.run import Run, begin, resume
from antiphon.engine.runs.seeds import MultiSeedRun
from antiphon.engine.simulation import Simulation
from antiphon.engine.state import checkpoint
from antiphon.errors import RunError
from antiphon.scenarios import load
from antiphon.telemetry.csv_files import Digests, read_digests
from tests.resigned import resign

DOCUMENT = """
scenario: trio
env: {id: antiphon/Digits-v0}
agents:
  eye: {observes: [image], network: {kind: mlp, hidden: [5]}}
  ear: {objective: {kind: classification, target: label}, network: {kind: mlp, hidden: [4]}}
  mind: {objective: {kind: classification, target: label}, network: {kind: mlp, hidden: [4]}, clock: {period: 3}}
channels:
- {from: eye, to: ear, size: 3, link: {delay: 1}, gradient: {kind: linear, context: [label]}}
- {from: eye, to: mind, size: 3, link: {delay: 1}, gradient: {kind: linear, context: [label]}}
training: {batch: 4, steps: 24, optimiser: {kind: adam, lr: 0.01}}
telemetry: {every: 6}
"""


def made(path: Path, text: str = DOCUMENT, checkpoints: int = 6, **request: Any) -> RunDirectory:
    file = path.with_suffix(".yaml")
    file.write_text(text)
    run = begin(Request(template=load(file), **request), path)
    run.train(checkpoint_every=checkpoints)
    return RunDirectory.open(path)


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[RunDirectory, RunDirectory]:
    """The same run from two seeds: to be read only."""
    folder = tmp_path_factory.mktemp("pair")
    return made(folder / "a"), made(folder / "b", seed=1)


Pair = tuple[RunDirectory, RunDirectory]


def record(run: RunDirectory) -> Digests:
    found = read_digests(run.path / "digests.csv")
    assert found is not None
    return found


def replayed(first: RunDirectory, second: RunDirectory, **more: Any) -> Replay:
    records = record(first), record(second)
    rows = compare_digests(*records)
    assert rows.first_different is not None
    return replay_runs(
        (first, second), records, last_equal=rows.last_equal or 0, until=rows.first_different, **more
    )


def changed(run: RunDirectory, step: int, amount: float) -> None:
    """Change one weight of a checkpoint, and go on from there as if it had been written so."""
    path = run.path / "checkpoints" / f"step-{step:09d}"
    manifest, state = checkpoint.read(path)
    state["system"]["learners"]["ear"]["parameters"]["0.weight"][0, 0] += amount
    checkpoint.write(path, {key: manifest[key] for key in ("scenario", "seed", "step", "dtype")}, state)
    for later in run.checkpoints:
        if later > path:
            later.rename(run.path / later.name)
    run.note(step=step, exit="stopped")
    again = resume(run.path)
    assert isinstance(again, Run)
    again.train(checkpoint_every=6)


def test_the_first_difference_of_each_quantity_is_kept() -> None:
    found = Replay()
    message = Difference("message", "channel", "a->b", "", 1, 4, 0.5)
    mean = Difference("running statistic", "agent", "b", "0.norm.mean", 2, 4, 0.1)
    found.add(3, [message, message._replace(name="a->c")])
    assert (found.step, found.first) == (None, None)
    found.add(4, [message, mean])
    assert found.firsts == [(3, message, 1), (4, mean, 0)]
    assert (found.step, found.first, found.cause) == (4, found.firsts[1], found.firsts[0])


def test_another_seed_parts_before_the_first_step_and_nothing_is_written(pair: Pair) -> None:
    before = {path: path.read_bytes() for run in pair for path in run.path.rglob("*") if path.is_file()}
    found = replayed(*pair)
    assert {path: path.read_bytes() for path in before} == before
    assert {path for run in pair for path in run.path.rglob("*") if path.is_file()} == before.keys()
    assert (found.start, found.end, found.step, found.reproduces) == (0, 1, 0, True)
    assert found.first is not None
    assert found.first.difference[:4] == ("parameter", "agent", "ear", "0.weight")
    assert found.cause == found.first


def test_another_learning_rate_parts_at_the_first_update(pair: Pair, tmp_path: Path) -> None:
    found = replayed(pair[0], made(tmp_path / "b", DOCUMENT.replace("lr: 0.01", "lr: 0.02")))
    assert (found.step, found.reproduces) == (1, True)
    assert found.first is not None
    assert (found.first.step, found.first.difference.what) == (1, "parameter")
    assert [first.difference.what for first in found.firsts] == ["parameter"]


def test_the_step_between_two_rows_is_found(tmp_path: Path) -> None:
    """A learning rate that falls after 8 of 24 steps or later: rows part at 12, the 9th or 10th update differs."""
    steps = "lr: 0.01, schedule: {kind: steps, at: [%s], factor: 0.5}"
    one = made(tmp_path / "a", DOCUMENT.replace("lr: 0.01", steps % 0.34))
    other = made(tmp_path / "b", DOCUMENT.replace("lr: 0.01", steps % 0.4))
    rows = compare_digests(record(one), record(other))
    assert (rows.last_equal, rows.first_different) == (6, 12)
    seen: list[int] = []
    found = replayed(one, other, on_step=seen.append)
    assert (found.start, found.end, found.step, found.reproduces) == (0, 12, 10, True)
    assert seen == list(range(1, 13))  # the checkpoints that are left are later


def test_a_replay_begins_at_the_newest_checkpoint_before(tmp_path: Path) -> None:
    steps = "lr: 0.01, schedule: {kind: steps, at: [%s], factor: 0.5}"
    one = made(tmp_path / "a", DOCUMENT.replace("lr: 0.01", steps % 0.8))
    other = made(tmp_path / "b", DOCUMENT.replace("lr: 0.01", steps % 0.9), checkpoints=7)
    assert [path.name[-2:] for path in (*one.checkpoints, *other.checkpoints)] == ["18", "24", "21", "24"]
    found = replayed(one, other)
    assert (found.start, found.end, found.step, found.reproduces) == (18, 24, 21, True)


def test_a_checkpoint_that_is_not_what_was_recorded_is_told(tmp_path: Path) -> None:
    one, other = made(tmp_path / "a"), made(tmp_path / "b")
    changed(other, 18, 0.5)
    rows = compare_digests(record(one), record(other))
    assert (rows.last_equal, rows.first_different) == (18, 24)
    found = replayed(one, other)
    assert not found.reproduces
    assert found.not_reproducible[0] is None
    assert found.not_reproducible[1] == (18, (("agent", "ear"),))
    saved = compare_checkpoints(one, other)
    assert saved is not None
    assert (saved.step, saved.difference[:5]) == (18, ("parameter", "agent", "ear", "0.weight", 1))
    assert saved.difference.largest == pytest.approx(0.5)


def test_a_record_that_a_replay_does_not_give_is_told(tmp_path: Path) -> None:
    one, other = made(tmp_path / "a"), made(tmp_path / "b")
    changed(other, 18, 0.5)
    shutil.rmtree(other.path / "checkpoints" / "step-000000018")  # what was changed is gone
    found = replayed(one, other)
    assert (found.start, found.end) == (18, 24)
    assert found.firsts == []
    assert found.not_reproducible[0] is None
    assert found.not_reproducible[1] is not None
    assert found.not_reproducible[1].step == 24


def test_what_differs_before_the_checkpoints_is_looked_for_from_the_beginning(tmp_path: Path) -> None:
    """Moments are not in digests: where nothing moves, they differ from the first step on, and no row does."""
    still = DOCUMENT.replace("lr: 0.01", "lr: 1.0e-300")
    one = made(tmp_path / "a", still)
    other = made(tmp_path / "b", still.replace("1.0e-300", "1.0e-300, betas: [0.8, 0.999]"))
    records = record(one), record(other)
    assert compare_digests(*records).first_different is None
    found = replay_runs((one, other), records, last_equal=18, until=24)
    assert (found.start, found.step) == (0, None)
    assert found.cause is not None
    assert (found.cause.step, found.cause.difference.what) == (1, "moment")


def test_backends_part_in_the_last_bits(tmp_path: Path) -> None:
    alike = DOCUMENT.replace(", clock: {period: 3}", "")
    one, other = (
        made(tmp_path / "a", alike, backend="reference"),
        made(tmp_path / "b", alike, backend="cohort"),
    )
    found = replayed(one, other)
    assert found.reproduces
    assert found.first is not None
    assert found.first.difference.largest is not None
    assert found.first.difference.largest < 0.02
    assert found.cause is not None
    assert found.cause.difference.largest is not None
    assert found.cause.difference.largest < 1e-6


def test_seeds_that_ran_together_are_run_together_again(tmp_path: Path) -> None:
    file = tmp_path / "trio.yaml"
    file.write_text(DOCUMENT)
    requests = [Request(template=load(file), seed=seed, steps=12) for seed in (0, 1)]
    MultiSeedRun(requests, [tmp_path / "s0", tmp_path / "s1"]).train()
    first, second = (RunDirectory.open(tmp_path / name) for name in ("s0", "s1"))
    assert first.facts["together"] == [0, 1]
    found = replay_runs((first, second), (record(first), record(second)), last_equal=0, until=6)
    assert (found.end, found.step, found.reproduces) == (6, 0, True)


def test_a_run_that_diverges_ends_the_replay(pair: Pair, tmp_path: Path) -> None:
    wild = DOCUMENT.replace("{kind: adam, lr: 0.01}", "{kind: sgd, lr: 1.0e+25}")
    one, other = pair[0], made(tmp_path / "b", wild)
    found = replay_runs((one, other), (record(one), record(other)), last_equal=0, until=12)
    assert found.diverged[0] is None
    assert found.diverged[1] is not None
    assert "not finite" in found.diverged[1]
    assert found.end < 12


def test_a_replay_that_is_stopped_says_so(pair: Pair) -> None:
    stopped: list[int] = []
    found = replay_runs(
        pair,
        (record(pair[0]), record(pair[1])),
        last_equal=0,
        until=12,
        stopped=stopped,
        on_step=lambda step: stopped.append(2) if step == 4 else None,
    )
    assert (found.end, found.stopped) == (4, True)


@pytest.mark.parametrize(
    ("file", "text", "reason"),
    [
        ("scenario.yaml", "# No document: env: an object\n", "its scenario holds Python objects"),
        ("scenario.yaml", "scenario: [\n", "broken YAML"),
        ("run.json", "device", "there is no device 'tpu:9' here"),
    ],
)
def test_a_run_that_cannot_be_run_again_is_one_line(
    pair: Pair, tmp_path: Path, file: str, text: str, reason: str
) -> None:
    one, other = pair[0], RunDirectory.open(shutil.copytree(pair[1].path, tmp_path / "b"))
    if file == "run.json":
        resign(other.path, **{text: "tpu:9"})
    else:
        (other.path / file).write_text(text)
        resign(other.path)
    with pytest.raises(RunError, match=rf"b: cannot be run again here: .*{reason}"):
        replayed(one, RunDirectory.open(other.path))


def test_checkpoints_at_other_steps_are_not_compared(pair: Pair, tmp_path: Path) -> None:
    other = made(tmp_path / "b", seed=1, steps=23, checkpoints=5)
    assert compare_checkpoints(pair[0], other) is None
    assert compare_checkpoints(pair[0], pair[0]) is None


def test_other_agents_are_left_out(pair: Pair, tmp_path: Path) -> None:
    """A seed follows names: a third listener changes neither the eye nor the others before it speaks."""
    more = DOCUMENT.replace(
        "  mind:", "  lip: {objective: {kind: classification, target: label}, observes: [image]}\n  mind:"
    )
    rows = compare_digests(record(pair[0]), record(made(tmp_path / "b", more)))
    assert rows.first_different is None
    assert rows.only_in == ((), (("agent", "lip"),))


def test_what_was_changed_in_mid_run_is_changed_again(pair: Pair, tmp_path: Path) -> None:
    """From the first step on: the checkpoints of the changed run are removed."""
    file = tmp_path / "b.yaml"
    file.write_text(DOCUMENT)
    with Simulation(file, logdir=tmp_path / "b") as simulation:
        simulation.run(steps=8)
        simulation.set("ear.learning_rate", 0.02)
        simulation.run()
    run = RunDirectory.open(tmp_path / "b")
    shutil.rmtree(run.path / "checkpoints")
    found = replayed(pair[0], run)
    assert found.reproduces
    assert found.step == 9
    assert found.first is not None
    assert found.first.difference.name == "ear"
