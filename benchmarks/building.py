"""CPU time and memory to make N agents, to save, load and evaluate them, and the peak memory of a step.

The agents are those of the ring (`ring.py`) in rings of eight, so that in an evaluation every path has filled after eight
steps, whatever N is. Each N has a fresh process, which first makes, steps and evaluates two rings: imports and caches are
neither in the seconds nor in the bytes. `python_kb` is what the process has grown by per agent, parameters left out, until
the first step; the moments of optimisers of many agents take no memory before that. `step_ratio` is the peak of the process
while it steps over what must be held: parameters, optimiser state and one window's activations, each once. The rest is
gradients, messages in flight, objects of Python, and freed memory that malloc keeps. `peak_gb` is the most memory that the
process had, all included. With more than `--only-build` agents nothing but the scenario and the simulation is made.

Run: `python benchmarks/building.py --agents 1000,10000 --json` (Linux).
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch

from antiphon.base.memory import keep_memory
from antiphon.running.simulation import Simulation

sys.path.insert(0, str(Path(__file__).parent))
from interleaved import described, finish, parsed, table
from ring import BATCH, HIDDEN, SIZE, ring

LENGTH = 8
PARTS = ("scenario", "build", "save", "load", "evaluate")
PARAMETERS = 4 * (2 * SIZE * HIDDEN + HIDDEN + HIDDEN * 2 * SIZE + 2 * SIZE + SIZE * SIZE + SIZE)
"""Bytes of an agent's parameters and those of its synthetic gradient."""
ACTIVATIONS = 4 * BATCH * (2 * SIZE + HIDDEN + 2 * SIZE)
STEPS = 5


def resident(key: str) -> int:
    """Return bytes of this process that the kernel calls VmRSS (now) or VmHWM (at its peak)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"/proc/self/status has no {key}")


def watched(agents: int, only_build: int) -> dict[str, Any]:
    """Return the seconds of each part and the memory; this process must be fresh."""
    torch.set_num_threads(1)
    keep_memory()
    seconds: dict[str, float] = {}

    def timed(part: str, work: Callable[[], Any]) -> Any:
        before = time.process_time()
        result = work()
        seconds[part] = time.process_time() - before
        return result

    def worked_through(agents: int, folder: str) -> dict[str, float]:
        before = resident("VmRSS")
        scenario = timed("scenario", lambda: ring(agents, length=LENGTH))
        described = resident("VmRSS")
        simulation = timed("build", lambda: Simulation(scenario, seed=0))
        gc.collect()
        found = {"python_kb": round(((resident("VmRSS") - described) / agents - PARAMETERS) / 1e3, 1)}
        if agents <= only_build:
            with suppress(OSError):  # where the kernel does not let us, the peak is that of all before
                Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
            simulation.run(steps=STEPS)
            held = agents * (3 * PARAMETERS + ACTIVATIONS)
            found["step_ratio"] = round((resident("VmHWM") - before) / held, 2)
            saved = timed("save", lambda: simulation.save(Path(folder) / str(agents)))
            timed("evaluate", lambda: simulation.evaluate("train"))
            simulation.close()
            del simulation
            timed("load", lambda: Simulation.load(saved, scenario=scenario))
        return found

    with tempfile.TemporaryDirectory() as folder:
        worked_through(2 * LENGTH, folder)
        seconds.clear()
        found = worked_through(agents, folder)
    rounded = {f"s_{part}": round(s, 2) for part, s in seconds.items()}
    return {**rounded, **found, "peak_gb": round(resident("VmHWM") / 1e9, 2)}


def row(agents: int, only_build: int) -> dict[str, Any]:
    command = [sys.executable, __file__, "--agents", str(agents), "--only-build", str(only_build), "--inside"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit((done.stderr.strip() or f"{agents} agents: exit code {done.returncode}").splitlines()[-1])
    found: dict[str, Any] = {"agents": agents, **json.loads(done.stdout)}
    found["ms_per_agent"] = round(1e3 * (found["s_scenario"] + found["s_build"]) / agents, 3)
    return found


def main() -> None:
    parser = described(__doc__)
    parser.add_argument("--agents", default="1000,10000", help="with commas")
    parser.add_argument(
        "--only-build", type=int, default=10_000, help="agents from which on only that is done"
    )
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parsed(parser)
    sizes = [int(word) for word in arguments.agents.split(",")]
    if arguments.inside:
        print(json.dumps(watched(sizes[0], arguments.only_build)))
        return
    rows = [row(agents, arguments.only_build) for agents in sizes]
    result = {"benchmark": "building", "rows": rows}
    columns = [
        "agents",
        *(f"s_{part}" for part in PARTS),
        "ms_per_agent",
        "python_kb",
        "step_ratio",
        "peak_gb",
    ]
    finish(result, arguments, table(rows, columns))


if __name__ == "__main__":
    main()
