"""Runs of several seeds: directories as of separate runs, stopping, going on, diverging."""

from __future__ import annotations

import math
import os
import shutil
import signal
import statistics
from pathlib import Path
from typing import Any

import pytest

from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.runs.run import Run, begin, resume
from antiphon.engine.runs.run_loop import RunLoop
from antiphon.engine.runs.run_writer import RunWriter
from antiphon.errors import RunError, ScenarioError
from antiphon.scenarios import Template
from tests.engine.seeds_asked import (
    SEEDS,
    TEMPLATE,
    close_to,
    copies,
    figures,
    go,
    interrupt,
    places,
    requests,
    same,
    spoilt,
    weights,
)


def test_each_seed_has_the_directory_of_a_run_of_its_own(tmp_path: Path) -> None:
    outcome = go(tmp_path, every=5)
    assert (outcome.exit_code, outcome.sequential_reason, list(outcome.outcomes)) == (0, None, [*SEEDS])
    for request in requests():
        own, alone = tmp_path / f"x-s{request.seed}", tmp_path / f"alone-s{request.seed}"
        result = begin(request, alone).train(checkpoint_every=5)[0].result
        assert sorted(p.name.partition("tfevents")[0] for p in own.iterdir()) == sorted(
            p.name.partition("tfevents")[0] for p in alone.iterdir()
        )
        assert (own / "scenario.yaml").read_text() == (alone / "scenario.yaml").read_text()
        assert close_to(figures(alone), figures(own), 1e-4)  # single precision: a little grows in 12 steps
        assert same(result, outcome.outcomes[request.seed].result, 1e-4)
        assert outcome.outcomes[request.seed].result == RunDirectory.open(own).result
        assert [p.name for p in RunDirectory.open(own).checkpoints] == ["step-000000010", "step-000000012"]
        assert close_to(weights(alone), weights(own), 1e-4)
        facts = RunDirectory.open(own).facts
        assert same(RunDirectory.open(alone).facts, facts, 0.0)
        assert facts["together"] == [*SEEDS]
        assert not list(own.rglob(".*"))


def test_one_goes_on_alone(tmp_path: Path) -> None:
    outcome = go(tmp_path)
    (alone,) = begin(requests()[1], tmp_path / "alone").train()
    assert alone.exit_code == 0
    results = []
    for path in (tmp_path / "x-s3", tmp_path / "alone"):
        going = resume(path, steps=20)
        assert isinstance(going, Run)
        results.append(going.train()[0].result)
    assert (results[0]["steps"], outcome.outcomes[3].result["steps"]) == (20, 12)
    assert same(results[1], results[0], 1e-3)
    assert close_to(figures(tmp_path / "alone"), figures(tmp_path / "x-s3"), 1e-3)


def test_a_signal_ends_all_with_checkpoints_and_the_same_again_goes_on(tmp_path: Path) -> None:
    stopped = go(tmp_path, on_step=interrupt(7, signal.SIGTERM))
    assert stopped.exit_code == 143
    ends = [(one.result["exit"], one.result["steps"]) for one in stopped.outcomes.values()]
    assert ends == [("stopped", 7)] * 3
    for path in places(tmp_path, requests()):
        assert [p.name for p in RunDirectory.open(path).checkpoints] == ["step-000000007"]
    steps: list[int] = []
    outcome = go(tmp_path, on_step=steps.append, resume_if_exists=True)
    assert (outcome.exit_code, steps) == (0, [8, 9, 10, 11, 12])
    whole = go(tmp_path / "whole")
    for seed in SEEDS:
        assert same(whole.outcomes[seed].result, outcome.outcomes[seed].result, 0.0)
        assert close_to(figures(tmp_path / f"whole/x-s{seed}"), figures(tmp_path / f"x-s{seed}"), 0.0)
        assert close_to(weights(tmp_path / f"whole/x-s{seed}"), weights(tmp_path / f"x-s{seed}"), 0.0)
    again = go(tmp_path, resume_if_exists=True)
    assert again.result == outcome.result


