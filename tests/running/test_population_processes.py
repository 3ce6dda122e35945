"""A population whose members are divided over processes is the one of a single process, also when a process is lost."""

from __future__ import annotations

import json
import multiprocessing
import pickle
import shutil
import signal
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import antiphon
from antiphon.envs.base import StepResult
from antiphon.envs.images import Digits
from antiphon.errors import RunError
from antiphon.jobs import member_processes
from antiphon.jobs.member_processes import Work, alone
from antiphon.jobs.populations.population_run import PopulationRun
from antiphon.jobs.processes import Here
from antiphon.running.library import template_named
from antiphon.running.observers import RunProgress
from antiphon.running.request import Request
from antiphon.scenarios.population_spec import PopulationSpec
from tests.contracts.twins import differences, facts
from tests.engine.numbers import one_line
from tests.kit.commands import Commands

KEYS: dict[str, Any] = {
    "population": "it",
    "scenario": "digits-mlp",
    "members": 5,
    "seed": 1,
    "steps": 12,
    "set": {"depth": 2, "width": 4, "batch": 8},
    "vary": {"lr": [0.03, 0.1, 0.3, 1e300]},
    "select": {"every": 4, "copy": 0.4, "by": "loss"},
}
"""Members 0, 1 and 4 diverge, which are all members of the first of two processes."""


def run(
    folder: Path, jobs: int | None = None, checkpoint_every: int | None = None, **keys: Any
) -> PopulationRun:
    spec, how = PopulationSpec(**{**KEYS, **keys}), {"jobs": jobs, "checkpoint_every": checkpoint_every}
    return PopulationRun(spec, template_named(spec.scenario), folder, exist="resume", **how)


class Killed(BaseException):
    """Ends a thread as a signal ends a process."""


@pytest.fixture
def _threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have threads in the place of processes, of which one runs at a time, in float64."""
    turn, meet = threading.Lock(), member_processes._Meeting.__call__
    settings = Request.settings.fget
    assert settings is not None

    def meeting(self: Any, *arguments: Any) -> Mapping[int, Any]:
        turn.release()
        try:
            return meet(self, *arguments)
        finally:
            turn.acquire()

    def part(take_part: Any, work: Any, *arguments: Any) -> object:
        with turn:
            try:
                return take_part(work, *arguments)
            except Killed:
                raise BrokenProcessPool from None

    class Threads(Here):
        def __init__(self, pool: ThreadPoolExecutor) -> None:
            self._pool = pool

        def submit(self, function: Any, *arguments: Any) -> Any:
            return self._pool.submit(part, function, *deepcopy(arguments))

    @contextmanager
    def threads(*_: object) -> Iterator[Threads]:
        with ThreadPoolExecutor(8) as pool:
            yield Threads(pool)

    monkeypatch.setattr(member_processes._Meeting, "__call__", meeting)
    monkeypatch.setattr("antiphon.jobs.populations.population_run.processes", threads)
    monkeypatch.setattr(
        Request, "settings", property(lambda request: replace(settings(request), dtype=torch.float64))
    )


def files(folder: Path) -> set[str]:
    """Names of the files in a folder and those in it, but for the events', which are named after the time."""
    found = {str(path.relative_to(folder)) for path in folder.rglob("*")}
    return {name for name in found if "tfevents" not in name}


def check_same(one: Path, other: Path, members: int = 5) -> None:
    """Check that two folders hold the same population, up to rounding."""
    rows = [
        [line.split(",") for line in (each / "lineage.csv").read_text().splitlines()] for each in (one, other)
    ]
    assert rows[0][0] == rows[1][0]
    for row, theirs in zip(rows[0][1:], rows[1][1:], strict=True):
        assert row[:3] == theirs[:3]
        assert [float(cell or -1) for cell in row[3:]] == pytest.approx(
            [float(cell or -1) for cell in theirs[3:]], 1e-10
        )
    for member in range(members):
        runs = [antiphon.Simulation.load(each / f"member-{member}") for each in (one, other)]
        assert not list(differences(*map(facts, runs), tolerance=1e-10))
        for simulation in runs:
            simulation.close()


