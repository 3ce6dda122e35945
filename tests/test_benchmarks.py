"""The benchmarks of speed start: competitors compute what the backend does, and each script has its numbers."""

from __future__ import annotations

import json
import sys
from contextlib import ExitStack
from importlib import import_module
from pathlib import Path
from subprocess import PIPE
from typing import Any

import pytest
import torch

import antiphon
from antiphon import Simulation
from benchmarks import agents_scaling, building, slow_line_curves, split


@pytest.mark.long
def test_programs_by_hand_compute_what_the_backend_does() -> None:
    found = agents_scaling.check(5, "cohort", "cpu", [])
    assert found.keys() == {"plain_loop", "plain_loop_fused", "stacked", "stacked_autograd"}
    assert max(found.values()) < 1e-10


@pytest.mark.nightly
def test_many_agents_are_built_saved_and_stepped() -> None:
    found = building.row(16, only_build=16)
    assert {*(f"s_{part}" for part in building.PARTS), "step_ratio", "python_kb"} <= found.keys()


@pytest.mark.nightly
def test_a_split_is_timed_and_keeps_less_for_backward() -> None:
    rows = {row["way"]: row for row in split.measure(4, 2, width=16, length=16, batch=8)}
    assert rows[split.PLAIN]["ratio"] == 1.0
    assert rows["decoupled, sweep"]["kept_mb"] < rows["locked"]["kept_mb"]


@pytest.mark.nightly
def test_the_parts_of_the_slow_line_take_steps_and_note_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = import_module("antiphon_way")
    monkeypatch.setenv(import_module("timed_windows").CLOCK, str(tmp_path / "clock"))
    for way in module.WAYS:
        clock = import_module("clock").Clock(tmp_path / "clock", processes=1, seconds=1e6)
        with Simulation(module.scenario(way, 0, 1e-3), parts=2) as simulation:
            simulation.run(6, progress=False)
        assert clock.steps >= 6


@pytest.mark.nightly
def test_ways_without_a_line_learn_what_they_learn_over_one() -> None:
    """A pipeline what the plain loop learns, and antiphon in one process what its parts do."""

    def after(way: str, link: dict[str, int] | None = None) -> float:
        found = slow_line_curves.trained((way, 2, json.dumps(link), 1e-3, 0), 20)
        assert [step for step, _ in found] == [10, 20]
        return found[-1][1]

    assert after("1f1b") == pytest.approx(after("plain"), abs=1e-3)
    link = {"delay": 2, "bits": 4}
    given = import_module("antiphon_way").scenario("antiphon", 0, 1e-3, link=link)
    with Simulation(given, seed=0, parts=2) as divided:
        divided.run(20, progress=False)
        parameters = dict(antiphon.join(divided).named_parameters())
    assert after("antiphon", link) == round(import_module("task").bits(parameters), 4)


ANSWERS = """
import socket, sys
server = socket.create_server((sys.argv[1], 5000))
print("listens", flush=True)
while True:
    connection, _ = server.accept()
    with connection:
        connection.sendall(sys.argv[1].encode())
"""
ASKS = """
import socket, sys, time
for other in sys.argv[1:]:
    start = time.monotonic()
    with socket.create_connection((other, 5000), 20) as connection:
        print(connection.recv(99).decode(), time.monotonic() - start)
"""


def emulated(count: int) -> Any:
    """Return a network of so many machines, which takes root."""
    module = import_module("network")
    try:
        return module.Network(count)
    except module.NetworkError as error:
        pytest.skip(str(error))


@pytest.mark.long
def test_machines_of_an_emulated_network_reach_one_another_after_the_delay() -> None:
    module = import_module("network")
    with ExitStack() as resources:
        network = resources.enter_context(emulated(3))
        network.lines.set(module.Setting.parsed("10:40"))
        addresses = [end.address for end in network.ends]
        for end in network.ends:
            command = [sys.executable, "-c", ANSWERS, end.address]
            process = resources.enter_context(end.start(command, stdout=PIPE))
            resources.callback(process.kill)
            assert process.stdout.readline() == "listens\n"
        for end in network.ends:
            others = [address for address in addresses if address != end.address]
            asks = end.start([sys.executable, "-c", ASKS, *others], stdout=PIPE)
            rows = [row.split() for row in asks.communicate(timeout=60)[0].splitlines()]
            assert [address for address, _ in rows] == others
            assert all(float(seconds) > 4 * 0.04 for _, seconds in rows)  # there and back, twice
        assert len(network.lines.bytes) == 3
        assert min(network.lines.bytes) > 0


@pytest.mark.parametrize("count", [2, 4])
def test_the_stages_of_a_pipeline_are_the_model(count: int) -> None:
    model = import_module("task").new_model(0)
    tokens = torch.arange(32).reshape(2, 16)
    x = tokens
    for index in range(count):
        x = import_module("torch_way").Stage(model, index, count)(x)
    torch.testing.assert_close(x, model(tokens), rtol=0, atol=0)
