"""The benchmark over a real link: what the link does with packets, how long a step takes, and what is made of the rates."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import pytest

from antiphon.engine.parts.placement import check_placement
from antiphon.engine.simulation import Simulation
from benchmarks import latency, two_nodes


def test_packets_are_late_and_in_order() -> None:
    queue = two_nodes.DelayQueue()
    queue.delay = 0.025
    assert queue.wait(1.0) is None
    for index, now in enumerate((1.0, 1.01, 1.01)):
        queue.put(bytes([index]), index % 2, now)
    assert queue.wait(1.01) == pytest.approx(0.015)
    assert queue.due(1.02) == []
    assert queue.due(1.03) == [(0, b"\0")]
    assert queue.due(2.0) == [(1, b"\1"), (0, b"\2")]
    assert queue.wait(2.0) is None


def test_a_packet_keeps_the_delay_it_began_with() -> None:
    queue = two_nodes.DelayQueue()
    queue.delay = 0.5
    queue.put(b"slow", 0, 1.0)
    queue.delay = 0.0
    queue.put(b"fast", 0, 1.1)
    assert queue.due(1.1) == [(0, b"fast")]
    assert queue.wait(2.0) == 0
    assert queue.due(2.0) == [(0, b"slow")]


@pytest.mark.parametrize("loss", [0.0, 0.05, 0.5])
def test_packets_are_lost_at_the_given_rate(loss: float) -> None:
    queue = two_nodes.DelayQueue(seed=1)
    queue.loss = loss
    for _ in range(4000):
        queue.put(b"", 0, 0.0)
    assert queue.lost == pytest.approx(4000 * loss, abs=100)
    assert len(queue.due(0.0)) == 4000 - queue.lost


def test_steps_take_the_given_time(tmp_path: Path) -> None:
    parts = [latency.made(4, 4, 8, work, str(tmp_path), 0) for work in (0.0, 0.05)]
    taken = []
    for part in parts:
        part.step()
        start = time.perf_counter()
        part.step()
        taken.append(time.perf_counter() - start)
        part.close()
    assert taken[1] >= 0.05
    assert parts[0].now == parts[1].now == 2


@pytest.mark.parametrize("delay", latency.DELAYS)
def test_the_ring_is_cut_in_two(delay: int, tmp_path: Path) -> None:
    scenario = latency.ring(8, 4, delay)
    placement = latency.halves(scenario)
    assert sorted(placement.values()) == [0] * 4 + [1] * 4
    with Simulation(scenario) as simulation:
        check_placement(simulation.system, placement)
    part = latency.made(8, 4, delay, 0.0, str(tmp_path), 1)
    assert (tmp_path / "1.pid").read_text() == str(os.getpid())
    assert (part.lookahead, part.neighbours) == (delay, (0,))
    part.close()


def test_the_share_of_the_rate_that_is_kept() -> None:
    row = latency.summary([(40.0, 38.0), (20.0, 18.0)], delay=8)
    assert row["kept"] == pytest.approx(0.925)
    assert row["kept_std"] == pytest.approx(0.035, abs=1e-3)
    assert (row["rate_without"], row["rate"], row["met"]) == (30.0, 28.0, True)
    assert not latency.summary([(40.0, 32.0), (20.0, 18.0)], delay=8)["met"]
    assert not latency.summary([(40.0, 38.0), (20.0, 18.0)], delay=1)["met"]
    assert latency.summary([(40.0, 9.0), (20.0, 5.0)], delay=1)["met"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--loss", "1"], "--loss: must be from 0 up to 1"),
        (["--latency", "-1"], "--loss: must be from 0 up to 1, --latency 0 or more"),
        (["--rounds", "1"], "--rounds: must be 2 or more"),
        (["--work", "25,x"], "argument --work: invalid"),
        (["--work", "-5"], "argument --work"),
    ],
)
def test_arguments_that_are_refused(
    words: list[str], line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["latency.py", *words])
    with pytest.raises(SystemExit) as caught:
        latency.main()
    assert caught.value.code == 2
    assert line in capsys.readouterr().err


@pytest.mark.skipif(not Path("/proc/thread-self/ns/net").exists(), reason="Linux alone has namespaces")
def test_without_the_right_to_namespaces_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(name: str, *_: int) -> None:
        if name == "unshare":
            raise PermissionError(1, "unshare: Operation not permitted")

    monkeypatch.setattr(two_nodes, "_system_call", refused)
    before = os.listdir("/proc/self/fd")
    with pytest.raises(two_nodes.NetworkError, match=r"unshare: Operation not permitted\); it takes root"):
        two_nodes.Namespace("10.99.0.1")
    assert len(os.listdir("/proc/self/fd")) == len(before)
