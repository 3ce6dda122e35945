"""Processes of a study that fail (jobs/studies/chunks.py)."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, Self

import pytest

from antiphon.engine import live_system
from antiphon.jobs.processes import Here
from antiphon.jobs.studies.chunks import Chunk, train
from antiphon.jobs.studies.scoring import Finished
from antiphon.running.trainer import Outcome
from tests.kit.commands import Commands


class Threads(Here):
    """In the place of processes, of which one runs at a time."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing is open."""


@pytest.mark.long
def test_a_run_that_fails_is_missing_from_the_table_and_the_others_go_on(
    here: Path, cli: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed = "its process was killed (by hand, or the machine was out of memory)"
    failures = {"locked": Outcome("failed", 1, killed), "detached": Outcome("stopped", 143)}
    plain = live_system.build

    def build(scenario: Any, *arguments: Any, **settings: Any) -> Any:
        if scenario.channels[0].gradient.kind == "local":
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate")
        return plain(scenario, *arguments, **settings)

    def answers(chunk: Chunk) -> list[Finished | Outcome]:
        failed = failures.get(chunk.runs.name)
        return [failed] if failed else train(chunk)

    words = (
        "study digits-mlp --set depth=2 --set width=8 --set batch=16 --steps 8 --seeds 1 --logdir s --jobs"
    )
    with monkeypatch.context() as patch:
        patch.setattr("antiphon.jobs.studies.study.train", answers)
        patch.setattr("antiphon.jobs.studies.study.Processes", Threads)
        patch.setattr(live_system, "build", build)
        assert cli.code(f"{words} 2 --json") == 1
    result = json.loads(cli.out.splitlines()[-1])
    assert [line.partition(";")[0] for line in cli.err.splitlines()[1:4]] == [
        f"[1/4] locked s0: failed: {killed}",
        "[2/4] detached s0: failed: its process was stopped (exit code 143)",
        "[3/4] local s0: failed: out of memory",
    ]
    assert re.match(r"\[4/4\] decoupled s0: accuracy \d+\.\d\d % ", cli.err.splitlines()[4])
    assert list(result["runs"]) == ["decoupled-s0"]
    assert [line["n"] for line in result["lines"]] == [0, 0, 0, 1]
    assert f"locked-s0: missing, {killed}." in (here / "s/table.md").read_text()
    again = cli.json(f"{words} 1")
    assert (again["exit_code"], again["failed"]) == (0, {})
    assert "missing" not in (here / "s/table.md").read_text()
