"""When does it pay not to wait? A chain of S equal layers of 128 that learns digits, locked and unlocked in several ways.

For every S and coupling: steps and CPU time to given accuracies on the test split in the simulator, on one processor; and what
those steps would take if every layer (stage) had a processor of its own. That part is simulated, not run: the time of a
stage's forward pass, backward pass, optimiser and predictors is measured in plain torch on this machine (interleaved), the
schedules in `unlock_schedule.py` say who needs what, and messages are free. For each schedule played through:

- `waiting` = 1 - work / time, mean over stages, free running: a stage waits only for what it needs;
- `waiting_in_step`: the same if all stages begin each step together, as the simulator's steps do: here the waves show;
- `held_kb`: what the stage that holds most must keep: its own parameters and optimiser state, those of its predictors, and the
  most minibatches of activations (or of messages whose gradient is not back) that the schedule makes it hold at a time;
- `ms_0.9` = steps to an accuracy of 0.9 x time per step, free running; `cpu_ms_0.9`: CPU time of these steps in the simulator.

`locked` is backpropagation, and `1f1b` the same steps through torch's pipeline schedule in M parts, the fastest M taken.
torch.distributed.pipelining needs a process per stage, so that on few processors its times would be the operating system's;
its 1F1B schedule is played here with stage times measured at the parts' size (batch norm within parts and the network
between stages are left out, in its favour). `delayed` replays with the true gradient when it comes; `decoupled` injects linear
synthetic gradients given the label; `pipelined` has delay 1 besides; `unlocked` has synthetic inputs as well.
`pays_at` names the sizes at which a coupling takes less time than locked, and than 1f1b: per step, to each accuracy.
Run: `python benchmarks/unlock.py --json`.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import networkx as nx
import numpy as np
import torch
from torch import Tensor, nn

from antiphon.nets.memory import keep_memory
from antiphon.scenarios import Scenario

sys.path.insert(0, str(Path(__file__).parent))
from interleaved import finish, parsed, table, timed
from ring import simulate
from unlock_schedule import Costs, Played, one_forward_one_backward, play, steps_of

WIDTH, BATCH, CLASSES, PIXELS = 128, 64, 10, 64
RATE = 1e-3
FLOAT = 4
PARTS = (1, 2, 4, 8, 16, 32)
EVERY = 10
"""Steps from one look at the accuracy to the next."""
WAYS = ("locked", "1f1b", "delayed", "decoupled", "pipelined", "unlocked")
CONTEXT = {"gradient": {"kind": "linear", "context": ["label"]}}
CHANNELS: dict[str, dict[str, Any]] = {
    "locked": {"coupling": "locked"},
    "delayed": {"coupling": "delayed", "staleness": 64},
    "decoupled": CONTEXT,
    "pipelined": {**CONTEXT, "link": {"delay": 1}},
    "unlocked": {**CONTEXT, "coupling": "unlocked", "input": {"kind": "linear", "context": ["image"]}},
}


def chain(stages: int, coupling: str) -> Scenario:
    """Return S layers in a row, the last with a classifier on top."""
    graph: nx.DiGraph[str] = nx.DiGraph()
    names = [f"s{index:02}" for index in range(stages)]
    for name in names:
        said: dict[str, Any] = {"network": {"kind": "mlp", "hidden": [WIDTH], "norm": "batch"}}
        if name == names[0]:
            said["observes"] = ["image"]
        elif coupling == "pipelined":
            said["align"] = True
        if name == names[-1]:
            said["objective"] = {"kind": "classification", "target": "label"}
        graph.add_node(name, **said)
    nx.add_path(graph, names, **CHANNELS[coupling])
    optimiser = {"kind": "adam", "lr": RATE}
    return Scenario.from_graph(
        graph,
        scenario="stages",
        env={"id": "antiphon/Digits-v0"},
        training={"batch": BATCH, "optimiser": optimiser},
    )


def learned(
    stages: int, coupling: str, goals: list[float], most: int, seed: int
) -> tuple[list[int | None], float]:
    """Return the steps to each accuracy (None: not within `most`), and CPU seconds per step without the looks."""
    simulation = simulate(chain(stages, coupling), "cohort", seed=seed)
    seconds = 0.0
    found: list[int | None] = [None] * len(goals)
    while simulation.now < most and None in found:
        start = time.process_time()
        for _ in range(EVERY):
            simulation.step()
        seconds += time.process_time() - start
        accuracy = simulation.evaluate().accuracy or 0.0
        for index, goal in enumerate(goals):
            if found[index] is None and accuracy >= goal:
                found[index] = simulation.now
    return found, seconds / simulation.now


class Stage:
    """A stage in plain torch, for its times.

    Args:
        rows: In a batch.
    """

    def __init__(self, rows: int) -> None:
        self.layer = nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.BatchNorm1d(WIDTH), nn.ReLU())
        self.optimiser = torch.optim.Adam(self.layer.parameters(), lr=RATE, fused=True)
        self.x = torch.randn(rows, WIDTH, requires_grad=True)
        self.back = torch.randn(rows, WIDTH)

    def forward(self) -> Tensor:
        """Make a graph."""
        out: Tensor = self.layer(self.x)
        return out

    def forward_backward(self) -> None:
        """Make a graph and differentiate it."""
        for p in [*self.layer.parameters(), self.x]:
            p.grad = None
        torch.autograd.backward(self.forward(), self.back)

    def optimise(self) -> None:
        """Take the optimiser's step."""
        self.optimiser.step()


