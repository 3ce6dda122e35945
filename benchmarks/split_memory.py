"""What is kept for backward, and the peak memory of a step, of a GPT with one block an agent: by depth and way of training.

Each way at each depth is a fresh process. It is prepared and takes some steps under torch's profiler: the peak is the most bytes
of tensors that exist at a time during the last one, parameters, optimiser state, gradients, data and copies of the model
included. Another is taken under `saved_tensors_hooks`, which count the bytes that autograd keeps (each storage once, parameters
left out). What checkpointing computes again, and keeps while it differentiates a block, is in its peak alone.

`--limit MB` instead trains the deepest model locked and decoupled, each in a process that may have so much address space
(`ulimit -v`), and reports which of them gets through, and the loss at its first and last step.
Run: `python benchmarks/split_memory.py --json` (Linux), `python benchmarks/split_memory.py --limit 1300 --json`.
"""

from __future__ import annotations

import argparse
import gc
import json
import subprocess
import sys
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.profiler import ProfilerActivity, profile, record_function

sys.path.insert(0, str(Path(__file__).parent))
from interleaved import finish, parsed, table
from split_gpt import WAYS, prepared

MB = 1 << 20
DEPTHS = (4, 8, 16)
WARM = 3
"""Steps before the one that is measured."""
KEPT_DEMAND = 1.3
SWEEP, LOCKED, CHECKPOINTED = "decoupled, sweep", "locked", "plain loop, checkpointed"
STEPS = 20
"""Of each way under a limit."""


class _Box:
    def __init__(self, held: Tensor) -> None:
        self.held = held


class Kept:
    """Counts the bytes that autograd keeps: each storage once, `own` left out.

    Attributes:
        most: The most at a time.
    """

    def __init__(self, own: Sequence[Tensor]) -> None:
        self.now = self.most = 0
        self._own = {p.untyped_storage()._cdata for p in own}
        self._holders: dict[int, int] = {}

    def _freed(self, storage: int, size: int) -> None:
        self._holders[storage] -= 1
        if not self._holders[storage]:
            del self._holders[storage]
            self.now -= size

    def _pack(self, tensor: Tensor) -> _Box:
        box, storage = (
            _Box(tensor.detach()),
            tensor.untyped_storage(),
        )  # an output's own graph would hold the box
        key, size = storage._cdata, storage.nbytes()
        if key not in self._own:
            if key not in self._holders:
                self.now += size
                self.most = max(self.most, self.now)
            self._holders[key] = self._holders.get(key, 0) + 1
            weakref.finalize(box, self._freed, key, size)
        return box

    def during(self, step: Callable[[], object]) -> int:
        """Return the most bytes kept at a time while a step is taken."""
        with torch.autograd.graph.saved_tensors_hooks(self._pack, lambda box: box.held):
            step()
        return self.most


