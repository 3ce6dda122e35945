"""What virtual time predicts for seconds per step of parts on Ray, and what they take, on two clusters of two machines.

The clusters are two Ray nodes on this machine (`two_nodes.py`), without latency between them (`two-processes`) and with
`--latency` milliseconds each way (`two-namespaces`); no packet is lost. Each is described by a cluster profile, with the seconds
that steps of each part were measured to take in turns without latency (`step_seconds`), and the latency that was set.

- `lockstep`: the ring of `latency.py`, with messages that take one step or eight; predicted by the formula of `antiphon plan`.
- `free`: `digits-mlp` in two halves, whose second one waits for messages; predicted by `antiphon run --backend virtual`.
- `free-back`: the same with the first and the last layer in one part, which waits for what comes back.

A step takes `--work` milliseconds, in part 1 of free parts half of them. `error` is the prediction over the measured mean, less 1;
demanded are 20 % at most. Run as root: `python benchmarks/prediction.py --json`.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import signal
import sys
import time
from collections.abc import Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

import antiphon
from antiphon.engine.parts.free_boundary import FreeSettings
from antiphon.engine.parts.part import merge_states
from antiphon.engine.planning.rivals.lockstep import lockstep
from antiphon.errors import RunError
from antiphon.scenarios import Scenario

sys.path.insert(0, str(Path(__file__).parent))
from interleaved import finish, parsed, table
from latency import TimedPart, halves, ring
from two_nodes import NetworkError, TwoNodes

ERROR = 0.2
CASES = (("lockstep", 1), ("lockstep", 8), ("free", 1), ("free-back", 1))
FREE = FreeSettings(queue=1024)
"""No message is dropped: a part that waits for messages would otherwise not reach the step at which a turn ends."""
_VIRTUAL_STEPS = 60


def scenario_of(mode: str, delay: int) -> tuple[Scenario, dict[str, int]]:
    """Return the scenario of a case, and its placement in two parts."""
    if mode == "lockstep":
        scenario = ring(8, 4, delay)
        return scenario, halves(scenario)
    scenario = antiphon.load("digits-mlp").resolve(values={"delay": delay, "batch": 4, "width": 16})
    return scenario, halves(scenario) if mode == "free" else {"n0": 0, "n1": 1, "n2": 1, "n3": 0}


def works(mode: str, work: float) -> list[float]:
    """Return what a step of each part takes, in the unit of `work`."""
    return [work, work if mode == "lockstep" else work / 2]


def made(mode: str, delay: int, work: float, index: int) -> TimedPart:
    """Return a part of a case, built in its own process."""
    scenario, placement = scenario_of(mode, delay)
    part = TimedPart(scenario, placement, index, free=None if mode == "lockstep" else FREE)
    part.work = works(mode, work)[index]
    return part


def profile(step_seconds: Sequence[float], latency: float) -> antiphon.ClusterProfile:
    """Return the description of two machines with a link; all in seconds."""
    machines = {
        f"m{index}": {"count": 1, "compute": {"step": step}} for index, step in enumerate(step_seconds)
    }
    return antiphon.ClusterProfile(
        cluster="two",
        machines=machines,
        compute={"step": step_seconds[0]},
        links=[{"between": ["m0", "m1"], "latency": latency}],
    )


def predicted(mode: str, delay: int, step_seconds: Sequence[float], latency: float) -> float:
    """Return the predicted seconds of a step."""
    scenario, placement = scenario_of(mode, delay)
    cluster = profile(step_seconds, latency)
    if mode == "lockstep":
        with antiphon.Simulation(scenario) as simulation:
            return lockstep(simulation.system, placement, cluster).seconds
    with antiphon.VirtualSimulation(scenario, cluster, placement, free=FREE) as virtual:
        for _ in range(_VIRTUAL_STEPS // 4):  # until messages are on their way
            virtual.step()
        start, now = virtual.seconds, virtual.now
        for _ in range(_VIRTUAL_STEPS):
            virtual.step()
        return (virtual.seconds - start) / (virtual.now - now)


def measure(nodes: TwoNodes, mode: str, delay: int, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return a row of each cluster for a case."""
    from antiphon.engine.ray.ray_parts import RayParts

    steps = 8 * max(1, round(arguments.seconds * 1e3 / max(arguments.work, 5.0) / 8))
    latencies = {"two-processes": 0.0, "two-namespaces": arguments.latency / 1e3}
    taken: dict[str, list[float]] = {name: [] for name in latencies}
    computing: list[list[float]] = []
    with ExitStack() as resources:
        make = partial(made, mode, delay, arguments.work / 1e3)
        every = max(1, delay // 2)
        placement = scenario_of(mode, delay)[1]
        parts = RayParts(
            make, merge_states, placement, every=every, address=nodes.address, checkpoint_every=10**9
        )
        resources.callback(parts.close)
        resources.callback(nodes.link.set, 0.0, 0.0)
        at = parts.advance(16)
        for _ in range(arguments.rounds):
            for name, latency in latencies.items():
                nodes.link.set(latency, 0.0)
                before, start = [one.computing for one in parts.statistics()], time.perf_counter()
                at = parts.advance(at + steps)
                taken[name].append((time.perf_counter() - start) / steps)
                if not latency:
                    after = [one.computing for one in parts.statistics()]
                    computing.append([(b - a) / steps for a, b in zip(before, after, strict=True)])
    step_seconds = [float(each) for each in np.mean(computing, axis=0)]
    rows = []
    for name, latency in latencies.items():
        row = figures(predicted(mode, delay, step_seconds, latency), taken[name])
        where = {"cluster": name, "mode": mode, "delay": delay}
        rows.append({**where, "step_seconds": [round(each, 4) for each in step_seconds], **row})
        print(f"{name}, {mode}, delay {delay}: {row}", file=sys.stderr)
    return rows


def figures(prediction: float, taken: Sequence[float]) -> dict[str, Any]:
    """Return prediction and measured seconds per step in milliseconds, and the error."""
    mean = float(np.mean(taken))
    error = prediction / mean - 1
    return {
        "predicted_ms": round(1e3 * prediction, 2),
        "measured_ms": round(1e3 * mean, 2),
        "measured_ms_std": round(1e3 * float(np.std(taken, ddof=1)), 2),
        "error": round(error, 3),
        "load": round(os.getloadavg()[0], 1),
        "met": abs(error) <= ERROR,
    }


def measure_all(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Return the rows of all cases.

    Raises:
        NetworkError: There are no namespaces or nodes.
        RunError: Ray's parts fail.
    """
    from antiphon.engine.ray.ray_cluster import open_cluster

    with TwoNodes() as nodes, open_cluster(nodes.address):
        nodes.wait_for_nodes()
        return [row for case in CASES for row in measure(nodes, *case, arguments)]


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--latency", type=float, default=25.0, help="each way, in milliseconds")
    parser.add_argument("--work", type=float, default=25.0, help="milliseconds of a step")
    parser.add_argument("--seconds", type=float, default=4.0, help="of work in a turn")
    arguments = parsed(parser, rounds=8)
    if arguments.rounds < 2:
        parser.error("--rounds: must be 2 or more, for a spread")
    if arguments.latency < 0 or arguments.work <= 0:
        parser.error("--latency: must be 0 or more, --work more than 0")
    if importlib.util.find_spec("ray") is None:
        parser.error("Ray is not installed; pip install 'antiphon[ray]'")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that all is removed again
    try:
        rows = measure_all(arguments)
    except (NetworkError, RunError) as error:
        sys.exit(f"prediction.py: {error}")
    result = {"benchmark": "prediction", "rounds": arguments.rounds, "latency_ms": arguments.latency}
    columns = [
        "cluster",
        "mode",
        "delay",
        "predicted_ms",
        "measured_ms",
        "measured_ms_std",
        "error",
        "load",
        "met",
    ]
    finish({**result, "work_ms": arguments.work, "rows": rows}, arguments, table(rows, columns))


if __name__ == "__main__":
    main()
