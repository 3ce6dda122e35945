"""One model, cut into parts: what is learned after equal steps, by what each part learns from.

Models are a GPT of 8 blocks, judged by bits per character of held-out text, and with `--task resnet` a residual network of 8 blocks
on `cluttered_mnist`, judged by wrong pictures in per cent, whose learning rate falls along a cosine. Ways, each with Adam:

    backprop          the plain loop, not cut
    heads:N           the plain loop, and the losses of the heads that `aug_local` has with N parts, through the whole model
    aug_local:N       `antiphon.split` into N parts; as shipped: each learns from a copy of one later block and of the last layers
    aug_local-1:N     the same, pipelined: messages take one step (`delay=1`); aug_local-2, aug_local-3: two, three
    aug_local-2-8:N   messages take two steps, and a component 8 bits; aug_local-2-4: 4
    aug_local+1:N     copies of two later blocks; aug_local+1-1: pipelined
    lens:N, local:N, linear:N, detached:N        other learning signals of `split`
    delayed-1:N       the true gradient, when it has come back over channels that take one step each way

With several `--rates`, each way has the rate that is best by the validation split on a seed of its own; where that is at an end,
rates beyond are tried too. A model is judged after each of `--steps`. With the same `--out`, runs that have a record are not taken
again. docs/results/split-credit.md says how long the runs take that it reports, from `benchmarks/results/credit.jsonl`.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from functools import partial
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

import antiphon
from antiphon.agents.models import GPT, ResNet
from antiphon.envs.images import picture_table
from antiphon.nets.schedules import CosineSchedule, Schedule
from antiphon.telemetry.statistics import mean

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "slow_line")]
from heads import WithHeads
from interleaved import table
from machine import machine
from task import STANDARD, Windows, bits, new_model, text_name
from tuning import TUNED, best_rate, compared

BLOCKS, PARTS = 8, (2, 4, 8)
DEFAULT = (
    "backprop",
    *(f"{kind}:{parts}" for kind in ("heads", "aug_local", "aug_local-1") for parts in PARTS),
    *(f"{kind}:{parts}" for kind in ("lens", "local", "detached", "delayed-1") for parts in PARTS),
    "linear:2",
)
CREDIT: dict[str, dict[str, Any]] = {
    "aug_local": {"gradient": "aug_local", "delay": 0},
    **{f"aug_local-{delay}": {"gradient": "aug_local", "delay": delay} for delay in (1, 2, 3)},
    **{f"aug_local-2-{bits}": {"gradient": "aug_local", "delay": 2, "bits": bits} for bits in (8, 4)},
    "aug_local+1": {"gradient": {"kind": "aug_local", "layers": 2}, "delay": 0},
    "aug_local+1-1": {"gradient": {"kind": "aug_local", "layers": 2}, "delay": 1},
    "lens": {"gradient": "lens", "delay": 0},
    "local": {"gradient": "local", "delay": 0},
    "linear": {"gradient": {"kind": "linear"}, "delay": 0},
    "detached": {"coupling": "detached", "delay": 0},
    "delayed-1": {"coupling": "delayed", "delay": 1},
}
"""Arguments of `split`, by way."""


Batches = Callable[[], tuple[Tensor, Tensor]]
"""What returns the next batch: inputs, and their targets."""


class Task(Protocol):
    """A model, and what it learns.

    Attributes:
        unit: Of its scores, which are to be small.
        falls: Whether the learning rate falls to zero along a cosine.
    """

    unit: str
    falls: bool

    def model(self, seed: int) -> GPT | ResNet:
        """Return the model with its initial parameters."""
        ...

    def batches(self, seed: int) -> Batches:
        """Return what draws batches of the train split."""
        ...

    def scenario(self) -> dict[str, Any]:
        """Return arguments of `split`: the environment, the objective and the size of a batch."""
        ...

    def score(self, state: dict[str, Tensor], split: str) -> float:
        """Return the score of parameters on a split."""
        ...


class Text:
    """A GPT predicts the next character of a text.

    Args:
        width: Features of a token.
        batch: Windows of a step.
    """

    unit, falls = "bits per character", False

    def __init__(self, width: int, batch: int) -> None:
        self._shape = replace(STANDARD, width=width, batch=batch, blocks=BLOCKS)

    def model(self, seed: int) -> GPT:
        return new_model(seed, self._shape)

    def batches(self, seed: int) -> Batches:
        return Windows(self._shape.batch, seed, self._shape.length)

    def scenario(self) -> dict[str, Any]:
        env = {"id": "antiphon/TextWindows-v0", "text": text_name(), "length": self._shape.length}
        return {
            "env": env,
            "objective": {"kind": "coding", "target": "following"},
            "batch": self._shape.batch,
        }

    def score(self, state: dict[str, Tensor], split: str) -> float:
        return bits(state, split, self._shape)


class Pictures:
    """A residual network classifies pictures.

    Args:
        width: Channels of its first two blocks; each later pair has twice as many.
        batch: Pictures of a step.
    """

    unit, falls = "wrong, per cent", True
    _AT_ONCE = 500

    def __init__(self, width: int, batch: int) -> None:
        self._width, self._batch = width, batch
        self._table = picture_table("cluttered_mnist", "cpu")

    def model(self, seed: int) -> ResNet:
        torch.manual_seed(seed)
        return ResNet(1, 10, channels=self._width, stages=(2,) * (BLOCKS // 2))

    def _read(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        columns = self._table.columns
        side = round(columns["image"].shape[1] ** 0.5)
        images = columns["image"][rows].view(-1, 1, side, side)
        return images / self._table.divisors["image"], columns["label"][rows]

    def batches(self, seed: int) -> Batches:
        generator, rows = torch.Generator().manual_seed(seed), self._table.splits["train"]
        return lambda: self._read(rows[torch.randint(len(rows), (self._batch,), generator=generator)])

    def scenario(self) -> dict[str, Any]:
        return {
            "env": {"id": "antiphon/Digits-v0", "data": "cluttered_mnist", "sampling": "with_replacement"},
            "objective": {"kind": "classification", "target": "label"},
            "batch": self._batch,
        }

    @torch.no_grad()
    def score(self, state: dict[str, Tensor], split: str) -> float:
        model = self.model(0).eval()
        model.load_state_dict(state)
        rows = self._table.splits[split]
        batches = (self._read(each) for each in rows.split(self._AT_ONCE))
        wrong = sum(int((model(images).argmax(1) != labels).sum()) for images, labels in batches)
        return 100 * wrong / len(rows)


TASKS: dict[str, type[Text | Pictures]] = {"gpt": Text, "resnet": Pictures}
SIZES = {"gpt": (STANDARD.width, STANDARD.batch), "resnet": (8, 32)}
"""Width and batch."""


def first_blocks(parts: int) -> list[int]:
    """Return the block that each part but the first begins with."""
    return [BLOCKS * part // parts for part in range(1, parts)]


def plain(task: Task, cuts: Sequence[int], run: dict[str, Any]) -> Iterator[dict[str, Tensor]]:
    """Train the whole model in a loop, with heads at the cuts, and yield its parameters after each of the steps."""
    whole = WithHeads(task.model(run["seed"]), cuts)
    adam = torch.optim.Adam(whole.parameters(), lr=run["lr"])
    schedule = CosineSchedule(scale=0.0) if task.falls else Schedule()
    batches = task.batches(run["seed"])
    for step in range(run["steps"][-1]):
        for group in adam.param_groups:
            group["lr"] = run["lr"] * schedule.at_step(step, run["steps"][-1])
        adam.zero_grad()
        torch.stack(list(whole.losses(*batches()))).sum().backward()
        adam.step()
        if step + 1 in run["steps"]:
            yield whole.model.state_dict()


def split(task: Task, kind: str, cuts: Sequence[int], run: dict[str, Any]) -> Iterator[dict[str, Tensor]]:
    """Train the model cut into parts, and yield its parameters after each of the steps."""
    schedule = {"kind": "cosine", "scale": 0.0} if task.falls else {"kind": "constant"}
    adam = {"kind": "adam", "lr": run["lr"], "schedule": schedule}
    scenario = antiphon.split(
        task.model(run["seed"]),
        at=[f"blocks.{block}" for block in cuts],
        steps=run["steps"][-1],
        optimiser=adam,
        predictor=adam,
        **task.scenario(),
        **CREDIT[kind],
    )
    with antiphon.Simulation(scenario, seed=run["seed"]) as simulation:
        for before, after in pairwise([0, *run["steps"]]):
            simulation.run(after - before, progress=False)
            yield antiphon.join(simulation).state_dict()


def measured(run: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the records of a run, one for each of its steps: the scores on both splits, and the seconds of processor time."""
    torch.set_num_threads(1)
    task = TASKS[run["task"]](run["width"], run["batch"])
    kind, _, parts = run["way"].partition(":")
    cuts = first_blocks(int(parts)) if parts else []
    train = plain(task, cuts, run) if kind in ("backprop", "heads") else split(task, kind, cuts, run)
    found, seconds = [], 0.0
    for step in run["steps"]:
        start = time.process_time()
        state = next(train)
        seconds += time.process_time() - start
        scores = {name: round(task.score(state, name), 4) for name in ("validation", "test")}
        named = {**run, "steps": step, "until": run["steps"][-1]}
        found.append({**named, **scores, "cpu_seconds": round(seconds, 1)})
    return found


