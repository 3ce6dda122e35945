"""What a ring of N agents (`ring.py`) takes of memory at its peak, beside what it must hold.

A fresh process imports torch and antiphon, steps a ring of two agents and notes its resident memory: that is subtracted.
Then it builds and steps the big ring; the peak is the kernel's own figure (VmHWM), reset before each part where the kernel
allows it. What must be held is the sum of parameters and optimiser state of agents and predictors, and one window's
activations: input, hidden units and outputs of every agent, each once. Demanded is at most 1.5 times that (`ratio`).

The peak has more in it: gradients of the parameters, all of which are checked before any parameter moves; messages and
their gradients in flight; objects of Python and torch, some 50 kB an agent (`objects`: what has grown by building, parameters
left out); and freed memory that malloc keeps and cannot use again (`nets/memory.py`). `ratio_tensors` is that of tensors alone:
the most bytes of storages that were alive after any operation of a step, counted in two more steps.
Run: `python benchmarks/memory.py --agents 4096 --json` (Linux).
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from antiphon.nets.memory import keep_memory

sys.path.insert(0, str(Path(__file__).parent))
from interleaved import finish, parsed, table
from ring import BATCH, HIDDEN, SIZE, ring, simulate

DEMAND = 1.5
FLOAT = 4
MB = 1 << 20
STEPS = 5


def needed(agents: int) -> dict[str, int]:
    """Return the bytes that must be held, by what holds them."""
    own = 2 * SIZE * HIDDEN + HIDDEN + HIDDEN * 2 * SIZE + 2 * SIZE
    taught = SIZE * SIZE + SIZE
    numbers = FLOAT * agents * (own + taught)
    return {
        "parameters": numbers,
        "optimiser_state": 2 * numbers,
        "activations": FLOAT * agents * BATCH * (2 * SIZE + HIDDEN + 2 * SIZE),
    }


def resident(key: str) -> int:
    """Return bytes of this process that the kernel calls VmRSS (now) or VmHWM (at its peak)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) * 1024
    raise LookupError(f"/proc/self/status says nothing of {key}")


def _forget_peak() -> bool:
    """Let the peak be what there is now; False: the kernel does not let us."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError:
        return False
    return True


class LiveStorages(TorchDispatchMode):
    """Counts the bytes of storages that operations have read or made, as long as these are alive.

    Attributes:
        peak: The most after any operation.
    """

    def __init__(self) -> None:
        super().__init__()
        self.peak = 0
        self._alive: dict[int, tuple[StorageWeakRef, int]] = {}

    def __torch_dispatch__(self, operation: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = operation(*args, **(kwargs or {}))
        self._alive = {key: one for key, one in self._alive.items() if not one[0].expired()}
        for leaf in tree_leaves((args, kwargs, made)):
            if isinstance(leaf, torch.Tensor):
                storage = leaf.untyped_storage()
                if storage._cdata not in self._alive:
                    self._alive[storage._cdata] = StorageWeakRef(storage), storage.nbytes()
        self.peak = max(self.peak, sum(held for _, held in self._alive.values()))
        return made


def watched(agents: int, backend: str) -> dict[str, Any]:
    """Return the bytes before, when built, and at the peaks of building and stepping; this process must be fresh."""
    torch.set_num_threads(1)
    keep_memory()
    with simulate(ring(2), backend) as small:
        small.run(steps=STEPS)
    reset = _forget_peak()
    before = resident("VmRSS")
    simulation = simulate(ring(agents), backend)
    building, built = resident("VmHWM"), resident("VmRSS")
    _forget_peak()
    simulation.run(steps=STEPS)
    stepping = resident("VmHWM")
    with LiveStorages() as tensors:
        for _ in range(2):
            simulation.step()
    return {
        "before": before,
        "building": building,
        "built": built,
        "stepping": stepping,
        "tensors": tensors.peak,
        "reset": reset,
    }


def measure(agents: int, backend: str) -> dict[str, Any]:
    """Return the peak of a fresh process beside what it must hold."""
    command = [sys.executable, __file__, "--agents", str(agents), "--backend", backend, "--inside"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr.strip().splitlines()[-1])
    seen = json.loads(done.stdout)
    must = needed(agents)
    total = sum(must.values())
    peaks = {part: seen[part] - seen["before"] for part in ("building", "stepping")}
    ratio = max(peaks.values()) / total
    peaks["tensors"] = seen["tensors"]
    return {
        "agents": agents,
        "steps": STEPS,
        "needed_mb": {name: round(held / MB, 1) for name, held in must.items()}
        | {"sum": round(total / MB, 1)},
        "before_mb": round(seen["before"] / MB, 1),
        "peak_mb": {part: round(peak / MB, 1) for part, peak in peaks.items()},
        "objects_mb": round((seen["built"] - seen["before"] - must["parameters"]) / MB, 1),
        "peak_was_reset": seen["reset"],
        "ratio": round(ratio, 3),
        "ratio_tensors": round(seen["tensors"] / total, 3),
        "demand": DEMAND,
        "met": ratio <= DEMAND,
    }


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--agents", type=int, default=4096)
    parser.add_argument("--backend", default="cohort", help="cohort, native or reference")
    parser.add_argument("--inside", action="store_true", help=argparse.SUPPRESS)
    arguments = parsed(parser)
    if arguments.inside:
        print(json.dumps(watched(arguments.agents, arguments.backend)))
        return
    found = measure(arguments.agents, arguments.backend)
    result = {"benchmark": "memory", "backend": arguments.backend, **found}
    rows = [{"what": name, "MB": held} for name, held in found["needed_mb"].items()]
    rows += [{"what": f"peak of {part}", "MB": held} for part, held in found["peak_mb"].items()]
    rows.append({"what": "objects", "MB": found["objects_mb"]})
    rows.append({"what": "process before (subtracted)", "MB": found["before_mb"]})
    said = f"peak / sum: {found['ratio']} (demanded: at most {DEMAND}); of tensors alone {found['ratio_tensors']}"
    finish(result, arguments, [*table(rows, ["what", "MB"]), "", said])


if __name__ == "__main__":
    main()
