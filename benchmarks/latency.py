"""What latency costs a run in two parts: two Ray nodes in two network namespaces of this machine (`two_nodes.py`).

A ring (`ring-of-many`) is cut in two, each part on its own node, in lockstep, with token authentication. Turns without latency
and turns with `--latency` milliseconds each way and `--loss` of all packets alternate; `kept` is the rate with them over the
rate without, by turn: mean, standard deviation, and bootstrap interval of the median.

- `delay 8`: messages take eight steps, and so parts may be eight steps apart. Demanded is a `kept` of at least 0.9.
- `delay 1`: a part needs at every step what the other has sent at the step before. Demanded is that the rate falls to a quarter.

A step takes `--work` milliseconds: what is left of them after it is computed, the part sleeps, so that the load of this machine
does not count as work. `work_ms` is what steps took. At 25 ms each way and 25 ms of work, a part that waits for every message
takes at least 50 ms for a step, so that the rate cannot fall to a quarter by latency alone; with less work it can, and both are
measured. An exchange that is lost takes TCP some two round trips more; `delay 8` hides those as long as eight steps last
longer.

Run as root: `python benchmarks/latency.py --json`.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import antiphon
from antiphon.engine.parts.part import Part, merge_states
from antiphon.errors import RunError
from antiphon.scenarios import Scenario

sys.path.insert(0, str(Path(__file__).parent))
from interleaved import finish, interval, parsed, table
from two_nodes import NetworkError, TwoNodes

KEPT = 0.9
FALL = 4.0
DELAYS = (8, 1)
WORK = 25.0
"""Milliseconds of a step, at most, for the demands."""


class TimedPart(Part):
    """A part whose steps take a given time: what is left of it after computing is slept.

    Attributes:
        work: Seconds of a step.
    """

    work = 0.0

    def step(self) -> None:
        end = time.perf_counter() + self.work
        super().step()
        time.sleep(max(0.0, end - time.perf_counter()))


def ring(agents: int, batch: int, delay: int) -> Scenario:
    """Return the scenario of a ring, whose messages take `delay` steps."""
    values = {"agents": agents, "readouts": agents, "batch": batch, "delay": delay}
    return antiphon.load("ring-of-many").resolve(values=values)


def halves(scenario: Scenario) -> dict[str, int]:
    """Return the placement of the agents of a ring in two parts of neighbours."""
    names = sorted(scenario.agents)
    return {name: index * 2 // len(names) for index, name in enumerate(names)}


def made(agents: int, batch: int, delay: int, work: float, folder: str, index: int) -> TimedPart:
    """Return a part of the ring, built in its own process, whose number it leaves in a folder."""
    Path(folder, f"{index}.pid").write_text(str(os.getpid()), encoding="utf-8")
    scenario = ring(agents, batch, delay)
    part = TimedPart(scenario, halves(scenario), index)
    part.work = work
    return part


def summary(rates: Sequence[Sequence[float]], delay: int) -> dict[str, Any]:
    """Return the figures of turns, [without, with latency] steps per second each."""
    without, under = np.array(rates).T
    kept = under / without
    mean = float(np.mean(kept))
    return {
        "rate_without": round(float(np.mean(without)), 2),
        "rate_without_std": round(float(np.std(without, ddof=1)), 2),
        "rate": round(float(np.mean(under)), 2),
        "rate_std": round(float(np.std(under, ddof=1)), 2),
        "kept": round(mean, 3),
        "kept_std": round(float(np.std(kept, ddof=1)), 3),
        "kept_interval_95": interval(kept),
        "met": mean <= 1 / FALL if delay == 1 else mean >= KEPT,
    }


def measure(nodes: TwoNodes, delay: int, work: float, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one delay, and one time of a step in milliseconds."""
    from antiphon.engine.ray.ray_parts import RayParts

    size = arguments.agents, arguments.batch, delay
    every = max(1, delay // 2)  # as `run` has it
    steps = 8 * max(1, round(arguments.seconds * 1e3 / max(work, 5.0) / 8))
    with tempfile.TemporaryDirectory() as folder, ExitStack() as resources:
        make, placement = partial(made, *size, work / 1e3, folder), halves(ring(*size))
        parts = RayParts(
            make, merge_states, placement, every=every, address=nodes.address, checkpoint_every=10**9
        )
        resources.callback(parts.close)
        resources.callback(nodes.link.set, 0.0, 0.0)
        if {nodes.node_of(int(file.read_text())) for file in Path(folder).glob("*.pid")} != {0, 1}:
            raise NetworkError("the two parts are not on two nodes")
        at, rates, loads = parts.advance(2 * max(DELAYS)), [], []
        for _ in range(arguments.rounds):
            pair = []
            for link in ((0.0, 0.0), (arguments.latency / 1e3, arguments.loss)):
                nodes.link.set(*link)
                start = time.perf_counter()
                at = parts.advance(at + steps)
                pair.append(steps / (time.perf_counter() - start))
            rates.append(pair)
            loads.append(os.getloadavg()[0])
            print(
                f"delay {delay}, work {work:g} ms: {pair[0]:.1f} steps/s, {pair[1]:.1f} with latency",
                file=sys.stderr,
            )
        figures = parts.statistics()
    row: dict[str, Any] = {"delay": delay, "work": work, "every": every, "steps": steps}
    row["work_ms"] = round(float(np.mean([1e3 * one.computing / one.steps_taken for one in figures])), 1)
    row["bytes_of_exchange"] = round(
        sum(one.bytes_sent for one in figures) / sum(one.calls for one in figures)
    )
    return {**row, **summary(rates, delay), "load": round(float(np.median(loads)), 1)}


def measure_all(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of all delays and times of a step.

    Raises:
        NetworkError: There are no namespaces or nodes.
        RunError: Ray's parts fail.
    """
    from antiphon.engine.ray.ray_cluster import open_cluster

    rows = []
    with TwoNodes() as nodes:
        congestion = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text(encoding="utf-8").strip()
        nodes.link.set(arguments.latency / 1e3, 0.0)
        trip = nodes.round_trip()
        nodes.link.set(0.0, 0.0)
        bare = nodes.round_trip()
        with open_cluster(nodes.address):
            nodes.wait_for_nodes()
            for work in arguments.work:
                rows += [measure(nodes, delay, work, arguments) for delay in DELAYS]
        passed, lost = nodes.link.counts
    return {
        "latency_ms": arguments.latency,
        "loss": arguments.loss,
        "round_trip_ms": round(1e3 * trip, 2),
        "round_trip_ms_without": round(1e3 * bare, 2),
        "packets": passed + lost,
        "packets_lost": lost,
        "congestion_control": congestion,
        "rows": rows,
    }


def _numbers(text: str) -> list[float]:
    found = [float(part) for part in text.split(",")]
    if not all(0 <= each <= 1000 for each in found):
        raise ValueError(text)
    return found


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--latency", type=float, default=25.0, help="each way, in milliseconds")
    parser.add_argument("--loss", type=float, default=0.05, help="share of packets")
    parser.add_argument(
        "--work", type=_numbers, default=[WORK, 10.0, 2.0], help="milliseconds of a step, with commas"
    )
    parser.add_argument("--agents", type=int, default=8)
    parser.add_argument("--batch", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=4.0, help="of work in a turn")
    arguments = parsed(parser, rounds=10)
    if arguments.rounds < 2:
        parser.error("--rounds: must be 2 or more, for a spread")
    if not 0 <= arguments.loss < 1 or arguments.latency < 0:
        parser.error("--loss: must be from 0 up to 1, --latency 0 or more")
    if importlib.util.find_spec("ray") is None:
        parser.error("Ray is not installed; pip install 'antiphon[ray]'")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all is removed again
    try:
        result = measure_all(arguments)
    except (NetworkError, RunError) as error:
        sys.exit(f"latency.py: {error}")
    columns = ["delay", "work", "work_ms", "rate_without", "rate", "kept", "kept_std", "load", "met"]
    lines = table(result["rows"], columns)
    finish({"benchmark": "latency", "rounds": arguments.rounds, **result}, arguments, lines)


if __name__ == "__main__":
    main()