class Records:
    """Records of runs, kept in a file of JSON lines.

    Args:
        path: Of the file; None: they are not kept.
        named: Keys that all runs have: `task`, `width`, `batch`.
        steps: After which each is judged.
    """

    _KEYS = ("task", "width", "batch", "until", "way", "seed", "lr", "steps")

    def __init__(self, path: Path | None, named: dict[str, Any], steps: Sequence[int]) -> None:
        self._path, self._named, self._steps = path, named, steps
        lines = path.read_text(encoding="utf-8").splitlines() if path and path.exists() else []
        self._found = {tuple(record[key] for key in self._KEYS): record for record in map(json.loads, lines)}

    def of(self, way: str, seed: int, rate: float, steps: int) -> dict[str, Any] | None:
        """Return the record of a run after some steps; None: there is none."""
        return self._found.get((*self._named.values(), self._steps[-1], way, seed, rate, steps))

    def validation(self, way: str, rate: float) -> float | None:
        """Return the score by which rates are compared."""
        record = self.of(way, TUNED, rate, self._steps[-1])
        return None if record is None else record["validation"]

    def take(self, runs: Sequence[tuple[str, int, float]], jobs: int) -> None:
        """Take the runs (way, seed, rate) that lack a record after one of the steps."""
        about = machine()
        missing = [run for run in runs if any(self.of(*run, step) is None for step in self._steps)]
        settings = [
            {**self._named, "way": way, "seed": seed, "lr": rate, "steps": [*self._steps]}
            for way, seed, rate in missing
        ]
        with ProcessPoolExecutor(jobs, get_context("spawn")) as pool:
            for number, done in enumerate(as_completed([pool.submit(measured, run) for run in settings]), 1):
                for record in done.result():
                    self._found[tuple(record[key] for key in self._KEYS)] = record
                    if self._path:
                        with self._path.open("a", encoding="utf-8") as file:
                            file.write(json.dumps({**record, "machine": about}) + "\n")
                place = f"{record['way']} lr {record['lr']:g} seed {record['seed']}"
                print(f"{number}/{len(missing)} {place}: {record['test']}", file=sys.stderr, flush=True)


