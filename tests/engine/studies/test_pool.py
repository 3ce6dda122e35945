"""The jobs of a study: seeds of one line as one program, single runs where they cannot be joined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from antiphon.engine.runs.directory import RunDirectory
from antiphon.engine.runs.request import Request
from antiphon.engine.studies.pool import Pool, _parted
from antiphon.engine.studies.worker import job_of, work
from tests.engine.seeds_asked import SEEDS, copies, places, requests, same


def jobs(folder: Path, asked: list[Request]) -> list[dict[str, Any]]:
    return [job_of(one, path) for one, path in zip(asked, places(folder, asked), strict=True)]


def test_jobs_of_one_line_are_a_group_and_parted_where_processes_are_left(tmp_path: Path) -> None:
    one, two = jobs(tmp_path, requests((0, 1, 2, 3))), jobs(tmp_path, requests((0, 1), variant="locked"))
    mixed = [one[0], two[0], one[1], two[1], one[2], one[3], one[0]]

    def groups(processes: int) -> list[list[int]]:
        return [[index for index, _ in group] for group in _parted(mixed, processes)]

    assert groups(1) == [[0, 2, 4, 5], [1, 3], [6]]
    assert groups(3) == groups(1)
    assert groups(5) == [[0, 2], [1], [3], [4, 5], [6]]
    assert groups(16) == [[0], [1], [2], [3], [4], [5], [6]]
    assert list(_parted([], 4)) == []


def test_a_job_of_several_seeds_answers_for_each(tmp_path: Path) -> None:
    asked = jobs(tmp_path, requests())
    answers = work(asked)
    assert answers is not None
    assert [(answer["exit_code"], answer["result"]["seed"]) for answer in answers] == [(0, 2), (0, 3), (0, 4)]
    for job, answer in zip(jobs(tmp_path / "alone", requests()), answers, strict=True):
        alone = work([job])
        assert alone is not None
        assert same(alone[0]["result"], answer["result"], 1e-4)
    assert work(asked) == answers
    assert work(jobs(tmp_path, copies())) is None
    assert not (tmp_path / "x-s0").exists()
    broken = jobs(tmp_path, requests((7, 8), values={"width": 0}))
    found = work(broken)
    assert found is not None
    assert [answer["error"] for answer in found] == ["parameter 'width': must be at least 1, not 0"] * 2


def test_a_pool_joins_what_it_can_to_the_same_numbers(tmp_path: Path) -> None:
    """In this process, and in two of their own."""
    found = []
    for processes in (1, 2):
        some = jobs(tmp_path / f"a{processes}", requests())
        others = jobs(tmp_path / f"b{processes}", copies(3))
        answers = dict(Pool(processes).answers([*some, *others]))
        found.append([answers[index]["result"] for index in range(5)])
        assert len(answers) == 5
        told = [RunDirectory.open(Path(job["path"])).facts.get("together") for job in (*some, *others)]
        assert told == [[*SEEDS]] * 3 + [None] * 2
    assert [result["seed"] for result in found[0]] == [*SEEDS, 0, 1]
    assert all(same(one, other, 0.0) for one, other in zip(*found, strict=True))


def test_a_run_that_has_diverged_is_not_run_again(tmp_path: Path) -> None:
    (request,) = requests((0,), values={"lr": 1e30}, steps=40)
    job = job_of(request, tmp_path / "run")
    (first,) = work([job]) or []
    assert (first["exit_code"], first["result"]["exit"]) == (3, "diverged")
    (again,) = work([job]) or []
    assert (again["exit_code"], again["result"]) == (3, first["result"])
    outcome = request.outcome(tmp_path / "run")
    assert outcome is not None
    assert "diverged and would do so again" in str(outcome.error)
