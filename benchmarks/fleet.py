"""What machines that fail do with their time: parts that do not wait, simulated, beside a run that waits for all, by formula.

Two scenarios in virtual time (`antiphon.engine.virtual`), one agent a machine: the `ring` of `ring.py`, whose agents always have
something to learn from, and a `chain` on digits, where each reads what the one before it makes of an image (`align`): it has
to wait for messages, so that a machine which is away stops those behind it too.

Assumed, not measured: a step takes `--step` seconds with a spread of 5 %, a call 50 ms one way; machines fail independently, each
`--per-day` times a day, are away for `--outage` seconds, and lose the steps since their own last checkpoint, one every
`--checkpoint` steps. `goodput` is the share of time in which machines compute steps that no failure undoes. That of a run in
lockstep is `1 / (1 + failures per second of all machines x (outage + half of the steps between checkpoints))` (Young 1974).
Run: `python benchmarks/fleet.py --save`.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import torch

from antiphon.engine.virtual.profile import SECONDS_A_DAY, ClusterProfile
from antiphon.engine.virtual.simulation import VirtualSimulation
from antiphon.nets.memory import keep_memory
from antiphon.scenarios import Scenario

sys.path.insert(0, str(Path(__file__).parent))
from interleaved import finish, parsed, table
from ring import ring
from unlock import chain

STAGES = 8
FAR = 1000
"""Machines of a larger fleet, by formula alone."""


def profile(machines: int, per_day: float, arguments: argparse.Namespace) -> ClusterProfile:
    """Return the cluster that is assumed."""
    failures = {"per_day": per_day, "outage": arguments.outage, "checkpoint": arguments.checkpoint}
    return ClusterProfile.model_validate(
        {
            "cluster": "fleet",
            "machines": {"worker": {"count": machines}},
            "compute": {"step": arguments.step, "spread": 0.05},
            "links": [{"between": ["worker", "worker"], "latency": 0.05, "jitter": 0.2}],
            "failures": failures,
        }
    )


def lockstep(machines: int, per_day: float, arguments: argparse.Namespace) -> float:
    """Return the goodput of a run that waits for all its machines, to first order."""
    lost = arguments.outage + arguments.checkpoint * arguments.step / 2
    return round(1 / (1 + machines * per_day / SECONDS_A_DAY * lost), 4)


def simulated(scenario: Scenario, cluster: ClusterProfile, seconds: float, seed: int) -> dict[str, float]:
    """Return what the machines did in a simulated time."""
    placement = {name: number for number, name in enumerate(scenario.agents)}
    with VirtualSimulation(scenario, cluster, placement, seed=seed) as simulation:
        while simulation.seconds < seconds:
            simulation.advance()
        found = simulation.figures()
        failures = sum(machine.incarnation for machine in simulation.cluster.machines)
    names = ("goodput", "waiting", "away", "calls_lost")
    return {"failures": failures, **{name: round(found[name], 4) for name in names}}


def main() -> None:
    """Parse arguments, simulate, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agents", type=int, default=100, help="of the ring")
    parser.add_argument("--per-day", default="1,24", help="failures of a machine, with commas")
    parser.add_argument("--step", type=float, default=10.0, help="seconds")
    parser.add_argument("--outage", type=float, default=60.0, help="seconds")
    parser.add_argument("--checkpoint", type=int, default=10, help="steps")
    parser.add_argument(
        "--hours",
        type=float,
        default=1.0,
        help="simulated, of the ring; the chain runs as many machine hours",
    )
    parser.add_argument("--seed", type=int, default=0)
    arguments = parsed(parser)
    torch.set_num_threads(1)
    keep_memory()
    rows: list[dict[str, Any]] = []
    for per_day in map(float, arguments.per_day.split(",")):
        for name, scenario in (("ring", ring(arguments.agents)), ("chain", chain(STAGES, "pipelined"))):
            machines = len(scenario.agents)
            cluster = profile(machines, per_day, arguments)
            hours = arguments.hours if name == "ring" else arguments.hours * arguments.agents / STAGES
            row = {"graph": name, "machines": machines, "per_day": per_day, "hours": round(hours, 1)}
            row |= simulated(scenario, cluster, 3600 * hours, arguments.seed)
            row["lockstep"] = lockstep(machines, per_day, arguments)
            row[f"lockstep_{FAR}"] = lockstep(FAR, per_day, arguments)
            rows.append(row)
    columns = ["graph", "machines", "per_day", "hours", "failures", "goodput", "waiting", "away"]
    columns += ["calls_lost", "lockstep", f"lockstep_{FAR}"]
    settings = {key: getattr(arguments, key) for key in ("step", "outage", "checkpoint", "seed")}
    finish({"benchmark": "fleet", **settings, "rows": rows}, arguments, table(rows, columns))


if __name__ == "__main__":
    main()
