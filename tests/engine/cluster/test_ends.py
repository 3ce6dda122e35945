"""However a run on Ray ends, no process of the cluster is left, nor its folder."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from tests.engine.cluster.marks import needs_ray
from tests.engine.cluster.processes import children_of, survivors
from tests.engine.parts.rings import document

pytestmark = needs_ray

WITHIN = 60.0
"""Seconds for all processes to be gone; Ray's own agents notice the end of a cluster that was killed after ten."""


@pytest.fixture
def short() -> Iterator[Path]:
    """A folder for temporary files with a short name, for the paths of sockets."""
    with tempfile.TemporaryDirectory(prefix="t", dir="/tmp", ignore_cleanup_errors=True) as found:
        yield Path(found)


def started(folder: Path, short: Path, steps: int) -> subprocess.Popen[str]:
    scenario = folder / "ring.yaml"
    scenario.write_text(yaml.safe_dump(document(steps)), encoding="utf-8")
    command = [sys.executable, "-m", "antiphon", "run", str(scenario), "--backend", "ray", "--parts", "2"]
    return subprocess.Popen(
        [*command, "--name", "run", "--logdir", str(folder)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(short), "OMP_NUM_THREADS": "1"},
        start_new_session=True,
    )


def wait_for_rows(folder: Path, count: int, run: subprocess.Popen[str]) -> None:
    file, end = folder / "run" / "parts.csv", time.monotonic() + 240
    while not file.exists() or len(list(csv.reader(file.open()))) <= count:
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < end, "it does not start"
        time.sleep(0.05)


@pytest.mark.parametrize("how", [None, signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left(how: signal.Signals | None, tmp_path: Path, short: Path) -> None:
    with started(tmp_path, short, 24 if how is None else 1_000_000) as run:
        try:
            wait_for_rows(tmp_path, 4, run)
            processes = {run.pid, *children_of(run.pid)}
            if how is signal.SIGINT:
                os.killpg(run.pid, how)  # as a terminal does
            elif how is not None:
                run.send_signal(how)
            out, err = run.communicate(timeout=WITHIN)
        finally:
            run.kill()
    assert len(processes) > 5
    assert not survivors(processes, WITHIN)
    assert run.returncode == {None: 0, signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[how], err
    if how is not signal.SIGKILL:
        assert "Traceback" not in out + err
        assert list(short.iterdir()) == []
        assert (tmp_path / "run" / "result.json").exists()
