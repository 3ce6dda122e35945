"""A step's time beside the least that the machine could take for it.

The least is the sum over all operations that a step of the ring (`ring.py`) must do, each taking the longer of two times: its
floating-point operations at the rate of the machine's batched matrix product of that shape, and the bytes that it must read and
write at the rate of a copy in memory (far larger than the caches). Every product, every pass that torch cannot fold into
a product, and Adam are operations; each tensor counts once per operation that reads or writes it. So the sum knows no
fusion of passes: a program whose intermediates stay in the caches may be faster than it, which is why it says `limit` and the
sum of what must go through memory alone (parameters, gradients read once, Adam's state, messages) stands beside it as `memory`.

Products of each shape (64 agents at a time, in the caches), a copy, and the backend's steps are timed in turn, in one process;
each round gives one ratio step / limit; the figure is the median with a bootstrap interval. Demanded is at most 2.
Run: `python benchmarks/roofline.py --agents 1024 --json`.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from antiphon.nets.memory import keep_memory

sys.path.insert(0, str(Path(__file__).parent))
from interleaved import Times, clock_of, finish, interval, parsed, table, timed
from ring import BATCH, HIDDEN, SIZE, ring, simulate

DEMAND = 2.0
FLOAT = 4
CHUNK = 64
COPIED = 1 << 26
"""Bytes of the tensor whose copy is timed."""
Shape = tuple[int, int, int]
"""Rows, inner size and columns of one agent's product."""


@dataclass(frozen=True)
class Operation:
    """What every agent does once per step.

    Attributes:
        name: What it is.
        floats: Numbers read and written.
        product: The shape of a matrix product; None: a pass over memory.
    """

    name: str
    floats: int
    product: Shape | None = None

    @property
    def flops(self) -> int:
        """Floating-point operations of the product."""
        return 0 if self.product is None else 2 * int(np.prod(self.product))


def _product(name: str, rows: int, inner: int, columns: int, extra: int = 0) -> Operation:
    floats = rows * inner + inner * columns + rows * columns + extra
    return Operation(name, floats, (rows, inner, columns))


def operations() -> list[Operation]:
    """Return what one agent and its synthetic gradient do in a step."""
    b, m, h = BATCH, SIZE, HIDDEN
    x = y = 2 * m  # observation and message; message and answer
    own = x * h + h + h * y + y
    taught = m * m + m
    return [
        Operation("input: observation and message side by side", b * m + b * x),
        _product("hidden layer", b, x, h, extra=h),
        Operation("relu", 2 * b * h),
        _product("outputs", b, h, y, extra=y),
        Operation("message sent", 2 * b * m),
        Operation("loss and its gradient", 3 * b * m),
        _product("synthetic gradient of the message", b, m, m, extra=m),
        Operation("gradient of the outputs side by side", 2 * b * y),
        _product("gradient of the output weights", y, b, h),
        Operation("gradient of the output biases", b * y + y),
        _product("gradient of the hidden units", b, y, h),
        Operation("relu, backwards", 3 * b * h),
        _product("gradient of the hidden weights", h, b, x),
        Operation("gradient of the hidden biases", b * h + h),
        _product("gradient of the message read", b, h, m),
        Operation("gradient handed to the sender", 2 * b * m),
        _product("predictor: what it says of a message come back", b, m, m, extra=m),
        Operation("predictor: its error", 3 * b * m),
        _product("predictor: gradient of its weights", m, b, m),
        Operation("predictor: gradient of its biases", b * m + m),
        Operation("Adam: read p, g, m, v; write p, m, v", 7 * (own + taught)),
    ]


def least_traffic() -> int:
    """Return the numbers that an agent must read from and write to memory in a step, however all is fused.

    Adam's reads and writes without the gradients, which may stay in the caches; messages and what comes back for them, each
    written once and read by their reader and by the predictor.
    """
    own = 2 * SIZE * HIDDEN + HIDDEN + HIDDEN * 2 * SIZE + 2 * SIZE + SIZE * SIZE + SIZE
    return 6 * own + 5 * BATCH * SIZE


