"""What ten seeds of a scenario cost in one program, beside ten separate runs.

The digits-mlp chain as it is in the library, telemetry off, one thread. The program of all seeds and each of the ten
simulations have their turns in one process; a round's ratio is the time per step of the program over the sum of the
separate ones'. The figure is the median over rounds of CPU time with a bootstrap interval; demanded is at most 0.4. What it
costs to build either is given beside it. With --commands, whole commands are measured too: one `antiphon run --seeds 10`,
and ten of one seed each, with all that they start, write and evaluate. Run: `python benchmarks/seeds.py --json`.
"""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from antiphon.engine.runs.seeds import Seeds
from antiphon.nets.memory import keep_memory
from antiphon.scenarios import load

sys.path.insert(0, str(Path(__file__).parent))
from interleaved import finish, interval, parsed, timed
from ring import simulate

DEMAND = 0.4


def measure(name: str, count: int, rounds: int) -> dict[str, Any]:
    """Return the time of all seeds in one program over the summed time of separate runs."""
    scenario = load(name).resolve()
    start = time.process_time()
    together = Seeds(scenario, seeds=list(range(count)))
    middle = time.process_time()
    apart = [simulate(scenario, "cohort", seed=seed) for seed in range(count)]
    end = time.process_time()
    contestants: dict[str, Callable[[], object]] = {"together": together.step}
    contestants |= {str(seed): one.step for seed, one in enumerate(apart)}
    times = timed(contestants, rounds, seconds=0.05)
    summed = np.sum([times[str(seed)] for seed in range(count)], axis=0)
    ratios = times["together"] / summed
    ratio = float(np.median(ratios))
    return {
        "scenario": name,
        "seeds": count,
        "rounds": rounds,
        "ratio": round(ratio, 3),
        "interval_95": interval(ratios),
        "ms_per_step": round(float(np.median(times["together"])) * 1e3, 3),
        "ms_per_step_apart": round(float(np.median(summed)) * 1e3, 3),
        "ms_to_build": round((middle - start) * 1e3, 1),
        "ms_to_build_apart": round((end - middle) * 1e3, 1),
        "demand": DEMAND,
        "met": ratio <= DEMAND,
    }


def commands(name: str, count: int) -> dict[str, Any]:
    """Return the CPU time of one command with all seeds over that of a command for each."""

    def seconds(*words: str) -> float:
        with tempfile.TemporaryDirectory() as folder:
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            command = [sys.executable, "-m", "antiphon", "run", name, *words, "--logdir", folder, "--json"]
            subprocess.run(command, check=True, capture_output=True)
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    together = seconds("--seeds", str(count))
    apart = sum(seconds("--seed", str(seed)) for seed in range(count))
    return {
        "ratio_commands": round(together / apart, 3),
        "seconds_command": round(together, 2),
        "seconds_commands_apart": round(apart, 2),
    }


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scenario", default="digits-mlp")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--commands", action="store_true", help="measure whole commands too")
    arguments = parsed(parser, rounds=20)
    torch.set_num_threads(1)
    keep_memory()
    found = measure(arguments.scenario, arguments.seeds, arguments.rounds)
    low, high = found["interval_95"]
    said = (
        f"{found['seeds']} seeds of {found['scenario']} in one program / separate runs, CPU time per step: "
        f"{found['ratio']} (95 % interval {low} to {high}; demanded: at most {DEMAND})"
    )
    lines = [said]
    if arguments.commands:
        found |= commands(arguments.scenario, arguments.seeds)
        whole, apart = found["seconds_command"], found["seconds_commands_apart"]
        lines.append(f"whole commands: {whole} s / {apart} s of CPU time = {found['ratio_commands']}")
    finish({"benchmark": "seeds", **found}, arguments, lines)


if __name__ == "__main__":
    main()