def equal(one: Path, other: Path) -> None:
    """Check that the runs of all seeds are the same to the last bit."""
    for seed in SEEDS:
        ours, theirs = one / f"x-s{seed}", other / f"x-s{seed}"
        assert close_to(figures(ours), figures(theirs), 0.0)
        names = [path.name for path in RunDirectory.open(ours).checkpoints]
        assert names == [path.name for path in RunDirectory.open(theirs).checkpoints]
        state = f"checkpoints/{names[-1]}/state.safetensors"
        assert (ours / state).read_bytes() == (theirs / state).read_bytes()
        facts = [RunDirectory.open(path).facts for path in (ours, theirs)]
        assert [(found["together"], found.get("alone_from"), found["exit"]) for found in facts] == [
            ([*SEEDS], None, "done")
        ] * 2


@pytest.mark.parametrize("behind", [(3,), (2, 4)])
def test_runs_killed_between_their_checkpoints_go_on_together(
    tmp_path: Path, behind: tuple[int, ...]
) -> None:
    """Some have the checkpoint of step 8 already, the others not: all go on from step 4, to the same bits."""
    go(tmp_path / "whole", every=4)
    go(tmp_path, on_step=interrupt(8, signal.SIGTERM), every=4)
    for seed in behind:
        shutil.rmtree(tmp_path / f"x-s{seed}/checkpoints/step-000000008")
    steps: list[int] = []
    assert go(tmp_path, on_step=steps.append, every=4, resume_if_exists=True).exit_code == 0
    assert steps == [5, 6, 7, 8, 9, 10, 11, 12]
    equal(tmp_path, tmp_path / "whole")


@pytest.mark.parametrize("reached", [8, 12])
def test_runs_killed_between_their_ends_end_together(tmp_path: Path, reached: int) -> None:
    """One is done; the others have only got as far as step 8, or have taken all steps and not written their ends."""
    go(tmp_path / "whole", every=4)
    go(tmp_path, every=4)
    for seed in SEEDS[1:]:
        path = tmp_path / f"x-s{seed}"
        RunDirectory.open(path).note(exit="running", step=reached)
        (path / "result.json").unlink()
        if reached == 8:
            shutil.rmtree(path / "checkpoints/step-000000012")
    outcome = go(tmp_path, every=4, resume_if_exists=True)
    assert list(outcome.outcomes) == [*SEEDS]
    equal(tmp_path, tmp_path / "whole")


def test_those_at_the_same_step_go_on_together(tmp_path: Path) -> None:
    asked = requests()
    first = begin(asked[0], tmp_path / "x-s2")
    first.train(lambda step, scores: interrupt(5)(step))
    begin(asked[1], tmp_path / "x-s3").train()
    more = requests((*SEEDS, 5))
    outcome = go(tmp_path, more, resume_if_exists=True)
    assert outcome.exit_code == 0
    facts = {seed: RunDirectory.open(tmp_path / f"x-s{seed}").facts for seed in (*SEEDS, 5)}
    joint = {seed: found.get("together") for seed, found in facts.items()}
    assert joint == {2: None, 3: None, 4: [4, 5], 5: [4, 5]}
    assert {found["step"] for found in facts.values()} == {12}


def test_a_signal_before_the_first_step_leaves_runs_that_can_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = RunWriter.start

    def start(self: RunWriter, loop: RunLoop) -> None:
        plain(self, loop)
        if self.directory.facts["seed"] == SEEDS[-1]:
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(RunWriter, "start", start)
    outcome = go(tmp_path)
    assert (outcome.exit_code, {one["steps"] for one in outcome.result["seeds"]}) == (130, {0})
    monkeypatch.undo()
    assert go(tmp_path, resume_if_exists=True).exit_code == 0


def test_a_second_signal_is_noted_in_all(tmp_path: Path) -> None:
    def twice(step: int) -> None:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        go(tmp_path, on_step=twice)
    assert {RunDirectory.open(path).facts["exit"] for path in places(tmp_path, requests())} == {"stopped"}


