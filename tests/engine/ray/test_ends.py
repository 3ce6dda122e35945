"""However a run on Ray ends, no process of the cluster is left, nor its folder."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path

import pytest
import yaml

from tests.engine.parts.rings import document
from tests.engine.ray.marks import needs_ray_all
from tests.engine.ray.processes import children_of, survivors
from tests.engine.ray.runs import started

pytestmark = needs_ray_all

WITHIN = 30.0
"""Seconds for all processes to be gone."""


def wait_for_rows(folder: Path, count: int, run: subprocess.Popen[str]) -> None:
    file, end = folder / "run" / "parts.csv", time.monotonic() + 240
    while not file.exists() or file.read_text().count("\n") <= count:
        assert run.poll() is None, run.communicate()
        assert time.monotonic() < end, "it does not start"
        time.sleep(0.05)


@pytest.mark.parametrize("how", [None, signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_no_process_is_left(how: signal.Signals | None, tmp_path: Path, short: Path) -> None:
    scenario = tmp_path / "ring.yaml"
    scenario.write_text(yaml.safe_dump(document(24 if how is None else 1_000_000)), encoding="utf-8")
    with started(scenario, tmp_path, short) as run:
        try:
            wait_for_rows(tmp_path, 4, run)
            processes = {run.pid, *children_of(run.pid)}
            if how is signal.SIGINT:
                os.killpg(run.pid, how)  # as a terminal does
            elif how is not None:
                run.send_signal(how)
            out, err = run.communicate(timeout=2 * WITHIN)
        finally:
            run.kill()
    assert len(processes) > 5
    assert not survivors(processes, WITHIN)
    assert run.returncode == {None: 0, signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[how], err
    assert list(short.iterdir()) == []
    if how is not signal.SIGKILL:
        assert "Traceback" not in out + err
        assert (tmp_path / "run" / "result.json").exists()