@pytest.mark.long
@pytest.mark.usefixtures("_threads")
@pytest.mark.parametrize("jobs", [2, pytest.param(5, marks=pytest.mark.nightly)])
def test_members_become_what_they_become_in_one_process(tmp_path: Path, jobs: int) -> None:
    """They are copied between processes, and all of one process diverge at once."""
    results = [run(tmp_path / name, count).train() for name, count in (("one", None), ("divided", jobs))]
    assert [one["exit_code"] for one in results] == [0, 0]
    lineage = json.loads((tmp_path / "divided/population.json").read_text())["lineage"]
    process = [0, 0, 1, 1, 1] if jobs == 2 else range(5)
    moved = [row for row in lineage if process[row["parent"]] != process[row["member"]]]
    assert {row["score"] is None for row in moved} == {True, False}
    assert files(tmp_path / "one") == files(tmp_path / "divided")
    check_same(tmp_path / "one", tmp_path / "divided")


@pytest.mark.long
@pytest.mark.usefixtures("_threads")
def test_a_lost_process_ends_the_others_and_the_population_is_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(tmp_path / "whole").train()
    step, taken = Digits.step, Counter[int]()

    def stepped(self: Digits, actions: Any = None) -> StepResult:
        taken[id(self)] += 1
        if taken[id(self)] == 10:
            raise Killed
        return step(self, actions)

    with monkeypatch.context() as killing:
        killing.setattr(Digits, "step", stepped)
        line = (
            "it: the process of members 0 to 1 was killed .*; antiphon resume .*it continues from the latest"
        )
        with one_line(line, RunError):
            run(tmp_path / "it", 2, checkpoint_every=4).train()
    for checkpoint in tmp_path.glob("it/member-[234]/checkpoints/step-000000008"):
        shutil.rmtree(checkpoint)  # as if the others had been killed before they wrote it
    again = PopulationRun.of_directory(tmp_path / "it")
    assert (again._jobs, again.scheduler.start) == (2, 4)
    assert again.train()["exit_code"] == 0
    check_same(tmp_path / "whole", tmp_path / "it")


@pytest.mark.usefixtures("_threads")
def test_without_selection_those_that_diverge_end(tmp_path: Path) -> None:
    result = run(tmp_path / "it", 2, select=None).train()
    assert [one["exit"] for one in result["members"]] == ["diverged", "diverged", "done", "done", "diverged"]
    assert result["best"]["member"] in (2, 3)


@pytest.mark.usefixtures("_threads")
def test_an_error_of_a_process_is_that_of_the_population(tmp_path: Path) -> None:
    with one_line("select.by: no metric 'episodes' here", antiphon.ScenarioError):
        run(tmp_path / "it", 2, select={"every": 4, "by": "episodes"}).train()


def test_what_other_processes_cannot_do_is_refused(here: Path, cli: Commands) -> None:
    with one_line("^jobs 2: .* cannot be imported by other processes; put it into a module", RunError):
        antiphon.population(lambda lr: None, vary=KEYS["vary"], members=2, jobs=2, logdir=here / "it")
    with one_line("^ray: has no effect on one process; give 2 or more jobs", RunError):
        antiphon.population("pole", ray="local", logdir=here / "it")
    for words, line in {
        "run pole --ray": "--ray: has no effect on one process; give 2 or more jobs",
        "run digits-mlp --jobs 2": "--jobs: digits-mlp is no population; leave it out",
        "run flags --jobs 2": "--jobs 2: the members of a league meet in one process; leave it out",
        "run capture-flag --set league=true --seeds 2": (
            "capture-flag.yaml:33: env.league: has no effect, as only members of a population meet; leave it out"
        ),
        "check capture-flag --set league=true": "env.league: has no effect, as only members of a population meet",
        "study capture-flag --set league=true": "env.league: has no effect, as only members of a population meet",
        "run pole --jobs 0": "must be at least 1, not 0",
    }.items():
        assert line in cli.refused(words)
    assert not (here / "it").exists()


# --- processes ---------------------------------------------------------------------------------------------


class Interruption(RunProgress):
    """Does something after some meetings of the processes."""

    def __init__(self, meetings: int, action: Callable[[], object]) -> None:
        super().__init__(None, 0)
        self.progress = self  # type: ignore[assignment]
        self._left, self._action = meetings, action

    def advance(self, _: float) -> None:
        self._left -= 1
        if self._left == 0:
            self._action()

    def close(self) -> None:
        """Nothing is displayed."""


