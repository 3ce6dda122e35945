"""The cost of a step of N small agents on a backend, and how many times as much elsewhere.

A ring (`ring.py`): MLPs 64-64-64, batch 32, messages of 32 with delay 1, a linear synthetic gradient per channel, Adam.
Contestants, all in one process with the same settings of malloc, their turns interleaved (`interleaved.py`):

- `plain_loop`: a loop over `nn.Module`s with default Adam (`baselines/ring_loop.py`), `plain_loop_fused`: with fused Adam;
- `stacked`: the best program stacked by hand for exactly this case (`baselines/ring_stacked.py`), its gradients written
  out, in chunks of agents chosen by a short timing;
- `stacked_captured`: the same with all agents at once, six of its steps as one CUDA graph (`--device cuda` only).

On a GPU the cohort backend replays captured steps too. Every ratio is the other's time per step / the backend's. First all are
checked to compute the same: parameters after 12 steps of float64 from the same start. The environment's cost is in the backend's time; the others read prepared batches.
Run: `python benchmarks/agents_scaling.py --agents 16,64,256 --json`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from antiphon.base.memory import keep_memory

sys.path.insert(0, str(Path(__file__).parent))
from baselines.ring_loop import RingLoop
from baselines.ring_stacked import RingStacked
from interleaved import Clock, Contestant, Run, clock_of, described, finish, parsed, ratio, table, timed
from ring import BATCH, examples, parameters, ring, simulate

CONTESTANTS = ("plain_loop", "plain_loop_fused", "stacked", "stacked_captured")
CHUNKS = (32, 64, 128, 256)
ROTATION = 6
"""Steps after which the buffers of the program stacked by hand are where they were: three of messages, two of gradients."""
TOLERANCE = 1e-4
_CHECKED = 12
_BATCHES = 64


def fed_batches(device: str) -> list[tuple[Tensor, Tensor]]:
    """Return the batches that programs by hand take in turn: observations and targets, [32, 32] each."""
    generator = torch.Generator().manual_seed(1)
    observed, wanted = examples()
    batches = []
    for _ in range(_BATCHES):
        drawn = torch.randint(len(observed), (BATCH,), generator=generator)
        batches.append((observed[drawn].to(device), wanted[drawn].to(device)))
    return batches


class Fed:
    """A program by hand with the batches that it is fed."""

    def __init__(self, program: RingLoop | RingStacked, device: str) -> None:
        self.program = program
        self._batches = fed_batches(device)
        self._next = 0

    def __call__(self) -> None:
        self.program.step(*self._batches[self._next])
        self._next = (self._next + 1) % _BATCHES


class Captured:
    """The program stacked by hand as a CUDA graph, replayed once its batches have been copied in."""

    def __init__(self, program: RingStacked, batches: Sequence[tuple[Tensor, Tensor]]) -> None:
        self._batches = batches
        self._next = 0
        self._slots = [[each.clone() for each in batches[0]] for _ in range(ROTATION)]
        aside = torch.cuda.Stream()
        aside.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(aside):  # what is made once is made before the recording
            for slot in self._slots:
                program.step(*slot)
        torch.cuda.current_stream().wait_stream(aside)
        self._graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self._graph):
            for slot in self._slots:
                program.step(*slot)

    def __call__(self) -> None:
        """Copy in the batch of a step; the last one of a rotation takes its steps."""
        place = self._next % ROTATION
        batch = self._batches[self._next % len(self._batches)]
        for slot, each in zip(self._slots[place], batch, strict=True):
            slot.copy_(each)
        self._next += 1
        if place == ROTATION - 1:
            self._graph.replay()


def check(agents: int, backend: str, device: str) -> dict[str, float]:
    """Return how far the others are from the backend: of all parameters, relative to how far they moved."""
    ours = simulate(ring(agents), backend, dtype=torch.float64, device=device)
    weights = parameters(ours)
    programs: dict[str, RingLoop | RingStacked] = {
        "plain_loop": RingLoop(weights, fused=False),
        "plain_loop_fused": RingLoop(weights, fused=True),
        "stacked": RingStacked(weights, BATCH, 4),
    }
    for _ in range(_CHECKED):
        shown = ours.world.step_signals.signals
        for program in programs.values():
            program.step(shown["observed"], shown["wanted"])
        ours.step()
    reached = {name: program.parameters() for name, program in programs.items()}
    found = parameters(ours)
    moved = {name: (found[name] - weights[name]).norm() for name in found}
    return {
        name: max(float((theirs[key] - found[key]).norm() / moved[key]) for key in found)
        for name, theirs in reached.items()
    }


def stacked(weights: dict[str, Tensor], device: str, clock: Clock) -> tuple[Callable[[], None], int]:
    """Return the program stacked by hand in its fastest chunks, and their size."""
    agents = len(weights["w1"])
    seconds: dict[int, float] = {}
    for chunk in dict.fromkeys(min(chunk, agents) for chunk in (*CHUNKS, agents)):
        program = Fed(RingStacked(weights, BATCH, chunk), device)
        seconds[chunk] = float(np.min(timed({"it": program}, 3, seconds=0.05, clock=clock)["it"]))
    best = min(seconds, key=seconds.__getitem__)
    return Fed(RingStacked(weights, BATCH, best), device), best


def row(agents: int, backend: str, device: str, against: Sequence[str], rounds: int) -> dict[str, Any]:
    clock = clock_of(device)
    capture = device != "cpu" and backend == "cohort"
    simulation = simulate(ring(agents), backend, device=device, capture=capture)
    weights = parameters(simulation)
    ours: Contestant = simulation.step if device == "cpu" else Run(simulation, clock)
    contestants: dict[str, Contestant] = {backend: ours}
    found: dict[str, Any] = {"agents": agents}
    for name in against:
        if name.startswith("plain_loop"):
            contestants[name] = Fed(RingLoop(weights, fused=name.endswith("fused")), device)
        elif name == "stacked_captured" and device != "cpu":
            contestants[name] = Captured(RingStacked(weights, BATCH, agents), fed_batches(device))
        elif name == "stacked":
            contestants[name], found["chunk_stacked"] = stacked(weights, device, clock)
    multiple = {name: ROTATION if name == "stacked_captured" else 1 for name in contestants}
    times = timed(contestants, rounds, multiple=multiple, clock=clock)
    step = float(np.median(times[backend]))
    found |= {"ms_per_step": round(step * 1e3, 3), "us_per_agent": round(step / agents * 1e6, 1)}
    for name in CONTESTANTS:
        found[f"ratio_{name}"] = found[f"interval_{name}"] = None
        if name in contestants:
            found[f"ratio_{name}"], found[f"interval_{name}"] = ratio(times, name, backend)
    return found


def main() -> None:
    parser = described(__doc__)
    parser.add_argument("--agents", default="16,64,256", help="sizes of the ring, with commas")
    parser.add_argument("--backend", default="cohort", help="cohort or native")
    parser.add_argument("--device", default="cpu")
    arguments = parsed(parser, rounds=12)
    torch.set_num_threads(1)
    keep_memory()
    sizes = [int(word) for word in arguments.agents.split(",")]
    backend, device = arguments.backend, arguments.device
    deviation = check(min([*sizes, 16]), backend, device)
    if not max(deviation.values()) <= TOLERANCE:
        sys.exit(f"contestants do not compute the same: {deviation}")
    rows = []
    for agents in sizes:
        rows.append(row(agents, backend, device, CONTESTANTS, arguments.rounds))
        print(json.dumps(rows[-1]), file=sys.stderr)
    result = {"benchmark": "agents_scaling", "backend": backend, "device": device, "deviation": deviation}
    result |= {"rounds": arguments.rounds, "rows": rows}
    columns = ["agents", "ms_per_step", "us_per_agent", *(f"ratio_{name}" for name in CONTESTANTS)]
    finish(result, arguments, table(rows, columns))


if __name__ == "__main__":
    main()
