"""Runs on Ray from the command line: a part that is killed changes no number, and however a run ends, nothing of it is left."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
import yaml

from tests.commands import Commands
from tests.engine.parts.rings import document
from tests.engine.ray.marks import needs_ray_all
from tests.engine.ray.processes import (
    PATIENCE,
    children_of,
    named,
    parts_of,
    started,
    survivors,
    wait_for_rows,
)
from tests.parts_table import read_parts

pytestmark = needs_ray_all

WITHIN = 300.0
"""Seconds for all processes to be gone."""


def test_a_run_whose_part_is_killed_is_that_of_one_process_and_leaves_nothing(
    tmp_path: Path, short: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ring.yaml").write_text(yaml.safe_dump(document(1200, delay=4, every=400)), encoding="utf-8")
    with started(Path("ring.yaml"), tmp_path / "runs", short) as run:
        try:
            wait_for_rows(tmp_path / "runs", 4, run)
            processes = {run.pid, *children_of(run.pid)}
            os.kill(parts_of(run.pid)[0], signal.SIGKILL)
            out, err = run.communicate(timeout=PATIENCE)
        finally:
            run.kill()
    assert (run.returncode, "Traceback" in out + err) == (0, False), out + err
    assert not survivors(processes, WITHIN)
    assert list(short.iterdir()) == []
    last = read_parts(Path("runs/run/parts.csv"))[1200]
    assert sum(row.incarnation for row in last) == 1
    cli = Commands(capsys)
    cli("run ring.yaml --name one")
    assert cli.json("diff runs/one runs/run")["same"] is True


@pytest.mark.nightly
def test_sigterm_ends_a_run_with_a_result_and_leaves_nothing(tmp_path: Path, short: Path) -> None:
    scenario = tmp_path / "ring.yaml"
    scenario.write_text(yaml.safe_dump(document(1_000_000)), encoding="utf-8")
    with started(scenario, tmp_path, short) as run:
        try:
            wait_for_rows(tmp_path, 4, run)
            processes = {run.pid, *children_of(run.pid)}
            run.terminate()
            out, err = run.communicate(timeout=PATIENCE)
        finally:
            run.kill()
    assert len(processes) > 5
    assert not survivors(processes, WITHIN)
    assert (run.returncode, "Traceback" in out + err) == (143, False), out + err
    assert (tmp_path / "run" / "result.json").exists()
    assert list(short.iterdir()) == []


@pytest.mark.nightly
def test_parts_end_with_the_process_that_started_them(tmp_path: Path, short: Path) -> None:
    """After kill -9 Ray ends all but two agents of its own, which go a minute later."""
    scenario = tmp_path / "ring.yaml"
    scenario.write_text(yaml.safe_dump(document(1_000_000)), encoding="utf-8")
    with started(scenario, tmp_path, short) as run:
        wait_for_rows(tmp_path, 4, run)
        agents = {
            one for one in children_of(run.pid) if named(one).startswith("ray::") and "Agent" in named(one)
        }
        others = children_of(run.pid) - agents
        assert len(parts_of(run.pid)) == 2
        run.kill()
    assert not survivors(others, WITHIN)
    for one in survivors(agents, 0.0):
        os.kill(one, signal.SIGKILL)
