"""CPU time to make and to evaluate a system of N small agents, and the step time of its ways to join messages.

A random graph of degree 4 (so 4 N channels, `networkx.random_regular_graph`): MLPs with 16 hidden units, messages of 8 with
delay 1, a linear synthetic gradient per channel, batch 32; every agent observes and has an objective. `scenario`: from a
networkx graph to a checked `Scenario`; `build`: from there to a simulation before its first step; `evaluate`: 64 examples.
`concat` is the time of a step over that of the same agents at fan-in `mean`, median of interleaved turns.

Run: `python benchmarks/build_time.py --agents 250,1000 --json`.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path
from typing import Any

import networkx as nx
import torch

from antiphon.engine.simulation import Simulation
from antiphon.envs import from_tensors
from antiphon.nets.memory import keep_memory
from antiphon.scenarios import Scenario

sys.path.insert(0, str(Path(__file__).parent))
import itertools

from interleaved import finish, parsed, ratio, table, timed

DEGREE = 4
DEMANDS = {1000: 3.0, 10_000: 30.0}
"""At most so many CPU seconds are demanded of `scenario` and `build` together, by agents."""
CONCAT = 1.3
"""At most so much is demanded of a step at `concat` over one at `mean`."""
_SIZE, _EXAMPLES = 8, 640


def graph(agents: int, fan_in: str) -> nx.MultiDiGraph[str]:
    """Return the agents and channels as networkx has them."""
    found: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    for index in range(agents):
        found.add_node(
            f"n{index:05}",
            observes=["observed"],
            network={"kind": "mlp", "hidden": [16]},
            objective={"kind": "regression", "target": "wanted"},
            fan_in=fan_in,
        )
    for one, other in nx.random_regular_graph(DEGREE, agents, seed=1).to_directed().edges:
        channel: dict[str, Any] = {"size": _SIZE, "link": {"delay": 1}, "gradient": {"kind": "linear"}}
        found.add_edge(f"n{one:05}", f"n{other:05}", **channel)
    return found


def scenario(agents: nx.MultiDiGraph[str]) -> Scenario:
    """Return the scenario of a graph."""
    generator = torch.Generator().manual_seed(0)
    observed, wanted = (torch.randn(_EXAMPLES, size, generator=generator) for size in (_SIZE, 1))
    env = from_tensors(observed=observed, wanted=wanted, training_only=["wanted"], test=0.1)
    return Scenario.from_graph(agents, env=env, training={"batch": 32, "steps": 1000})


def row(agents: int) -> dict[str, Any]:
    """Return the CPU seconds of N agents."""
    nodes = graph(agents, "concat")
    times = [time.process_time()]
    declared = scenario(nodes)
    times.append(time.process_time())
    simulation = Simulation(declared, seed=0)
    times.append(time.process_time())
    simulation.evaluate()
    times.append(time.process_time())
    parts = [after - before for before, after in itertools.pairwise(times)]
    found = {"agents": agents, "channels": len(declared.channels)}
    found |= {
        f"s_{name}": round(s, 2) for name, s in zip(("scenario", "build", "evaluate"), parts, strict=True)
    }
    found["ms_per_agent"] = round(1e3 * sum(parts[:2]) / agents, 3)
    found["demanded_s"] = DEMANDS.get(agents)
    found["met"] = sum(parts[:2]) <= DEMANDS.get(agents, float("inf"))
    return found


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agents", default="250,1000", help="with commas")
    arguments = parsed(parser, rounds=12)
    torch.set_num_threads(1)
    keep_memory()
    row(50)  # imports and caches
    rows = [row(int(word)) for word in arguments.agents.split(",")]
    steps = {fan_in: Simulation(scenario(graph(1000, fan_in)), seed=0).step for fan_in in ("concat", "mean")}
    concat, interval = ratio(timed(steps, arguments.rounds), "concat", "mean")
    missed = [f"{each['agents']} agents" for each in rows if not each["met"]]
    missed += ["concat"] if concat > CONCAT else []
    result = {
        "benchmark": "build_time",
        "rows": rows,
        "growth": round(rows[-1]["ms_per_agent"] / rows[0]["ms_per_agent"], 2),
        "concat": {"ratio_mean": concat, "interval_95": interval, "agents": 1000, "demanded": CONCAT},
        "missed": missed,
    }
    columns = ["agents", "channels", "s_scenario", "s_build", "s_evaluate", "ms_per_agent", "demanded_s"]
    said = [
        f"time per agent of the largest over the smallest: {result['growth']}",
        f"step at concat / mean: {concat} {interval}",
        f"missed: {', '.join(missed) or 'nothing'}",
    ]
    finish(result, arguments, [*table(rows, columns), "", *said])


if __name__ == "__main__":
    main()
