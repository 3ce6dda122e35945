"""What a step of N small agents costs on a backend, and how many times as much elsewhere.

A ring (`ring.py`): MLPs 64-64-64, batch 32, messages of 32 with delay 1, a linear synthetic gradient per channel, Adam.
Contestants, all in one process with the same settings of malloc, their turns interleaved (`interleaved.py`):

- `reference`: the same scenario on the reference backend;
- `plain_loop`: a loop over `nn.Module`s with default Adam (`baselines/ring_loop.py`), `plain_loop_fused`: with fused Adam;
- `stacked`: the best program stacked by hand for exactly this case (`baselines/ring_stacked.py`), its gradients written
  out, `stacked_autograd`: the same with autograd's; in chunks of agents chosen by a short timing (variant `base` only);
- `stacked_captured`: the first of these with all agents at once, six of its steps as one CUDA graph (`--device cuda` only);
- `jax`: the same ring in JAX, vmapped and jitted, in a process of its own, chunks chosen likewise (`baselines/ring_jax.py`,
  variant `base` only); `--jax PYTHON` names an interpreter that has it (`pip install jax`), and without one it is left out.

`ratio_limit` is the roofline's time (`roofline.py`), its rates measured in the same rounds: the sum of what a step's operations
take at least, one after the other; what keeps intermediates in the caches may be faster. `share_of_bandwidth` is of a copy's.
Every ratio is the other's time per step / the backend's. First all are checked to compute the same: parameters after 12
steps of float64 from the same start. The environment's cost is in the backend's time; the others read prepared batches.
`--variant p_update`: each agent learns from half of its windows (the loops skip backward pass and optimiser of the others);
`--variant periods`: clock periods 1, 2, 3, 4 in turn. Run: `python benchmarks/agents_scaling.py --agents 16,64,256 --json`.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
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
from roofline import limit, rates, through_memory
from served import Served

CONTESTANTS = (
    "reference",
    "plain_loop",
    "plain_loop_fused",
    "stacked",
    "stacked_autograd",
    "stacked_captured",
    "jax",
)
CHUNKS = (32, 64, 128, 256)
JAX_CHUNKS = (0, 32, 128)
"""0: all agents at once."""
JAX_SETTINGS = {"XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1"}
ROTATION = 6
"""Steps after which the buffers of the program stacked by hand are where they were: three of messages, two of gradients."""
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


def fed_batches(device: str) -> list[tuple[Tensor, Tensor]]:
    """Return the batches that programs by hand take in turn: observations and targets, [32, 32] each."""
    generator = torch.Generator().manual_seed(1)
    observed, wanted = examples()
    found = []
    for _ in range(_BATCHES):
        drawn = torch.randint(len(observed), (BATCH,), generator=generator)
        found.append((observed[drawn].to(device), wanted[drawn].to(device)))
    return found


class Fed:
    """A program by hand with the batches and draws that it is fed.

    Args:
        program: Takes a step.
        rows: How many agents draw, with probability a half; 0: none, all learn.
        device: Of the batches.
    """

    def __init__(self, program: RingLoop | RingStacked, rows: int, device: str) -> None:
        self.program = program
        self._batches = fed_batches(device)
        generator = torch.Generator().manual_seed(2)
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


class Captured:
    """The program stacked by hand as a CUDA graph, replayed once its batches have been copied in.

    Args:
        program: On a CUDA device.
        batches: Taken in turn, one a call.
    """

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
        """Hand over the batch of a step; the last one of a rotation takes its steps."""
        place = self._next % ROTATION
        for slot, each in zip(
            self._slots[place], self._batches[self._next % len(self._batches)], strict=True
        ):
            slot.copy_(each)
        self._next += 1
        if place == ROTATION - 1:
            self._graph.replay()


class Jax:
    """The ring in JAX, in a process of its own.

    Args:
        weights: Stacked by agent.
        batches: Observations and targets, taken in turn.
        python: The interpreter.
        device: cpu or cuda.
    """

    def __init__(
        self, weights: dict[str, Tensor], batches: Sequence[tuple[Tensor, Tensor]], python: str, device: str
    ) -> None:
        double = weights["w1"].dtype == torch.float64
        self.served = Served(
            [python, str(Path(__file__).parent / "baselines" / "ring_jax.py")],
            {**JAX_SETTINGS, "JAX_PLATFORMS": torch.device(device).type, "JAX_ENABLE_X64": str(int(double))},
        )
        self._folder = TemporaryDirectory()
        self._arrays = {name: tensor.cpu().numpy() for name, tensor in weights.items()}
        for name, each in zip(("observed", "wanted"), zip(*batches, strict=True), strict=True):
            self._arrays[name] = torch.stack(each).cpu().numpy()
        self._file = str(Path(self._folder.name) / "ring.npz")

    def start(self, chunk: int) -> str:
        """Start again, in chunks of so many agents; return JAX's version."""
        np.savez(self._file, **self._arrays)
        return str(self.served.request(load=self._file, chunk=chunk)["version"])

    def fastest(self) -> tuple[int, str]:
        """Start in the fastest chunks, and return their size and JAX's version."""
        agents = len(self._arrays["w1"])
        seconds: dict[int, float] = {}
        for chunk in (chunk for chunk in JAX_CHUNKS if chunk < agents and not (chunk and agents % chunk)):
            self.start(chunk)
            seconds[chunk] = float(np.min(timed({"it": self.served}, 3, seconds=0.05)["it"]))
        best = min(seconds, key=seconds.__getitem__)
        return best, self.start(best)

    def parameters(self) -> dict[str, Tensor]:
        """Return all parameters, stacked as they were given."""
        self.served.request(save=self._file)
        with np.load(self._file) as file:
            return {name: torch.from_numpy(file[name]) for name in file}

    def close(self) -> None:
        """End the process."""
        self.served.close()
        self._folder.cleanup()


