"""What a step of N small agents costs on a backend, and how many times as much elsewhere.

A ring (`ring.py`): MLPs 64-64-64, batch 32, messages of 32 with delay 1, a linear synthetic gradient per channel, Adam.
Contestants, all in one process with the same settings of malloc, their turns interleaved (`interleaved.py`):

- `reference`: the same scenario on the reference backend;
- `plain_loop`: a loop over `nn.Module`s with default Adam (`baselines/ring_loop.py`), `plain_loop_fused`: with fused Adam;
- `stacked`: the best program stacked by hand for exactly this case (`baselines/ring_stacked.py`), its gradients written
  out, `stacked_autograd`: the same with autograd's; in chunks of agents chosen by a short timing (variant `base` only).

Every ratio is the other's time per step / the backend's. First all are checked to compute the same: parameters after 12
steps of float64 from the same start. The environment's cost is in the backend's time; the others read prepared batches.
`--variant p_update`: each agent learns from half of its windows (the loops skip backward pass and optimiser of the others);
`--variant periods`: clock periods 1, 2, 3, 4 in turn. Run: `python benchmarks/agents_scaling.py --agents 16,64,256 --json`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from antiphon.nets.memory import keep_memory

sys.path.insert(0, str(Path(__file__).parent))
from baselines.ring_loop import RingLoop
from baselines.ring_stacked import RingStacked
from interleaved import Clock, clock_of, finish, parsed, ratio, table, timed
from ring import BATCH, VARIANTS, draws, examples, parameters, periods, ring, simulate

CONTESTANTS = ("reference", "plain_loop", "plain_loop_fused", "stacked", "stacked_autograd")
CHUNKS = (32, 64, 128, 256)
TOLERANCE = 1e-4
_CHECKED = 12
"""Steps: all patterns of four periods."""
_BATCHES = 64
_GROWTH_FROM = 256
"""Agents from which on what an agent costs should hardly grow, and ratios are held to the demands."""
DEMANDS = {
    "base": {"ratio_plain_loop": 6.0, "ratio_plain_loop_fused": 5.0, "ratio_stacked": 0.87},
    "p_update": {"ratio_plain_loop": 2.5},
    "periods": {"ratio_plain_loop": 2.5},
}
"""At least so much is demanded of a ratio on the CPU, by variant."""
GROWTH = 1.3
"""At most so much is demanded of the time per agent among many over that among 256."""


class Fed:
    """A program by hand with the batches and draws that it is fed.

    Args:
        program: Takes a step.
        rows: How many agents draw, with probability a half; 0: none, all learn.
        device: Of the batches.
    """

    def __init__(self, program: RingLoop | RingStacked, rows: int, device: str) -> None:
        self.program = program
        generator = torch.Generator().manual_seed(1)
        shown = examples()
        self._batches: list[tuple[Tensor, ...]] = []
        for _ in range(_BATCHES):
            drawn = torch.randint(len(shown[0]), (BATCH,), generator=generator)
            self._batches.append(tuple(each[drawn].to(device) for each in shown))
        self._draws = (torch.rand(_BATCHES, rows, generator=generator) < 0.5).tolist() if rows else None
        self._next = 0

    def __call__(self) -> None:
        """Take a step."""
        observed, wanted = self._batches[self._next]
        if self._draws is None or isinstance(self.program, RingStacked):
            self.program.step(observed, wanted)
        else:
            self.program.step(observed, wanted, self._draws[self._next])
        self._next = (self._next + 1) % _BATCHES


def _programs(agents: int, variant: str, weights: dict[str, Tensor]) -> dict[str, RingLoop | RingStacked]:
    """The programs by hand, in chunks of 4 where there are chunks."""
    found: dict[str, RingLoop | RingStacked] = {
        "plain_loop": RingLoop(weights, periods(agents, variant), fused=False),
        "plain_loop_fused": RingLoop(weights, periods(agents, variant), fused=True),
    }
    if variant == "base":
        for name, written in (("stacked", True), ("stacked_autograd", False)):
            found[name] = RingStacked(weights, BATCH, 4, written=written)
    return found


def check(agents: int, variant: str, backend: str, device: str) -> dict[str, float]:
    """Return how far programs by hand are from the backend: of all parameters, relative to how far they moved."""
    simulation = simulate(ring(agents, variant), backend, dtype=torch.float64, device=device)
    weights = parameters(simulation)
    programs = _programs(agents, variant, weights)
    drawn = draws(simulation, _CHECKED) if variant == "p_update" else None
    for step in range(_CHECKED):
        shown = simulation.world.step_signals.signals
        for program in programs.values():
            if drawn is not None and isinstance(program, RingLoop):
                program.step(shown["observed"], shown["wanted"], drawn[step])
            else:
                program.step(shown["observed"], shown["wanted"])
        simulation.step()
    ours = parameters(simulation)
    moved = {name: (ours[name] - weights[name]).norm() for name in ours}
    return {
        name: max(
            float((theirs[key] - ours[key]).norm() / moved[key])
            for theirs in [program.parameters()]
            for key in ours
        )
        for name, program in programs.items()
    }


def stacked(
    weights: dict[str, Tensor], written: bool, device: str, clock: Clock
) -> tuple[Callable[[], None], int]:
    """Return the program stacked by hand in its fastest chunks, and their size."""
    agents = len(weights["w1"])
    seconds: dict[int, float] = {}
    for chunk in dict.fromkeys(min(chunk, agents) for chunk in (*CHUNKS, agents)):
        program = Fed(RingStacked(weights, BATCH, chunk, written=written), 0, device)
        seconds[chunk] = float(np.min(timed({"it": program}, 3, seconds=0.05, clock=clock)["it"]))
    best = min(seconds, key=seconds.__getitem__)
    return Fed(RingStacked(weights, BATCH, best, written=written), 0, device), best


def row(
    agents: int, variant: str, backend: str, device: str, against: Sequence[str], rounds: int
) -> tuple[dict[str, Any], Callable[[], object]]:
    """Return the figures of N agents, and what takes a step of them on the backend."""
    clock = clock_of(device)
    scenario = ring(agents, variant)
    simulation = simulate(scenario, backend, device=device)
    weights = parameters(simulation)
    contestants: dict[str, Callable[[], object]] = {backend: simulation.step}
    found: dict[str, Any] = {"agents": agents}
    drawing = agents if variant == "p_update" else 0
    for name in against:
        if name == "reference" and backend != "reference":
            contestants[name] = simulate(scenario, "reference", device=device).step
        elif name.startswith("plain_loop"):
            loop = RingLoop(weights, periods(agents, variant), fused=name.endswith("fused"))
            contestants[name] = Fed(loop, drawing, device)
        elif name.startswith("stacked") and variant == "base":
            contestants[name], found[f"chunk_{name}"] = stacked(weights, name == "stacked", device, clock)
    times = timed(contestants, rounds, multiple=12 if variant == "periods" else 1, clock=clock)
    step = float(np.median(times[backend]))
    found |= {"ms_per_step": round(step * 1e3, 3), "us_per_agent": round(step / agents * 1e6, 1)}
    for name in CONTESTANTS:
        found[f"ratio_{name}"] = found[f"interval_{name}"] = None
        if name in contestants and name != backend:
            found[f"ratio_{name}"], found[f"interval_{name}"] = ratio(times, name, backend)
    return found, simulation.step


def growth(steps: dict[int, Callable[[], object]], multiple: int, device: str, rounds: int) -> dict[str, Any]:
    """Return how much more an agent's step costs among many than among 256 (or among the fewest there are)."""
    large = [n for n in steps if n >= _GROWTH_FROM]
    first = min(large if len(large) > 1 else steps)
    named = {str(agents): step for agents, step in steps.items() if agents >= first}
    times = timed(named, rounds, multiple=multiple, clock=clock_of(device))
    found: dict[str, Any] = {"from": first}
    for name in named:
        if name != str(first):
            value, edges = ratio({k: t / int(k) for k, t in times.items()}, name, str(first))
            found[name] = {"time_per_agent": value, "interval_95": edges}
    return found


