"""What it saves a process to compute half of the agents: the ring of `ring.py` as one part, and cut in two.

The two parts exchange after each step, and messages take `--delay` steps (8). Turns of the one part and of the two are interleaved (`interleaved.py`); `cpu_ratio` is the CPU time of the one part over that of the busier of the two, by turn,
and `wall_ratio` the same of wall-clock time. Exchanges are in the CPU time.

- `--transport local`: all parts in this process, one after the other, exchanges to bytes and back as between processes.
  There is no wall-clock time to compare.
- `--transport ray`: each part a process (`antiphon.distributed.ray`), whose CPU time is what the operating system says of it, with
  all threads of Ray in it. `load` is the machine's while the turns ran: with others at work, or less than two free
  processors, wall-clock time says nothing.

Demanded is a `cpu_ratio` of 1.7, and a `wall_ratio` of 1.7 on an idle machine.
Run: `python benchmarks/parts.py --agents 1024 --json`.
"""

from __future__ import annotations

import argparse
import math
import os
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from antiphon.base.memory import keep_memory
from antiphon.distributed.parts.exchange import Exchange
from antiphon.distributed.parts.part import Part
from antiphon.engine.state.wire import encode
from antiphon.scenarios import Scenario

sys.path.insert(0, str(Path(__file__).parent))
from interleaved import finish, interval, parsed, table
from ring import ring

DEMAND = 1.7
LOAD = 0.5
"""Processes at work besides the two parts, at most, for a machine to count as idle."""
TICK = 1 / os.sysconf("SC_CLK_TCK")


def made(scenario: Scenario, placement: Mapping[str, int], folder: str, index: int) -> Part:
    """Return a part, built in its own process, whose number it leaves in a folder."""
    torch.set_num_threads(1)
    keep_memory()
    Path(folder, f"{index}.pid").write_text(str(os.getpid()), encoding="utf-8")
    return Part(scenario, placement, index)


class Local:
    """Parts in this process, in turn.

    Args:
        make: Builds part `index`.
        count: Of parts.
    """

    def __init__(self, make: Callable[[int], Part], count: int) -> None:
        self.parts = [make(index) for index in range(count)]

    def turn(self, steps: int) -> tuple[list[float], None]:
        """Take steps; return the CPU seconds of each part, and nothing of wall-clock time."""
        seconds = [0.0 for _ in self.parts]
        for _ in range(steps):
            carried: list[tuple[int, tuple[bytes, bytearray]]] = []
            for index, part in enumerate(self.parts):
                start = time.process_time()
                part.step()
                for other in part.neighbours:
                    facts, contents = encode(part.collect(other).tree)
                    carried.append((other, (facts, bytearray().join(contents))))
                seconds[index] += time.process_time() - start
            for index, exchange in carried:
                start = time.process_time()
                self.parts[index].deliver(Exchange.decoded(exchange[0], memoryview(exchange[1])))
                seconds[index] += time.process_time() - start
        return seconds, None

    def close(self) -> None:
        """Close all parts."""
        for part in self.parts:
            part.close()


class OnRay:
    """Parts as processes of a Ray cluster of this machine; arguments as of `Local`, and the folder of their numbers."""

    def __init__(self, make: Callable[[int], Part], placement: Mapping[str, int], folder: str) -> None:
        from antiphon.distributed.ray.ray_parts import RayParts

        self.parts = RayParts(make, [], placement, keep_every=math.inf)  # no state is handed over
        self._at = 0
        names = sorted(Path(folder).glob("*.pid"), key=lambda path: int(path.stem))
        self._processes = [int(path.read_text(encoding="utf-8")) for path in names]

    def turn(self, steps: int) -> tuple[list[float], float]:
        """Take steps; return the CPU seconds of each part's process, and wall-clock seconds of all."""
        before, start = self._seconds(), time.perf_counter()
        self._at += steps
        self.parts.advance(self._at)
        wall = time.perf_counter() - start
        return [after - other for after, other in zip(self._seconds(), before, strict=True)], wall

    def close(self) -> None:
        """End the processes, and their cluster."""
        self.parts.close()

    def _seconds(self) -> list[float]:
        """CPU seconds of each process so far, of all its threads."""
        found = []
        for process in self._processes:
            text = Path(f"/proc/{process}/stat").read_text(encoding="utf-8")
            fields = text.rsplit(")", 1)[1].split()
            found.append((int(fields[11]) + int(fields[12])) * TICK)
        return found