def has_jax(python: str, device: str) -> bool:
    """Return whether an interpreter can import JAX, and it finds a device of the kind."""
    program = f"import jax; jax.devices({torch.device(device).type!r})"
    return subprocess.run([python, "-c", program], capture_output=True, check=False).returncode == 0


def check(
    agents: int, variant: str, backend: str, device: str, python: str | None = None
) -> dict[str, float]:
    """Return how far programs by hand are from the backend: of all parameters, relative to how far they moved.

    `python` is the interpreter that has JAX; None: JAX is left out.
    """
    simulation = simulate(ring(agents, variant), backend, dtype=torch.float64, device=device)
    weights = parameters(simulation)
    programs = _programs(agents, variant, weights)
    drawn = draws(simulation, _CHECKED) if variant == "p_update" else None
    batches = []
    for step in range(_CHECKED):
        shown = simulation.world.step_signals.signals
        batches.append((shown["observed"].clone(), shown["wanted"].clone()))
        for program in programs.values():
            if drawn is not None and isinstance(program, RingLoop):
                program.step(shown["observed"], shown["wanted"], drawn[step])
            else:
                program.step(shown["observed"], shown["wanted"])
        simulation.step()
    found = {name: program.parameters() for name, program in programs.items()}
    if python is not None and variant == "base":
        with closing(Jax(weights, batches, python, device)) as jax:
            jax.start(min(4, agents))
            jax.served.turn(_CHECKED)
            found["jax"] = {name: each.to(device) for name, each in jax.parameters().items()}
    ours = parameters(simulation)
    moved = {name: (ours[name] - weights[name]).norm() for name in ours}
    return {
        name: max(float((theirs[key] - ours[key]).norm() / moved[key]) for key in ours)
        for name, theirs in found.items()
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
    agents: int,
    variant: str,
    backend: str,
    device: str,
    against: Sequence[str],
    python: str,
    rounds: int,
) -> tuple[dict[str, Any], Callable[[], object]]:
    """Return the figures of N agents, and what takes a step of them on the backend."""
    clock = clock_of(device)
    scenario = ring(agents, variant)
    simulation = simulate(scenario, backend, device=device)
    weights = parameters(simulation)
    contestants: dict[str, Callable[[], object] | Served] = {backend: simulation.step}
    found: dict[str, Any] = {"agents": agents}
    jax = None
    drawing = agents if variant == "p_update" else 0
    for name in against:
        if name == "reference" and backend != "reference":
            contestants[name] = simulate(scenario, "reference", device=device).step
        elif name.startswith("plain_loop"):
            loop = RingLoop(weights, periods(agents, variant), fused=name.endswith("fused"))
            contestants[name] = Fed(loop, drawing, device)
        elif name == "stacked_captured" and variant == "base" and device != "cpu":
            program = RingStacked(weights, BATCH, agents, written=True)
            contestants[name] = Captured(program, fed_batches(device))
        elif name in ("stacked", "stacked_autograd") and variant == "base":
            contestants[name], found[f"chunk_{name}"] = stacked(weights, name == "stacked", device, clock)
        elif name == "jax" and variant == "base":
            jax = Jax(weights, fed_batches(device), python, device)
            found["chunk_jax"], found["jax"] = jax.fastest()
            contestants[name] = jax.served
    multiple = dict.fromkeys(contestants, 12 if variant == "periods" else 1)
    if "stacked_captured" in contestants:
        multiple["stacked_captured"] = ROTATION
    limits = rates(device)
    times = timed(
        {**contestants, **limits}, rounds, multiple=dict.fromkeys(limits, 1) | multiple, clock=clock
    )
    if jax is not None:
        jax.close()
    step = float(np.median(times[backend]))
    found |= {"ms_per_step": round(step * 1e3, 3), "us_per_agent": round(step / agents * 1e6, 1)}
    for name in CONTESTANTS:
        found[f"ratio_{name}"] = found[f"interval_{name}"] = None
        if name in contestants and name != backend:
            found[f"ratio_{name}"], found[f"interval_{name}"] = ratio(times, name, backend)
    if variant == "base":
        times["limit"], _ = limit(times, agents)
        found["ratio_limit"], found["interval_limit"] = ratio(times, "limit", backend)
        shares = through_memory(times, agents) / times[backend]
        found["share_of_bandwidth"] = round(float(np.median(shares)), 3)
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
    parser.add_argument("--jax", default=sys.executable, metavar="PYTHON", help="an interpreter that has JAX")
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
    against = arguments.against.split(",")
    if "jax" in against and not has_jax(arguments.jax, device):
        why = f"{arguments.jax} cannot import it, or it finds no {device}"
        print(f"jax: left out: {why} (pip install jax)", file=sys.stderr)
        against.remove("jax")
    python = arguments.jax if "jax" in against else None
    if arguments.check:
        result["deviation"] = check(min([*sizes, 16]), variant, backend, device, python)
        if not max(result["deviation"].values()) <= TOLERANCE:
            sys.exit(f"contestants do not compute the same: {result['deviation']}")
    fixed = {"variant": variant, "backend": backend, "device": device, "rounds": arguments.rounds}
    measure = partial(row, against=against, python=arguments.jax, **fixed)
    rows, steps = [], {}
    for agents in sizes:
        figures, steps[agents] = measure(agents)
        rows.append(figures)
    result |= {"rounds": arguments.rounds, "rows": rows}
    grown: dict[str, Any] = {}
    if len(steps) > 1:
        grown = growth(steps, 12 if variant == "periods" else 1, device, arguments.rounds)
    result |= {"growth": grown, "missed": missed(rows, variant, grown) if device == "cpu" else []}
    columns = [
        "agents",
        "ms_per_step",
        "us_per_agent",
        *(f"ratio_{name}" for name in (*CONTESTANTS, "limit")),
    ]
    said = [
        f"growth of the time per agent: {grown or '-'}",
        f"missed: {'; '.join(result['missed']) or 'nothing'}",
    ]
    finish(result, arguments, [*table(rows, columns), "", *said])


if __name__ == "__main__":
    main()
