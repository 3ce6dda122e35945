"""What more threads bring: the wall clock of a step of the ring (`ring.py`), with one thread and with several.

Turns of one simulation with different `torch.set_num_threads` alternate. `speedup` is the time with one thread over that
with `--threads`, by turn: median and bootstrap interval. Demanded of two threads on two idle cores is 1.6. The processors must be
idle: what else runs takes them from the threads.

Run: `python benchmarks/threads.py --json`.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import torch

sys.path.insert(0, str(Path(__file__).parent))
from interleaved import Contestant, finish, parsed, ratio, table, timed
from ring import ring, simulate

BACKENDS = ("native", "cohort")


def measured(agents: int, backend: str, threads: int, rounds: int) -> dict[str, Any]:
    """Return milliseconds per step with one thread and with several, and what several bring."""
    with simulate(ring(agents), backend=backend) as simulation:

        def stepping(count: int) -> Contestant:
            def step() -> None:
                torch.set_num_threads(count)
                simulation.step()

            return step

        contestants = {"1": stepping(1), str(threads): stepping(threads)}
        times = timed(contestants, rounds, clock=time.perf_counter)
    median, edges = ratio(times, "1", str(threads))
    row: dict[str, Any] = {"agents": agents, "backend": backend, "threads": threads}
    row |= {f"ms_with_{name}": round(1e3 * float(each.min()), 2) for name, each in times.items()}
    return row | {"speedup": median, "interval_95": edges}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--agents", default="256,1024,4096", help="lengths of the ring")
    parser.add_argument("--threads", type=int, default=2, help="of the turns beside those with one")
    arguments = parsed(parser, rounds=15)
    rows = [
        measured(int(agents), backend, arguments.threads, arguments.rounds)
        for agents in arguments.agents.split(",")
        for backend in BACKENDS
    ]
    finish({"benchmark": "threads", "rows": rows}, arguments, table(rows, list(rows[0])))


if __name__ == "__main__":
    main()