@pytest.mark.nightly
@pytest.mark.parametrize("how", ["stopped", "killed", "terminated"])
def test_real_processes_are_stopped_or_killed_and_resumed(tmp_path: Path, how: str) -> None:
    run(tmp_path / "whole", 2).train()
    if how == "stopped":
        action = Interruption(6, lambda: signal.raise_signal(signal.SIGINT))
        result = run(tmp_path / "it", 2, checkpoint_every=4).train(action)
        assert result["exit_code"] == 130
        assert len({one["steps"] for one in result["members"]}) == 1
    else:
        child, said = ("kill", "killed") if how == "killed" else ("terminate", "stopped by a signal")
        action = Interruption(9, lambda: getattr(multiprocessing.active_children()[0], child)())
        with one_line(f"it: the process of members .* was {said}.*; antiphon resume .* continues", RunError):
            run(tmp_path / "it", 2, checkpoint_every=4).train(action)
    again = PopulationRun.of_directory(tmp_path / "it")
    assert 0 < again.scheduler.start < 12
    again.train()
    texts = [(tmp_path / name / "lineage.csv").read_text() for name in ("whole", "it")]
    assert texts[0] == texts[1]


@pytest.mark.nightly
@pytest.mark.ray
def test_processes_on_ray_are_those_of_this_machine(here: Path, cli: Commands) -> None:
    text = yaml.safe_dump({**KEYS, "vary": {"lr": [0.03, 0.1, 0.3]}}, sort_keys=False)
    (here / "it.yaml").write_text(text, encoding="utf-8")
    for name in ("local", "ray"):
        cli(f"run it.yaml --logdir runs --jobs 2 --name {name}{' --ray' * (name == 'ray')}")
    texts = [(here / "runs" / name / "lineage.csv").read_text() for name in ("local", "ray")]
    assert texts[0] == texts[1]


def test_the_work_of_a_population_can_be_sent_to_its_processes(
    here: Path, cli: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without processes, which take seconds to begin: the work is sent, and done here."""

    def done(name: str, work: Work, members: Sequence[int], *_: object, **__: object) -> list[Any]:
        sent: Work = pickle.loads(pickle.dumps(work))
        return [sent(members, alone)]

    monkeypatch.setattr("antiphon.jobs.populations.population_run.divided", done)
    text = "population: it\nscenario: digits-mlp\nmembers: 2\nsteps: 2\nset: {depth: 2, width: 4, batch: 4}\n"
    (here / "it.yaml").write_text(f"{text}vary: {{lr: [0.001, 0.01]}}\n", encoding="utf-8")
    cli("run it.yaml --logdir . --jobs 2 --name sent")
    assert (here / "sent/member-1/result.json").exists()


@pytest.mark.long
def test_real_processes_train_a_population(here: Path, cli: Commands) -> None:
    text = "population: it\nscenario: digits-mlp\nmembers: 2\nsteps: 2\nset: {depth: 2, width: 4, batch: 4}\n"
    (here / "it.yaml").write_text(text + "vary: {lr: [0.001, 0.01]}\nselect: {every: 1}\n", encoding="utf-8")
    found = cli.json("run it.yaml --logdir . --jobs 2 --name real")
    assert [member["exit"] for member in found["members"]] == ["done", "done"]


@pytest.mark.usefixtures("_threads")
def test_the_scores_at_which_a_population_paused_are_dropped_as_it_goes_on(here: Path, cli: Commands) -> None:
    text = "population: it\nscenario: digits-mlp\nmembers: 2\nsteps: 6\nset: {depth: 2, width: 4, batch: 4}\n"
    (here / "it.yaml").write_text(text + "vary: {lr: [0.001, 0.01]}\nselect: {every: 4}\n", encoding="utf-8")
    cli("run it.yaml --logdir . --jobs 2 --name whole")
    cli("run it.yaml --logdir . --jobs 2 --name paused --until 5")
    cli("resume paused")
    assert (here / "paused/lineage.csv").read_text() == (here / "whole/lineage.csv").read_text()
