"""The cost of a step of a split GPT, one block an agent, beside the plain training loop of the same model.

Turns of the ways of training are interleaved in one process (`interleaved.py`): ratios of CPU times round by round, medians with
bootstrap intervals. `kept_mb` is the most that autograd keeps for backward at a time
during a step: the bytes of `saved_tensors_hooks`, each storage once, parameters left out.
Run: `python benchmarks/split.py --json`, `python benchmarks/split.py --blocks 16 --rounds 3 --json`.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import antiphon
from antiphon.base.memory import keep_memory
from antiphon.engine.metrics.report_by_agent import LossesByAgent
from antiphon.envs import from_tensors, make
from antiphon.running.simulation import Simulation

sys.path.insert(0, str(Path(__file__).parent))
from baselines.gpt_by_hand import VOCABULARY, Gpt, GptByHand
from interleaved import described, finish, parsed, ratio, table, timed

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
    scenario = antiphon.split(
        model,
        [f"blocks.{i}" for i in range(1, blocks)],
        env=env,
        objective={"kind": "classification", "target": "following"},
        batch=batch,
        optimiser={"kind": "adam", "lr": 1e-3},
        **WAYS[way],
    )
    simulation = Simulation(scenario)

    def simulated() -> object:
        simulation.running.advance()
        return LossesByAgent(simulation.running.learned)[f"part{blocks - 1}"]

    system = simulation.running.system
    learners = [agent.learner for agent in system.agents.values()]
    models = [m for channel in system.channels.values() for m in channel.models]
    return simulated, [p for one in (*learners, *models) for p in one.parameters.values()]


class _Box:
    def __init__(self, held: Tensor) -> None:
        self.held = held


class Kept:
    """Counts the bytes that autograd keeps, and the `most` at a time: each storage once, `own` left out."""

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
        rows.append(row)
    return rows


def main() -> None:
    parser = described(__doc__)
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--length", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    arguments = parsed(parser, rounds=15)
    sizes = {name: getattr(arguments, name) for name in ("width", "length", "batch")}
    rows = measure(arguments.blocks, arguments.rounds, **sizes)
    columns = ["way", "ms_per_step", "ratio", "interval_95", "kept_mb"]
    result = {"benchmark": "split", "blocks": arguments.blocks, **sizes, "rows": rows}
    finish(result, arguments, table(rows, columns))


if __name__ == "__main__":
    main()
