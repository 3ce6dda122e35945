"""antiphon's simulation in virtual time beside the independent one of `rivals.py`: simulated time to 95 %, and their ratio.

The chain of `rivals.py`, 4 layers on 4 machines, by `VirtualSimulation`, whose messages and gradients leave at the end of a step
of one stage time; the independent simulator is given the same costs, and local classifiers of zeros as antiphon has them. Seeds,
initial parameters and minibatches differ (antiphon goes through the images in turn, the other samples with replacement), so that
means over seeds are compared. Demanded are ratios of means between 0.8 and 1.25.
Run: `python benchmarks/virtual_time.py --json`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import networkx as nx
import torch

from antiphon.engine.virtual.profile import ClusterProfile
from antiphon.engine.virtual.simulation import VirtualSimulation
from antiphon.nets.memory import keep_memory
from antiphon.scenarios import Scenario

sys.path.insert(0, str(Path(__file__).parent))
from interleaved import finish, parsed, table
from rivals_chain import BATCH, CLASSES, WIDTH, Chain, Digits, Learner, digits
from rivals_machines import Conditions, Costs, Network
from rivals_ways import OneWay

GOAL = 0.95
RATE = 1e-3
QUEUE = 64
LIMIT = 5_000.0
LOW, HIGH = 0.8, 1.25
GRADIENTS: dict[str, dict[str, Any]] = {
    "decoupled": {"kind": "linear", "context": ["label"]},
    "local": {"kind": "local", "target": "label"},
}


def scenario(stages: int, way: str) -> Scenario:
    """Return the chain as a scenario whose parts need not wait."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    names = [f"s{index}" for index in range(stages)]
    for name in names:
        entry = {"observes": ["image"]} if name == names[0] else {"align": True}
        graph.add_node(name, network={"kind": "mlp", "hidden": [WIDTH], "norm": "batch"}, **entry)
    graph.nodes[names[-1]]["objective"] = {"kind": "classification", "target": "label"}
    nx.add_path(graph, names, gradient=GRADIENTS[way], link={"delay": 1})
    training = {"batch": BATCH, "optimiser": {"kind": "adam", "lr": RATE}}
    env = {"id": "antiphon/Digits-v0"}
    return Scenario.from_graph(graph, scenario="stages", env=env, training=training)


def reached(now: Callable[[], float], run: Callable[[float], None], accuracy: Callable[[], float]) -> float:
    """Return the simulated time at the first look that finds the accuracy, or the limit; looks as of `rivals.py`."""
    while now() < LIMIT:
        run(max(now() + 1, now() * 1.02))
        if accuracy() >= GOAL:
            return now()
    return LIMIT


def by_engine(stages: int, way: str, latency: float, seed: int) -> float:
    """Return the stage times of antiphon's simulation."""
    profile = ClusterProfile.model_validate(
        {
            "cluster": "chain",
            "machines": {"stage": {"count": stages}},
            "compute": {"step": 1.0},
            "links": [{"between": ["stage", "stage"], "latency": latency}],
        }
    )
    with VirtualSimulation(scenario(stages, way), profile, seed=seed) as simulation:

        def run(until: float) -> None:
            while simulation.seconds < until:
                simulation.advance()

        return reached(lambda: simulation.seconds, run, lambda: simulation.evaluate().accuracy or 0.0)


def independent(data: Digits, stages: int, way: str, latency: float, seed: int) -> float:
    """Return the stage times of the independent simulation."""
    chain = Chain(stages, data, rate=RATE, seed=seed)
    for stage in chain.stages[:-1]:
        stage.classifier = Learner([torch.zeros(CLASSES, WIDTH), torch.zeros(CLASSES)], RATE)
    network = Network(Conditions(latency=latency), seed)
    costs = Costs(forward=1.0, backward=0.0, predict=0.0, learn=0.0)  # all leaves at the end of the step
    machines = OneWay(chain, network, costs, local=way == "local", queue=QUEUE)
    return reached(lambda: machines.now, machines.run, chain.accuracy)


def main() -> None:
    """Parse arguments, simulate, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stages", type=int, default=4)
    parser.add_argument("--latencies", default="0,1,5,20", help="in stage times, with commas")
    parser.add_argument("--seeds", type=int, default=3)
    arguments = parsed(parser)
    torch.set_num_threads(1)
    keep_memory()
    data = digits()
    rows: list[dict[str, Any]] = []
    for way in GRADIENTS:
        for latency in map(float, arguments.latencies.split(",")):
            where = (arguments.stages, way, latency)
            engine = [by_engine(*where, seed) for seed in range(arguments.seeds)]
            other = [independent(data, *where, seed) for seed in range(arguments.seeds)]
            ratio = round(mean(engine) / mean(other), 2)
            row = {"way": way, "latency": latency, "engine": round(mean(engine), 1)}
            row |= {"independent": round(mean(other), 1), "ratio": ratio, "met": LOW <= ratio <= HIGH}
            rows.append(row)
    settings = {"stages": arguments.stages, "seeds": arguments.seeds, "goal": GOAL}
    columns = ["way", "latency", "engine", "independent", "ratio", "met"]
    finish({"benchmark": "virtual_time", **settings, "rows": rows}, arguments, table(rows, columns))


if __name__ == "__main__":
    main()
