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
from torch.nn.functional import cross_entropy

import antiphon
from antiphon import Simulation
from antiphon.agents.models import GPT
from benchmarks import agents_scaling, building, slow_line, slow_line_curves, split


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


def test_the_processes_of_a_way_end_at_the_newest_step_that_one_has_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    module, time = import_module("clock"), 0.0  # of benchmarks/slow_line, which the script makes importable
    clock, warm = module.Clock(tmp_path / "clock", processes=2, seconds=10.0), module.WARM
    monkeypatch.setattr("time.monotonic", lambda: time)

    def goes_on(process: int, taken: int) -> bool:
        monkeypatch.setattr("os.getpid", lambda: process)
        return clock.step(taken)

    assert all(goes_on(process, taken) for taken in range(warm) for process in (7, 8))
    time = 50.0
    assert goes_on(7, warm)
    assert clock.began is None
    time = 60.0
    assert goes_on(8, warm)
    assert clock.began == 60.0
    assert goes_on(7, warm + 1)
    time = 71.0
    assert goes_on(8, warm + 1)  # the other one is in its next step
    assert not goes_on(7, warm + 2)
    assert not goes_on(8, warm + 2)
    assert (clock.steps, clock.seconds, clock.processes) == (warm + 2, 11.0, [7, 8])


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


def test_what_is_learned_by_step_and_the_time_of_a_step_are_joined(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """At step 48, 8 and 20 s of 500 ms: between two steps that are evaluated, and with the rate that is best there, not later."""
    link, steps = {"delay": 3, "bits": 4}, tmp_path / "steps"
    curves = slow_line_curves.Curves(tmp_path / "curves")
    timed = {"line": "10:25", "way": "antiphon", "parts": 2, "ms": 500.0, "link": link}
    steps.write_text(json.dumps(timed))
    learned = {
        (1e-3, slow_line_curves.TUNED): (4.1, 4.1, 4.1),
        (5e-4, slow_line_curves.TUNED): (4.0, 4.0, 3.9),
        (2e-3, slow_line_curves.TUNED): (5.0, 4.5, 3.0),
        (2.5e-4, slow_line_curves.TUNED): (4.2, 4.2, 3.9),
        (5e-4, 0): (5.0, 4.0, 4.0),
        (5e-4, 1): (5.2, 4.2, 4.2),
    }
    for (rate, seed), bits in learned.items():
        run = "antiphon", 2, json.dumps(link), rate, seed
        curves.add(run, [*zip((40, 50, 100), bits, strict=True)], {})
    words = f"slow_line_curves --steps {steps} --curves {tmp_path}/curves --seconds 20 --table --seeds 2"
    monkeypatch.setattr("sys.argv", words.split())
    slow_line_curves.main()
    row = capsys.readouterr().out.splitlines()[1].split("  ")
    assert [cell.strip() for cell in row if cell] == [
        *("10:25", "antiphon", "2", json.dumps(link), "0.0005", "500.0", "2", "4.300 ± 1.271"),
    ]


def test_rates_beyond_the_grid_are_compared_while_the_best_is_at_its_end() -> None:
    known = {5e-4: 3.0, 1e-3: 4.0, 2e-3: 5.0}
    beyond = [2.5e-4, *known]
    assert slow_line_curves.compared(known.get) == (beyond, None)
    known[2.5e-4] = 3.5
    assert slow_line_curves.compared(known.get) == (beyond, 5e-4)


def test_a_head_before_the_last_block_has_the_loss_of_the_model() -> None:
    model, (tokens, following) = GPT(7, 5, blocks=3, width=8), torch.randint(7, (2, 4, 5))
    headed = import_module("torch_way").WithHeads(model, [1, 2])  # of benchmarks/slow_line
    early, last, whole = headed.losses(tokens, following)
    assert last == whole == cross_entropy(model(tokens).flatten(0, 1), following.flatten())
    assert early != whole


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


@pytest.mark.long
def test_parts_know_whether_their_line_loses_packets() -> None:
    module = import_module("network")
    with ExitStack() as resources:
        network = resources.enter_context(emulated(2))
        ends, hosts = [], [end.address for end in network.ends]
        for index, end in enumerate(network.ends):
            command = [sys.executable, "-m", "tests.kit.echoes", str(index), *hosts]
            ends.append(resources.enter_context(end.start(command, stdin=PIPE, stdout=PIPE, bufsize=1)))
            resources.callback(ends[-1].kill)
        ports = [end.stdout.readline() for end in ends]
        for end, port in zip(ends, reversed(ports), strict=True):
            end.stdin.write(port)
        for line in ("100:5", "100:5:0.02"):
            network.lines.set(module.Setting.parsed(line))
            ends[0].stdin.write("send\n")
            count, resent = map(int, ends[0].stdout.readline().split())
            assert count == 3
            assert bool(resent) == line.endswith("0.02")


@pytest.mark.parametrize("count", [2, 4])
def test_the_stages_of_a_pipeline_are_the_model(count: int) -> None:
    model = import_module("task").new_model(0)
    tokens = torch.arange(32).reshape(2, 16)
    x = tokens
    for index in range(count):
        x = import_module("torch_way").Stage(model, index, count)(x)
    torch.testing.assert_close(x, model(tokens), rtol=0, atol=0)


def test_ways_that_meet_name_the_steps_between_two_meetings() -> None:
    assert slow_line.known_way("streaming:6") == "streaming:6"
    for way, least in {"streaming:5": 6, "averaging:0": 1}.items():
        with pytest.raises(ValueError, match=f"{way}: H must be at least {least}"):
            slow_line.known_way(way)
