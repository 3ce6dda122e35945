"""The cost of a step of a split GPT, one block an agent, beside the plain training loop of the same model.

Turns of the ways of training are interleaved in one process (`interleaved.py`): ratios of CPU times round by round, medians with
bootstrap intervals. Demanded is at most 1.10 of the plain loop's time for a locked split, and at most 1.25 for a decoupled one
with local losses, whose heads are more work than the loop has. `kept_mb` is the most that autograd keeps for backward at a time
during a step: the bytes of `saved_tensors_hooks`, each storage once, parameters left out.
Run: `python benchmarks/split.py --json`, `python benchmarks/split.py --blocks 16 --rounds 3 --json`.

With `--parts N` nothing is timed: the peak memory of the plain loop's process after its imports, and that of each part's process
on Ray after `import torch`, the least first, with the states that the parts hand over at the end of the run:
`python benchmarks/split.py --parts 4 --blocks 16 --width 512 --length 64 --batch 16 --json`.
"""

from __future__ import annotations

import argparse
import os
import sys
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import antiphon
from antiphon.base.memory import keep_memory
from antiphon.engine.metrics.report_by_agent import LossesByAgent
from antiphon.envs import from_tensors, make
from antiphon.running.simulation import Simulation
from antiphon.scenarios import Scenario

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parent / "slow_line")]
from baselines.gpt_by_hand import VOCABULARY, Gpt, GptByHand
from interleaved import finish, parsed, ratio, table, timed
from training import megabytes_after_import, peak

PLAIN, CHECKPOINTED = "plain loop", "plain loop, checkpointed"
LOCAL = {"kind": "local", "target": "following"}
WAYS: dict[str, dict[str, Any]] = {
    "locked": {"coupling": "locked", "sweep": True},
    "decoupled, sweep": {"gradient": LOCAL, "sweep": True},
    "decoupled, no sweep": {"gradient": LOCAL, "sweep": False},
    PLAIN: {},
    CHECKPOINTED: {},
}
"""Ways of training; of a split, what is given to `antiphon.split`."""
STEPS = 8
WORKER = b"ray::PartWorker"
DEMANDS = {"locked": 1.10, "decoupled, sweep": 1.25}


def data(length: int, batch: int) -> Any:
    """Return an environment of sequences in which each token follows from the two before it, with some noise."""
    torch.manual_seed(0)
    count = 4 * batch
    tokens = torch.randint(VOCABULARY, (count, length + 1))
    for place in range(2, length + 1):
        known = (3 * tokens[:, place - 1] + tokens[:, place - 2]) % VOCABULARY
        tokens[:, place] = torch.where(torch.rand(count) < 0.9, known, tokens[:, place])
    return from_tensors(
        tokens=tokens[:, :-1], following=tokens[:, 1:], training_only=["following"], test=0.0, validation=0.0
    )


def prepared(
    way: str, blocks: int, *, width: int, length: int, batch: int
) -> tuple[Callable[[], object], list[Tensor]]:
    """Return what takes one training step in one of the ways, and the parameters that it changes."""
    env = data(length, batch)
    torch.manual_seed(0)
    model = Gpt(blocks, width, length, recompute=way == CHECKPOINTED)
    if not WAYS[way]:
        hand = GptByHand(model)
        source = make(env, batch=batch)
        source.request({"tokens", "following"})
        shown = list(source.reset(seed=0))

        def step() -> object:
            loss = hand.step(shown[0]["tokens"], shown[1]["following"])
            shown[0], _, _, _, shown[1] = source.step(None)
            return loss

        return step, list(model.parameters())
    simulation = Simulation(_split(model, [f"blocks.{i}" for i in range(1, blocks)], env, batch, **WAYS[way]))

    def simulated() -> object:
        simulation.running.advance(
            keep_messages=False
        )  # as in the middle of a run, at a step that nobody looks at
        return LossesByAgent(simulation.learned)[f"part{blocks - 1}"]

    system = simulation.running.system
    learners = [agent.learner for agent in system.agents.values()]
    models = [m for channel in system.channels.values() for m in channel.models]
    return simulated, [p for one in (*learners, *models) for p in one.parameters.values()]


