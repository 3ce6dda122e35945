"""A run on Ray whose parts are killed ten times at random has the digests of an undisturbed one."""

from __future__ import annotations

import csv
import os
import random
import signal
import time
from pathlib import Path

import pytest
import yaml

from tests.commands import Commands
from tests.engine.parts.rings import document
from tests.engine.ray.marks import needs_ray_all
from tests.engine.ray.processes import children_of
from tests.engine.ray.runs import started

pytestmark = [*needs_ray_all, pytest.mark.slow]

KILLS = 10


def parts_of(run: int) -> list[int]:
    """Return the processes of a run's parts."""
    found = []
    for process in children_of(run):
        try:
            name = Path(f"/proc/{process}/cmdline").read_bytes()
        except OSError:
            continue
        if name.startswith(b"ray::PartWorker"):
            found.append(process)
    return sorted(found)


def test_ten_kills_change_no_digest(
    tmp_path: Path, short: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    cli, chance, kills = Commands(capsys), random.Random(0), 0
    settings = document(4_000, delay=4, every=200)
    Path("ring.yaml").write_text(yaml.safe_dump(settings), encoding="utf-8")
    with started(Path("ring.yaml"), tmp_path / "runs", short, parts=3) as run:
        try:
            while kills < KILLS and run.poll() is None:
                time.sleep(chance.uniform(0.5, 4.0))
                processes = parts_of(run.pid)
                if len(processes) == 3:
                    os.kill(chance.choice(processes), signal.SIGKILL)
                    kills += 1
            out, err = run.communicate(timeout=600)
        finally:
            run.kill()
    assert run.returncode == 0, out + err
    assert kills == KILLS
    with Path("runs/run/parts.csv").open(newline="") as file:
        last = [row for row in csv.DictReader(file) if row["step"] == "4000"]
    # A process that is killed while it is still being started is not counted.
    assert KILLS / 2 <= sum(int(row["incarnation"]) for row in last) <= KILLS
    cli("run ring.yaml --name one")
    assert cli.json("diff runs/one runs/run")["same"] is True
