"""A run directory in a process that was forked from the one that writes it: nothing is written, and the fix is named."""

from __future__ import annotations

import copy
import os
import pickle
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from antiphon import RunError, Scenario, Simulation

AGENT = {"observes": ["image"], "objective": {"kind": "classification", "target": "label"}}
SCENARIO = Scenario(
    scenario="forked",
    env={"id": "antiphon/Digits-v0"},
    agents={"a": AGENT},
    training={"batch": 4, "steps": 6},
    telemetry={"period": 1},
)


def _in_a_fork(call: Callable[[], object]) -> str:
    """Return the line by which a call is refused in a forked process; empty if it is not."""
    read, write = os.pipe()
    if (child := os.fork()) == 0:
        try:
            call()
        except RunError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with os.fdopen(read) as file:
        return file.read()


def _files(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.mark.parametrize("call", ["run", "step"])
def test_a_forked_process_does_not_write_its_parents_run(tmp_path: Path, call: str) -> None:
    run = Simulation(SCENARIO, logdir=tmp_path / "run")
    run.step()

    def child() -> None:
        try:
            getattr(run, call)()
        finally:
            run.close()

    before = _files(tmp_path)
    assert "was forked; step a copy without a logdir here (simulation.fork())" in _in_a_fork(child)
    assert _files(tmp_path) == before, "the child has written, or given up the lock of its parent"
    with pytest.raises(RunError, match="is being written"):
        Simulation.resume(tmp_path / "run")
    run.run(progress=False)
    run.close()


def test_a_copy_steps_in_a_forked_process(tmp_path: Path) -> None:
    with Simulation(SCENARIO, logdir=tmp_path / "run") as run:
        run.step()
        assert _in_a_fork(lambda: run.fork().run(steps=2, progress=False)) == ""


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_simulation_is_copied_by_fork_alone(tmp_path: Path, copied: Callable[[object], object]) -> None:
    for logdir in (None, tmp_path / "run"):
        line = r"^simulation: cannot be copied or pickled; use fork\(\), or save\(\)[^\n]*$"
        with Simulation(SCENARIO, logdir=logdir) as simulation, pytest.raises(RunError, match=line):
            copied(simulation)


HANDLES: dict[str, Callable[[Simulation], object]] = {
    "agents['eye']": lambda run: run.agents["eye"],
    "agents": lambda run: run.agents,
    "channels['eye->mind']": lambda run: run.channels["eye->mind"],
    "channels": lambda run: run.channels,
}


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, pickle.dumps])
@pytest.mark.parametrize("name", HANDLES)
def test_handles_are_not_copied(name: str, copied: Callable[[object], object]) -> None:
    scenario = Scenario(
        scenario="handles",
        env={"id": "antiphon/Digits-v0"},
        agents={"eye": AGENT, "mind": AGENT},
        channels=[{"from": "eye", "to": "mind", "size": 3}],
        training={"batch": 2},
    )
    line = rf"^{re.escape(name)}: reads a running simulation, and cannot be copied or pickled; keep its tensors[^\n]*$"
    with Simulation(scenario) as simulation, pytest.raises(RunError, match=line):
        copied(HANDLES[name](simulation))