class Model:
    """A linear predictor in plain torch, for its times.

    Args:
        inputs: Components it reads.
    """

    def __init__(self, inputs: int) -> None:
        self.layer = nn.Linear(inputs, WIDTH)
        self.optimiser = torch.optim.Adam(self.layer.parameters(), lr=RATE, fused=True)
        self.x, self.wanted = torch.randn(BATCH, inputs), torch.randn(BATCH, WIDTH)

    @torch.no_grad()
    def predict(self) -> None:
        """Say what it expects."""
        self.layer(self.x)

    def teach(self) -> None:
        """Learn what was right."""
        self.optimiser.zero_grad()
        torch.autograd.backward((self.layer(self.x) - self.wanted).square().sum() / BATCH)
        self.optimiser.step()


def measured(rounds: int) -> tuple[Costs, dict[int, Costs]]:
    """Return the times of a stage on a minibatch, and on its parts, by their number."""
    gradient, stand_in = Model(WIDTH + CLASSES), Model(PIXELS)
    work: dict[str, Callable[[], object]] = {
        "predict": gradient.predict,
        "teach": gradient.teach,
        "stand_in": stand_in.predict,
        "teach_input": stand_in.teach,
    }
    for parts in PARTS:
        stage = Stage(BATCH // parts)
        stage.forward_backward()
        work[f"forward {parts}"] = stage.forward
        work[f"both {parts}"] = stage.forward_backward
        work["optimise"] = stage.optimise
    seconds = {name: float(np.median(each)) for name, each in timed(work, rounds, seconds=0.02).items()}
    split = {
        parts: Costs(
            forward=seconds[f"forward {parts}"],
            backward=seconds[f"both {parts}"] - seconds[f"forward {parts}"],
            optimise=seconds["optimise"],
        )
        for parts in PARTS
    }
    whole = Costs(
        forward=split[1].forward,
        backward=split[1].backward,
        **{name: seconds[name] for name in ("optimise", "predict", "teach", "stand_in", "teach_input")},
    )
    return whole, split


def _numbers(coupling: str) -> int:
    """Parameters of a stage in the middle, with those of its predictors."""
    own = WIDTH * WIDTH + 3 * WIDTH
    if coupling in ("decoupled", "pipelined", "unlocked"):
        own += (WIDTH + CLASSES) * WIDTH + WIDTH
    return own + (PIXELS * WIDTH + WIDTH if coupling == "unlocked" else 0)


def held(coupling: str, stages: int, played: Played, parts: int = 1) -> float:
    """Return the kilobytes that the stage holding most keeps: numbers with Adam's state, and what waits."""
    row = FLOAT * WIDTH
    most = 0
    for stage in range(stages):
        waiting = played.held(stage, "F", "B")
        # Of every minibatch: input, before and behind the norm, output; delayed keeps inputs, and makes one again.
        rows = (waiting + 3) * BATCH if coupling == "delayed" else waiting * 4 * BATCH // parts
        back = max(0, played.held(stage, "F", "T") - 1)
        most = max(most, row * rows + back * BATCH * FLOAT * (WIDTH + CLASSES))
    return round((3 * FLOAT * _numbers(coupling) + most) / 1024, 1)


def scheduled(coupling: str, stages: int, whole: Costs, split: dict[int, Costs]) -> dict[str, Any]:
    """Return what a schedule says of a chain: waiting, time per step, memory."""
    steps = 4 * stages + 20
    if coupling == "1f1b":
        options = {n: play(one_forward_one_backward(stages, n, split[n], 8)) for n in PARTS}
        parts = min(options, key=lambda n: options[n].period())
        played, in_step = options[parts], None
    else:
        parts = None
        played = play(steps_of(coupling, stages, whole, steps))
        in_step = play(steps_of(coupling, stages, whole, steps, in_step=True), in_step=True)
    return {
        "stages": stages,
        "coupling": coupling,
        "parts": parts,
        "waiting": round(played.waiting(), 3),
        "waiting_in_step": None if in_step is None else round(in_step.waiting(), 3),
        "ms_per_step": round(played.period() * 1e3, 4),
        "ms_per_step_in_step": None if in_step is None else round(in_step.period() * 1e3, 4),
        "held_kb": held(coupling, stages, played, parts or 1),
    }


def pays_at(rows: list[dict[str, Any]], figure: str, coupling: str, other: str) -> list[int]:
    """Return the sizes at which a coupling takes less time than another."""
    found = []
    for stages in sorted({row["stages"] for row in rows}):
        at = {row["coupling"]: row[figure] for row in rows if row["stages"] == stages}
        if at[coupling] is not None and (at[other] is None or at[coupling] < at[other]):
            found.append(stages)
    return found


def played_out(
    stages: int, coupling: str, goals: list[float], most: int, seeds: int
) -> tuple[list[float | None], float]:
    """Return mean steps to each accuracy (None: some seed is not there), and CPU seconds per step."""
    runs = [learned(stages, coupling, goals, most, seed) for seed in range(seeds)]
    means: list[float | None] = []
    for index in range(len(goals)):
        steps = [found[index] for found, _ in runs]
        reached = [count for count in steps if count is not None]
        means.append(sum(reached) / seeds if len(reached) == seeds else None)
    return means, sum(each for _, each in runs) / seeds


def measure(sizes: list[int], goals: list[float], most: int, seeds: int, rounds: int) -> dict[str, Any]:
    """Return all rows, the times they rest on, and from where on what pays."""
    whole, split = measured(rounds)
    rows = []
    for stages in sizes:
        locked: list[float | None] = []
        for coupling in WAYS:
            row = scheduled(coupling, stages, whole, split)
            if coupling == "1f1b":
                steps, per_step = locked, None  # it takes the same steps
            else:
                steps, per_step = played_out(stages, coupling, goals, most, seeds)
                row["cpu_ms_per_step"] = round(per_step * 1e3, 3)
            if coupling == "locked":
                locked = steps
            for goal, count in zip(goals, steps, strict=True):
                row[f"steps_{goal}"] = count
                row[f"ms_{goal}"] = None if count is None else round(count * row["ms_per_step"], 2)
                there = None if count is None or per_step is None else round(count * per_step * 1e3, 1)
                row[f"cpu_ms_{goal}"] = there
            rows.append(row)
    figures = ["ms_per_step", *(f"ms_{goal}" for goal in goals)]
    return {
        "sizes": sizes,
        "accuracies": goals,
        "most_steps": most,
        "seeds": seeds,
        "stage_us": {name: round(value * 1e6, 1) for name, value in vars(whole).items()},
        "rows": rows,
        "pays_at": {
            figure: {
                way: {other: pays_at(rows, figure, way, other) for other in WAYS[:2]} for way in WAYS[2:]
            }
            for figure in figures
        },
    }


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stages", default="2,4,8,16", help="sizes, with commas")
    parser.add_argument("--accuracy", default="0.85,0.9,0.95", help="of the test split, with commas")
    parser.add_argument("--steps", type=int, default=600, help="after which a coupling has not got there")
    parser.add_argument("--seeds", type=int, default=2)
    arguments = parsed(parser, rounds=12)
    torch.set_num_threads(1)
    keep_memory()
    sizes = [int(word) for word in arguments.stages.split(",")]
    goals = [float(word) for word in arguments.accuracy.split(",")]
    found = measure(sizes, goals, arguments.steps, arguments.seeds, arguments.rounds)
    columns = ["stages", "coupling", "parts", "waiting", "waiting_in_step", "held_kb", "ms_per_step"]
    for goal in goals:
        columns += [f"steps_{goal}", f"ms_{goal}", f"cpu_ms_{goal}"]
    times = ", ".join(f"{name} {value}" for name, value in found["stage_us"].items())
    lines = [
        f"Milliseconds with a processor per stage, simulated from measured stage times (us: {times});",
        "CPU milliseconds: in the simulator, on one processor.",
        "",
        *table(found["rows"], columns),
    ]
    for figure, ways in found["pays_at"].items():
        lines += ["", f"{figure} is less"]
        for way, others in ways.items():
            at = [f"than {other} at {', '.join(map(str, sizes)) or '-'}" for other, sizes in others.items()]
            lines.append(f"  {way}: {'; '.join(at)}")
    finish({"benchmark": "unlock", **found}, arguments, lines)


if __name__ == "__main__":
    main()