def shown(each: Sequence[float]) -> str:
    """Return a mean and the half of its interval."""
    found = mean(each, share=False)
    return f"{found.value:.3f}" + ("" if found.high is None else f" ± {found.high - found.value:.3f}")


def main() -> None:
    """Take the runs that have no record, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=TASKS, default="gpt")
    parser.add_argument("--width", type=int, help="features, or channels (default: 96, 8)")
    parser.add_argument("--batch", type=int, help="windows, or pictures (default: 16, 32)")
    parser.add_argument("--ways", default=",".join(DEFAULT), help="with commas")
    parser.add_argument("--steps", default="600", help="with commas, rising; the last ends a run")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rates", default="1e-3", help="with commas, rising")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes, of one thread each")
    parser.add_argument("--out", type=Path, help="file of JSON lines: runs that it has are not taken again")
    parser.add_argument("--json", action="store_true", help="print the results as JSON in the last line")
    arguments = parser.parse_args()
    ways, rates = arguments.ways.split(","), [float(rate) for rate in arguments.rates.split(",")]
    steps = [int(step) for step in arguments.steps.split(",")]
    for way in ways:
        kind, _, parts = way.partition(":")
        if kind not in ("backprop", "heads", *CREDIT) or (kind == "backprop") == bool(parts):
            parser.error(f"no way {way!r}; see --help")
    width, batch = SIZES[arguments.task]
    named = {
        "task": arguments.task,
        "width": arguments.width or width,
        "batch": arguments.batch or batch,
    }
    records = Records(arguments.out, named, steps)
    known = {way: partial(records.validation, way) for way in ways}
    while tuned := [
        (way, TUNED, rate)
        for way in ways
        for rate in compared(rates, known[way])
        if len(rates) > 1 and known[way](rate) is None
    ]:
        records.take(tuned, arguments.jobs)
    chosen = {way: best_rate(rates, known[way]) for way in ways}
    records.take(
        [(way, seed, chosen[way]) for seed in range(arguments.seeds) for way in ways], arguments.jobs
    )
    found = {
        (way, step): [records.of(way, seed, chosen[way], step) for seed in range(arguments.seeds)]
        for way in ways
        for step in steps
    }
    tests = {key: [record["test"] for record in each] for key, each in found.items()}
    rows = []
    for way in ways:
        seconds = sum(record["cpu_seconds"] for record in found[way, steps[-1]]) / arguments.seeds
        row = {"way": way, "rate": chosen[way], "cpu_ms": round(1000 * seconds / steps[-1])}
        heads = f"heads:{way.partition(':')[2]}"
        for step in steps:
            row[f"after_{step}"] = shown(tests[way, step])
            if heads in ways and heads != way:
                pairs = zip(tests[way, step], tests[heads, step], strict=True)
                row[f"minus_heads_{step}"] = shown([one - other for one, other in pairs])
        rows.append(row)
    columns = [f"{what}_{step}" for what in ("after", "minus_heads") for step in steps]
    print(f"{TASKS[arguments.task].unit} (test split), {arguments.seeds} seeds")
    print("\n".join(table(rows, ["way", "rate", "cpu_ms", *columns])))
    if arguments.json:
        print(json.dumps({"rows": rows, "machine": machine()}))


if __name__ == "__main__":
    main()