def rates(device: str) -> dict[str, Callable[[], object]]:
    """Return what is timed for the machine's rates: products by shape, and a copy."""
    found: dict[str, Callable[[], object]] = {}
    for shape in dict.fromkeys(op.product for op in operations() if op.product is not None):
        rows, inner, columns = shape
        one = torch.randn(CHUNK, rows, inner, device=device)
        other = torch.randn(CHUNK, inner, columns, device=device)
        out = torch.empty(CHUNK, rows, columns, device=device)

        def multiply(one: torch.Tensor = one, other: torch.Tensor = other, out: torch.Tensor = out) -> None:
            torch.bmm(one, other, out=out)

        found[str(shape)] = multiply
    source = torch.randn(COPIED // FLOAT, device=device)
    target = torch.empty_like(source)
    found["copy"] = lambda: target.copy_(source)
    return found


def limit(times: Times, agents: int) -> tuple[NDArray[np.float64], list[dict[str, Any]]]:
    """Return the least seconds of a step, [rounds], as the sum over its operations; and its terms.

    Args:
        times: Of what `rates` returns, at least.
        agents: N.
    """
    per_byte = times["copy"] / (2 * COPIED)
    least_of_all = 0.0 * per_byte
    terms = []
    for op in operations():
        moved = op.floats * FLOAT * agents * per_byte
        computed = 0.0 * moved
        if op.product is not None:
            computed = times[str(op.product)] / CHUNK * agents
        least = np.maximum(moved, computed)
        least_of_all = least_of_all + least
        terms.append(
            {
                "operation": op.name,
                "shape": None if op.product is None else " x ".join(map(str, op.product)),
                "flop": op.flops * agents,
                "bytes": op.floats * FLOAT * agents,
                "limit_ms": round(float(np.median(least)) * 1e3, 4),
                "by": "rate" if float(np.median(computed)) > float(np.median(moved)) else "memory",
            }
        )
    return least_of_all, terms


def through_memory(times: Times, agents: int) -> NDArray[np.float64]:
    """Return the seconds, [rounds], that what must go through memory in a step takes at the rate of a copy."""
    return least_traffic() * FLOAT * agents * times["copy"] / (2 * COPIED)


def measure(agents: int, backend: str, device: str, rounds: int) -> dict[str, Any]:
    """Return the step's time beside the sum of limits, and its terms."""
    simulation = simulate(ring(agents), backend, device=device)
    contestants: dict[str, Callable[[], object]] = {"step": simulation.step, **rates(device)}
    times = timed(contestants, rounds, clock=clock_of(device))
    least, terms = limit(times, agents)
    memory = through_memory(times, agents)
    ratios = times["step"] / least
    best = {op.product: op.flops for op in operations() if op.product is not None}
    return {
        "agents": agents,
        "rounds": rounds,
        "ms_per_step": round(float(np.median(times["step"])) * 1e3, 3),
        "limit_ms": round(float(np.median(least)) * 1e3, 3),
        "ratio": round(float(np.median(ratios)), 3),
        "interval_95": interval(ratios),
        "demand": DEMAND,
        "met": bool(np.median(ratios) <= DEMAND),
        "memory_ms": round(float(np.median(memory)) * 1e3, 3),
        "share_of_bandwidth": round(float(np.median(memory / times["step"])), 3),
        "copy_gb_per_s": round(float(2e-9 * COPIED / np.median(times["copy"])), 2),
        "gflop_per_s": {
            " x ".join(map(str, shape)): round(flops * CHUNK / float(np.median(times[str(shape)])) * 1e-9, 1)
            for shape, flops in best.items()
        },
        "terms": terms,
    }


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agents", type=int, default=1024)
    parser.add_argument("--backend", default="cohort", help="cohort or reference")
    parser.add_argument("--device", default="cpu")
    arguments = parsed(parser, rounds=12)
    torch.set_num_threads(1)
    keep_memory()
    found = measure(arguments.agents, arguments.backend, arguments.device, arguments.rounds)
    result = {"benchmark": "roofline", "backend": arguments.backend, "device": arguments.device, **found}
    low, high = found["interval_95"]
    step = f"step {found['ms_per_step']} ms, limit {found['limit_ms']} ms: {found['ratio']} times the limit"
    memory = (
        f"through memory alone {found['memory_ms']} ms: {found['share_of_bandwidth']:.0%} of the bandwidth"
    )
    lines = [
        *table(found["terms"], ["operation", "shape", "flop", "bytes", "limit_ms", "by"]),
        "",
        f"{step} (95 % interval {low} to {high}; demanded: at most {DEMAND})",
        f"{memory} of a copy, {found['copy_gb_per_s']} GB/s",
    ]
    finish(result, arguments, lines)


if __name__ == "__main__":
    main()
