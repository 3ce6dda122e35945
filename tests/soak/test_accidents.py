"""Accidents to real processes and disks: what is lost, what is said of it, and that the run goes on afterwards."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
MODULE = '''
import os
import signal
from pathlib import Path

import torch

import antiphon


class Killing(torch.nn.Linear):
    """A layer that kills its process once, after so many passes in training."""

    def __init__(self, inputs, outputs, passes):
        super().__init__(inputs, outputs)
        self.passes = passes

    def forward(self, values):
        self.passes -= 1
        if self.passes == 0 and not Path("killed").exists():
            Path("killed").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return super().forward(values)


def build(passes: int = -1):
    x = torch.arange(60.0).reshape(20, 3).sin()
    return antiphon.Scenario(
        scenario="kept",
        env=antiphon.envs.from_tensors(x=x, label=(x[:, 0] > 0).long()),
        agents={
            "eye": {"observes": ["x"], "network": lambda inputs, outputs: Killing(inputs, outputs, passes)},
            "mind": {"objective": {"kind": "classification", "target": "label"}},
        },
        channels=[{"from": "eye", "to": "mind", "size": 2}],
        training={"batch": 4, "steps": 300},
    )


build.variants = {"killed": {"passes": 250}, "calm": {}}
'''


def antiphon(*words: str, cwd: Path, **settings: Any) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process of its own."""
    command = [sys.executable, "-m", "antiphon", *words]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False, **settings)


def facts(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((path / "run.json").read_text())
    return found


def test_a_killed_worker_of_a_study_loses_its_present_interval_alone(tmp_path: Path) -> None:
    (tmp_path / "own.py").write_text(MODULE)
    words = ("study", "--scenario", "own:build", "--seeds", "1", "--jobs", "2", "--logdir", "study")
    done = antiphon(*words, cwd=tmp_path)
    killed, error = (
        tmp_path / "study/killed-s0",
        "killed by SIGKILL (by hand, or the machine was out of memory)",
    )
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert f"failed: the process that ran it was {error}" in done.stderr
    assert done.stderr.splitlines()[-1].startswith(
        "error: 1 of the runs failed; the same command with --logdir"
    )
    assert f"killed-s0: missing, the process that ran it was {error}." in done.stdout
    assert (facts(killed)["exit"], facts(killed)["error"]) == (
        "failed",
        f"the process that ran it was {error}",
    )
    assert sorted(path.name for path in (killed / "checkpoints").iterdir()) == [
        "step-000000100",
        "step-000000200",
    ]
    assert facts(tmp_path / "study/calm-s0")["exit"] == "done"
    again = antiphon(*words, cwd=tmp_path)
    assert (again.returncode, "missing" in again.stdout) == (0, False), again.stderr
    assert facts(killed)["exit"] == "done"
    digests = {(tmp_path / f"study/{name}-s0/digests.csv").read_bytes() for name in ("calm", "killed")}
    assert len(digests) == 1  # to the bit, as the one that was never killed