def missed(rows: list[dict[str, Any]], variant: str, grown: dict[str, Any]) -> list[str]:
    """Return the demands that figures miss, in words."""
    found = []
    for figures in rows:
        for name, least in DEMANDS[variant].items():
            if figures["agents"] >= _GROWTH_FROM and (figures[name] or least) < least:
                found.append(f"{figures['agents']} agents: {name} {figures[name]} < {least}")
    for size, figures in grown.items():
        if size != "from" and grown["from"] >= _GROWTH_FROM and figures["time_per_agent"] > GROWTH:
            found.append(f"{size} agents: time per agent {figures['time_per_agent']} > {GROWTH} x")
    return found


def main() -> None:
    """Parse arguments, check, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agents", default="16,64,256", help="sizes of the ring, with commas")
    parser.add_argument("--variant", choices=VARIANTS, default="base")
    parser.add_argument("--backend", default="cohort", help="cohort or reference")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--against", default=",".join(CONTESTANTS), help="the others, with commas")
    parser.add_argument("--check", action=argparse.BooleanOptionalAction, default=True)
    arguments = parsed(parser, rounds=12)
    torch.set_num_threads(1)
    keep_memory()
    sizes = [int(word) for word in arguments.agents.split(",")]
    variant, backend, device = arguments.variant, arguments.backend, arguments.device
    result: dict[str, Any] = {
        "benchmark": "agents_scaling",
        "variant": variant,
        "backend": backend,
        "device": device,
    }
    if variant != "base":
        result["benchmark"] += f"-{variant}"
    if arguments.check:
        result["deviation"] = check(min(*sizes, 16), variant, backend, device)
        if not max(result["deviation"].values()) <= TOLERANCE:
            sys.exit(f"contestants do not compute the same: {result['deviation']}")
    measure = partial(row, variant=variant, backend=backend, device=device, rounds=arguments.rounds)
    rows, steps = [], {}
    for agents in sizes:
        figures, steps[agents] = measure(agents, against=arguments.against.split(","))
        rows.append(figures)
    result |= {"rounds": arguments.rounds, "rows": rows}
    grown: dict[str, Any] = {}
    if len(steps) > 1:
        grown = growth(steps, 12 if variant == "periods" else 1, device, arguments.rounds)
    result |= {"growth": grown, "missed": missed(rows, variant, grown) if device == "cpu" else []}
    columns = ["agents", "ms_per_step", "us_per_agent", *(f"ratio_{name}" for name in CONTESTANTS)]
    said = [
        f"growth of the time per agent: {grown or '-'}",
        f"missed: {'; '.join(result['missed']) or 'nothing'}",
    ]
    finish(result, arguments, [*table(rows, columns), "", *said])


if __name__ == "__main__":
    main()