def test_one_that_diverges_ends_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = go(tmp_path / "whole")
    outcome, losses = spoilt(tmp_path, monkeypatch, (1,))
    assert outcome.exit_code == 0
    assert [one.exit_code for one in outcome.outcomes.values()] == [0, 3, 0]
    assert "agent 'n0': the gradient at step 5 is not finite" in str(outcome.outcomes[3].error)
    directory = RunDirectory.open(tmp_path / "x-s3")
    assert (directory.facts["exit"], directory.facts["step"]) == ("diverged", 5)
    assert directory.facts["error"] == outcome.outcomes[3].error
    assert all(math.isfinite(loss) for loss in losses)
    for seed in (2, 4):
        assert same(whole.outcomes[seed].result, outcome.outcomes[seed].result, 1e-4)
    summary = outcome.result["summary"]["accuracy"]
    assert summary["n"] == 2
    values = [outcome.outcomes[seed].result["accuracy"] for seed in (2, 4)]
    assert summary["mean"] == pytest.approx(statistics.fmean(values))
    again = go(tmp_path, resume_if_exists=True)
    assert (again.exit_code, [one.exit_code for one in again.outcomes.values()]) == (0, [0, 3, 0])
    assert again.result["summary"] == outcome.result["summary"]


def test_only_where_all_diverge_is_that_the_exit_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome, _ = spoilt(tmp_path, monkeypatch, (0, 1, 2))
    assert outcome.exit_code == 3
    assert outcome.result["summary"] == {}
    assert {one["exit"] for one in outcome.result["seeds"]} == {"diverged"}


def test_what_cannot_be_joined_runs_one_after_the_other_to_the_same_bits(tmp_path: Path) -> None:
    steps: list[int] = []
    outcome = go(tmp_path, copies(), steps.append)
    assert outcome.sequential_reason == "how long an episode is differs from seed to seed"
    assert steps == sorted(steps)
    assert (len(steps), steps[-1]) == (12, 6)  # the mean over both
    for request in copies():
        (alone,) = begin(request, tmp_path / f"alone-{request.seed}").train()
        assert same(alone.result, outcome.outcomes[request.seed].result, 0.0)
        table = figures(tmp_path / f"x-s{request.seed}")
        assert close_to(figures(tmp_path / f"alone-{request.seed}"), table, 0.0)
        assert "together" not in RunDirectory.open(tmp_path / f"x-s{request.seed}").facts


def test_a_signal_leaves_those_that_have_not_begun_for_later(tmp_path: Path) -> None:
    stopped = go(tmp_path, copies(), interrupt(2))
    assert (stopped.exit_code, list(stopped.outcomes)) == (130, [0])
    assert not (tmp_path / "x-s1").exists()
    outcome = go(tmp_path, copies(), resume_if_exists=True)
    assert (outcome.exit_code, list(outcome.outcomes)) == (0, [0, 1])


def test_one_seed_is_a_run(tmp_path: Path) -> None:
    outcome = go(tmp_path, requests((7,)))
    assert (outcome.sequential_reason, list(outcome.outcomes)) == (None, [7])
    summary = outcome.result["summary"]["accuracy"]
    assert (summary["error"], summary["low"], summary["n"]) == (None, None, 1)


def test_a_directory_that_is_in_the_way_is_told_before_anything_is_written(tmp_path: Path) -> None:
    (tmp_path / "x-s4").mkdir()
    (tmp_path / "x-s4/notes.txt").write_text("mine")
    with pytest.raises(RunError, match="x-s4: is there already and not empty; choose another name"):
        go(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["x-s4"]
    with pytest.raises(RunError, match="no run there"):
        go(tmp_path, resume_if_exists=True)
    assert [path.name for path in tmp_path.iterdir()] == ["x-s4"]


def test_a_directory_that_cannot_be_made_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = RunDirectory.create.__func__  # type: ignore[attr-defined]

    def create(cls: type[RunDirectory], path: Path, *more: Any) -> RunDirectory:
        if path.name == "x-s4":
            raise RunError("x-s4: cannot be written")
        made: RunDirectory = plain(cls, path, *more)
        return made

    monkeypatch.setattr(RunDirectory, "create", classmethod(create))
    with pytest.raises(RunError, match="x-s4: cannot be written"):
        go(tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("count", [1, 2])
def test_a_scenario_that_cannot_be_built_leaves_nothing(tmp_path: Path, count: int) -> None:
    text = TEMPLATE.text.replace("data: digits", "data: digitz")
    broken = Template.from_yaml(text, "broken.yaml")
    with pytest.raises(ScenarioError):
        go(tmp_path, requests(tuple(range(count)), template=broken))
    assert list(tmp_path.iterdir()) == []