def _peak(way: str, blocks: int, sizes: dict[str, int]) -> int:
    """Return the most bytes of tensors at a time during a step; all that exist are made under the profiler, which counts
    the release of no other."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step, _ = prepared(way, blocks, **sizes)
        for _ in range(WARM):
            step()
        gc.collect()
        with record_function("measured"):
            step()
    events = record.profiler.kineto_results.events()
    start = next(event.start_ns() for event in events if event.name() == "measured")
    now = most = 0
    for event in sorted((e for e in events if e.name() == "[memory]"), key=lambda event: event.start_ns()):
        now += event.nbytes()
        most = max(most, now) if event.start_ns() >= start else now
    return most


def _kept(way: str, blocks: int, sizes: dict[str, int]) -> dict[str, int]:
    """Return the bytes that autograd keeps in a step, and the number of parameters."""
    step, own = prepared(way, blocks, **sizes)
    for _ in range(WARM):
        step()
    return {"kept": Kept(own).during(step), "parameters": sum(p.numel() for p in own)}


def inside(way: str, blocks: int, sizes: dict[str, int]) -> dict[str, Any]:
    """Return the bytes of one way at one depth; this process must be fresh."""
    torch.set_num_threads(1)
    return {"peak": _peak(way, blocks, sizes), **_kept(way, blocks, sizes)}


def training(way: str, blocks: int, sizes: dict[str, int]) -> dict[str, Any]:
    """Return the loss of one way at its first and last step."""
    torch.set_num_threads(1)
    step, _ = prepared(way, blocks, **sizes)
    losses = []
    for _ in range(STEPS):
        found = step()
        assert isinstance(found, Tensor)
        losses.append(found.item())
    return {"first_loss": round(losses[0], 3), "last_loss": round(losses[-1], 3)}


def _command(arguments: argparse.Namespace, what: str, way: str, blocks: int) -> list[str]:
    sizes = [str(x) for name in ("width", "length", "batch") for x in (f"--{name}", getattr(arguments, name))]
    return [sys.executable, __file__, *sizes, "--inside", what, "--way", way, "--depth", str(blocks)]


def measured(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return what each way takes at each depth, and which demands are met."""
    rows: list[dict[str, Any]] = []
    for blocks in arguments.depths:
        for way in WAYS:
            done = subprocess.run(
                _command(arguments, "bytes", way, blocks), capture_output=True, text=True, check=False
            )
            if done.returncode:
                sys.exit(done.stderr.strip().splitlines()[-1])
            found = json.loads(done.stdout)
            rows.append(
                {"blocks": blocks, "way": way, "parameters": found["parameters"]}
                | {f"{name}_mb": round(found[name] / MB, 1) for name in ("kept", "peak")}
            )
            if not arguments.json:
                print(rows[-1], file=sys.stderr)
    by = {(row["blocks"], row["way"]): row for row in rows}
    few, many = min(arguments.depths), max(arguments.depths)
    growth = round(by[many, SWEEP]["kept_mb"] / by[few, SWEEP]["kept_mb"], 3)
    below = {
        blocks: round(by[blocks, SWEEP]["peak_mb"] / by[blocks, CHECKPOINTED]["peak_mb"], 3)
        for blocks in arguments.depths
    }
    locked = {
        blocks: round(by[blocks, LOCKED]["peak_mb"] / by[blocks, SWEEP]["peak_mb"], 2)
        for blocks in arguments.depths
    }
    met = growth <= KEPT_DEMAND and all(share < 1 for blocks, share in below.items() if blocks > few)
    return {
        "rows": rows,
        "kept_growth": growth,
        "demand_kept_growth": KEPT_DEMAND,
        "peak_over_checkpointed": below,
        "locked_peak_over_peak": locked,
        "met": met,
    }


def limited(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return which way trains the deepest model within the address space given."""
    blocks = max(arguments.depths)
    rows = []
    for way in (LOCKED, SWEEP):
        command = _command(arguments, "training", way, blocks)
        done = subprocess.run(
            ["bash", "-c", f'ulimit -v {arguments.limit * 1024}; exec "$@"', "-", *command],
            capture_output=True,
            text=True,
            check=False,
        )
        ends = {"error": done.stderr.strip().splitlines()[-1]} if done.returncode else json.loads(done.stdout)
        rows.append({"blocks": blocks, "way": way, "trains": done.returncode == 0, **ends})
    return {
        "limit_mb": arguments.limit,
        "steps": STEPS,
        "rows": rows,
        "met": not rows[0]["trains"] and rows[1]["trains"],
    }


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--depths", type=lambda text: [int(d) for d in text.split(",")], default=DEPTHS)
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--limit", type=int, help="MB of address space: train locked and decoupled in it")
    for name in ("--inside", "--way"):
        parser.add_argument(name, help=argparse.SUPPRESS)
    parser.add_argument("--depth", type=int, help=argparse.SUPPRESS)
    arguments = parsed(parser)
    sizes = {name: getattr(arguments, name) for name in ("width", "length", "batch")}
    if arguments.inside:
        measure = inside if arguments.inside == "bytes" else training
        print(json.dumps(measure(arguments.way, arguments.depth, sizes)))
        return
    found = measured(arguments) if arguments.limit is None else limited(arguments)
    name = "split_memory" if arguments.limit is None else "split_memory-limit"
    columns = list(dict.fromkeys(column for row in found["rows"] for column in row))
    said = [f"{key}: {value}" for key, value in found.items() if key != "rows"]
    finish({"benchmark": name, **sizes, **found}, arguments, [*table(found["rows"], columns), "", *said])


if __name__ == "__main__":
    main()