def _split(model: Gpt, at: int | list[str], env: Any, batch: int, **how: Any) -> Scenario:
    objective = {"kind": "classification", "target": "following"}
    adam = {"kind": "adam", "lr": 1e-3}
    return antiphon.split(model, at, env=env, objective=objective, batch=batch, optimiser=adam, **how)


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
        box, storage = _Box(tensor.detach()), tensor.untyped_storage()  # an output's graph would hold the box
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


def measure(blocks: int, rounds: int, **sizes: int) -> list[dict[str, Any]]:
    """Return a row for each way of training."""
    torch.set_num_threads(1)
    keep_memory()
    steps, kept = {}, {}
    for way in WAYS:
        steps[way], own = prepared(way, blocks, **sizes)
        for _ in range(3):  # buffers are there, gradients set
            steps[way]()
        kept[way] = Kept(own).during(steps[way])
    times = timed(steps, rounds, seconds=0.5)
    rows: list[dict[str, Any]] = []
    for way in WAYS:
        median, low_high = ratio(times, way, PLAIN)
        row = {"way": way, "ms_per_step": round(float(1e3 * sorted(times[way])[rounds // 2]), 1)}
        row |= {"ratio": median, "interval_95": low_high, "kept_mb": round(kept[way] / (1 << 20), 1)}
        if way in DEMANDS:
            row |= {"demand": DEMANDS[way], "met": median <= DEMANDS[way]}
        rows.append(row)
    return rows


def plain_peak(blocks: int, **sizes: int) -> float:
    """Return the most megabytes that the plain loop adds to this process."""
    torch.set_num_threads(1)
    before = peak(os.getpid())
    step, _ = prepared(PLAIN, blocks, **sizes)
    for _ in range(STEPS):
        step()
    return peak(os.getpid()) - before


def memory(parts: int, blocks: int, **sizes: int) -> list[dict[str, Any]]:
    """Return a row for the plain loop and for each part of a split, with its peak memory."""
    with ProcessPoolExecutor(1, get_context("spawn")) as other:
        plain = other.submit(plain_peak, blocks, **sizes).result()
    scenario = _split(
        Gpt(blocks, sizes["width"], sizes["length"]),
        parts,
        data(sizes["length"], sizes["batch"]),
        sizes["batch"],
    )
    with Simulation(scenario, parts={"count": parts, "ray": "local", "delay": 1}) as simulation:
        simulation.run(STEPS, progress=False)
        commands = Path("/proc").glob("[0-9]*/cmdline")
        workers = sorted(int(one.parent.name) for one in commands if one.read_bytes().startswith(WORKER))
        peaks = [peak(worker) - megabytes_after_import() for worker in workers]
    found = {PLAIN: plain, **{f"part {i}": one for i, one in enumerate(sorted(peaks))}}
    return [
        {"process": name, "peak_mb": round(one), "share": round(one / plain, 3)}
        for name, one in found.items()
    ]


def main() -> None:
    """Parse arguments, measure, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--parts", type=int, default=0, help="measure the memory of so many parts instead")
    arguments = parsed(parser, rounds=15)
    sizes = {name: getattr(arguments, name) for name in ("width", "length", "batch")}
    if arguments.parts:
        rows = memory(arguments.parts, arguments.blocks, **sizes)
        result = {"benchmark": "split_parts", "blocks": arguments.blocks, **sizes, "rows": rows}
        return finish(result, arguments, table(rows, ["process", "peak_mb", "share"]))
    rows = measure(arguments.blocks, arguments.rounds, **sizes)
    met = all(row.get("met", True) for row in rows)
    columns = ["way", "ms_per_step", "ratio", "interval_95", "kept_mb", "demand", "met"]
    result = {"benchmark": "split", "blocks": arguments.blocks, **sizes, "rows": rows, "met": met}
    finish(result, arguments, table(rows, columns))


if __name__ == "__main__":
    main()
