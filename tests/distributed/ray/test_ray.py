"""Runs in parts of a Ray cluster: the bits of one process, deaths, stops, refusals; where the cluster listens (Linux)."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from antiphon import RunError, Scenario, Simulation
from antiphon.distributed.coordinator import Coordinator
from antiphon.distributed.ray.ray_parts import RayParts
from antiphon.distributed.ray.worker import MeasuredLine
from antiphon.envs import TorchVectorEnv
from antiphon.envs.base import StepResult
from tests.contracts.builders import Play
from tests.contracts.builders import ring as noise_ring
from tests.contracts.twins import differences, facts
from tests.distributed.parts.rings import ring
from tests.distributed.ray.conftest import PATIENCE
from tests.kit.parts_table import read_parts
from tests.kit.recorded import metrics

LOOPBACK = {"0100007F", "0000000000000000FFFF00000100007F", "00000000000000000000000001000000"}
"""127.0.0.1 as /proc/net/tcp has it, the same within IPv6, and ::1."""


def needs_ray(test: Any) -> Any:
    """Mark a test that starts processes of Ray."""
    absent = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
    return pytest.mark.long(absent(test))


# --- what cannot be opened ---------------------------------------------------------------------------------


def on(address: str) -> Simulation:
    return Simulation(ring(), parts={"count": 2, "ray": address})


@pytest.mark.nightly
def test_antiphon_does_not_import_ray() -> None:
    program = (
        "import sys, antiphon, antiphon.cli, antiphon.running.simulation; sys.exit('ray' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_without_ray_the_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RunError, match=r"^ray: is not installed; pip install 'antiphon\[ray\]'$"):
        on("local")


# --- processes of this machine -----------------------------------------------------------------------------


def children_of(process: int) -> set[int]:
    """Return the processes that descend from one."""
    found = set[int]()
    for folder in Path("/proc").glob(f"{process}/task/*"):
        with suppress(OSError):
            for child in map(int, (folder / "children").read_text().split()):
                found |= {child, *children_of(child)}
    return found


def named(process: int) -> str:
    """Return the command line of a process; empty: it is gone."""
    try:
        return Path(f"/proc/{process}/cmdline").read_bytes().decode(errors="replace")
    except OSError:
        return ""


def parts_of(process: int) -> list[int]:
    """Return the processes of parts that descend from one."""
    return sorted(child for child in children_of(process) if named(child).startswith("ray::PartWorker"))


def listening(processes: set[int]) -> dict[str, int]:
    """Return the addresses at which processes listen, as hexadecimal digits, and how many ports at each."""
    sockets = set()
    for process in processes:
        with suppress(OSError):
            links = (os.readlink(entry.path) for entry in os.scandir(f"/proc/{process}/fd"))
            sockets |= {link[8:-1] for link in links if link.startswith("socket:[")}
    found: dict[str, int] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in sockets:
                address = fields[1].rpartition(":")[0]
                found[address] = found.get(address, 0) + 1
    return found


# --- a cluster of this process -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Slow(Play):
    """Environments whose steps take 20 ms."""

    def make(self, *, batch: int, **where: Any) -> TorchVectorEnv:
        env = super().make(batch=batch, **where)
        inner = env.step

        def step(actions: Any = None) -> StepResult:
            time.sleep(0.02)
            return inner(actions)

        env.step = step  # type: ignore[method-assign]
        return env


def kill() -> None:
    """Kill a part of this process, once there is one."""
    end = time.monotonic() + PATIENCE
    while not (parts := parts_of(os.getpid())):
        assert time.monotonic() < end
        time.sleep(0.05)
    os.kill(parts[0], signal.SIGKILL)


def parts_on(simulation: Simulation) -> RayParts:
    """The parts of a simulation on Ray."""
    executor = simulation.running.executor
    assert isinstance(executor, Coordinator)
    parts = executor.parts
    assert isinstance(parts, RayParts)
    return parts


def assert_measured(lines: list[MeasuredLine]) -> None:
    """Both directions between two parts have been measured."""
    assert [(line.sender, line.receiver) for line in lines] == [(0, 1), (1, 0)]
    for line in lines:
        assert 0 < line.latency < PATIENCE
        assert 0 < line.seconds < PATIENCE
        assert line.nbytes > 0


@needs_ray
def test_parts_have_the_bits_of_one_process_and_a_run_whose_part_dies_resumes_with_them(
    tmp_path: Path,
) -> None:
    document = noise_ring(channel={"link": {"delay": 4}}, env=Slow()) | {"telemetry": {"period": 30}}
    scenario = Scenario.model_validate(document)
    cut = {"count": 2, "ray": "local"}
    with Simulation(scenario, logdir=tmp_path / "whole", checkpoint_every=1000) as whole:
        for steps in (11, 79):
            whole.run(steps)
        expected = facts(whole)
    with Simulation(scenario, parts=cut, logdir=tmp_path / "run", checkpoint_every=40) as divided:
        divided.run(11)
        kill()
        with pytest.raises(RunError, match=r"^ray: part \d died after step 1\d "):
            divided.run(79)
    with Simulation(scenario, logdir=tmp_path / "run", exist="resume") as resumed:
        assert resumed.now == 11
        resumed.run(79)
        assert not list(differences(expected, facts(resumed), tolerance=0.0))
        assert_measured(parts_on(resumed).lines())
    assert metrics(tmp_path / "whole") == metrics(tmp_path / "run")
    rows = read_parts(tmp_path / "run" / "parts.csv")
    for row in rows[max(rows)]:
        assert row.steps_taken >= 89
        assert min(row.calls, row.bytes_sent, row.bytes_received) > 0
        assert row.computing > 50 * 0.02


@needs_ray
@pytest.mark.nightly
def test_it_listens_on_this_machine_alone_and_a_process_that_does_not_come_is_one_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with on("local") as simulation:
        parts = parts_on(simulation)
        parts.advance(9)
        assert_measured(parts.lines())
        found = listening({os.getpid(), *children_of(os.getpid())})
        assert sum(found.values()) >= 6
        assert set(found) <= LOOPBACK
    monkeypatch.setattr("antiphon.distributed.ray.ray_parts._STARTED_WITHIN", 0.0)
    with pytest.raises(
        RunError, match=r"^ray: part 0 has not started within 0 s; \d+ CPUs and 0 GPUs .* free$"
    ):
        on("local")