def contestants(transport: str, agents: int, delay: int, folder: str) -> dict[str, Local | OnRay]:
    """Return the ring as one part, and cut in two."""
    scenario = ring(agents, delay=delay)
    found: dict[str, Local | OnRay] = {}
    for name, count in (("one", 1), ("two", 2)):
        placement = {agent: index * count // agents for index, agent in enumerate(scenario.agents)}
        own = Path(folder, name)
        own.mkdir()
        make = partial(made, scenario, placement, str(own))
        if transport == "local":
            found[name] = Local(make, count)
        else:
            found[name] = OnRay(make, placement, str(own))
    return found


def measure(transport: str, agents: int, delay: int, steps: int, rounds: int) -> dict[str, Any]:
    """Return CPU and wall-clock times of the ring as one part and cut in two, and their ratios."""
    torch.set_num_threads(1)
    keep_memory()
    cpu: dict[str, list[float]] = {"one": [], "two": []}
    wall: dict[str, list[float]] = {"one": [], "two": []}
    loads = []
    with tempfile.TemporaryDirectory() as folder:
        found = contestants(transport, agents, delay, folder)
        try:
            for each in found.values():
                each.turn(2 * delay)
            for _ in range(rounds):
                for name, each in found.items():
                    seconds, taken = each.turn(steps)
                    cpu[name].append(max(seconds) / steps)
                    wall[name] += [] if taken is None else [taken / steps]
                loads.append(os.getloadavg()[0])
        finally:
            for each in found.values():
                each.close()
    row: dict[str, Any] = {"agents": agents, "delay": delay, "transport": transport}
    for what, times in (("cpu", cpu), ("wall", wall)):
        if times["one"]:
            one, two = np.array(times["one"]), np.array(times["two"])
            row[f"{what}_ms_one"] = round(1e3 * float(np.median(one)), 2)
            row[f"{what}_ms_two"] = round(1e3 * float(np.median(two)), 2)
            row[f"{what}_ratio"] = round(float(np.median(one / two)), 3)
            row[f"{what}_interval_95"] = interval(one / two)
    row["load"] = round(float(np.median(loads)), 1)
    row["idle"] = (
        row["load"] <= LOAD + 1.5 and (os.cpu_count() or 1) >= 2
    )  # turns of one and of two alternate
    row["met"] = row["cpu_ratio"] >= DEMAND and (not row["idle"] or row.get("wall_ratio", DEMAND) >= DEMAND)
    return row


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agents", type=int, default=1024)
    parser.add_argument("--delay", type=int, default=8, help="of every message, in steps")
    parser.add_argument("--steps", type=int, default=40, help="of a turn")
    parser.add_argument("--transport", choices=("local", "ray"), default="ray")
    arguments = parsed(parser, rounds=12)
    settings = {
        name: getattr(arguments, name) for name in ("transport", "agents", "delay", "steps", "rounds")
    }
    row = measure(**settings)
    columns = [
        "cpu_ms_one",
        "cpu_ms_two",
        "cpu_ratio",
        "wall_ms_one",
        "wall_ms_two",
        "wall_ratio",
        "load",
        "met",
    ]
    result = {
        "benchmark": f"parts-{arguments.transport}",
        "steps": arguments.steps,
        "rounds": arguments.rounds,
    }
    lines = table([row], [name for name in columns if name in row])
    finish({**result, **row, "demand": DEMAND}, arguments, lines)


if __name__ == "__main__":
    main()
