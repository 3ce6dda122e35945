"""What each kind of credit costs a split model in accuracy: a GPT and a residual network, cut before every block.

Every way of training is tried at each of `--rates` with the first seed; its best rate, by the validation split at the end,
then runs with the others. Each run is a process of one thread, and a finished one, kept in `--folder`, is not repeated, so that
an interrupted study goes on where it was and `--only` and `--seeds` add to it. The table has the mean over seeds, their spread
(half the range), CPU seconds per step, and the bytes that autograd keeps for backward.

Run: `python benchmarks/split_credit.py --task gpt --save` (needs `ANTIPHON_DATA/text/moby_dick.txt`), `--task resnet` (MNIST);
`--text embedded` and `--data digits` need nothing.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from antiphon.engine.probes.signal_alignment import signal_alignment
from antiphon.engine.simulation import Simulation
from antiphon.engine.split.library import gpt, resnet
from antiphon.errors import DivergenceError
from antiphon.nets.memory import keep_memory
from antiphon.scenarios import Scenario
from antiphon.telemetry.pictures import new_figure, save_figure

sys.path.insert(0, str(Path(__file__).parent))
from interleaved import RESULTS, finish, parsed, table
from machine import machine
from split_memory import MB, Kept

RATES = (0.003, 0.006, 0.012)
STEPS = {"gpt": 2000, "resnet": 600}
POINTS = 4
"""Of a curve."""
TASKS: dict[str, Any] = {"gpt": gpt, "resnet": resnet}
SIZES = {"gpt": {"batch": 16}, "resnet": {"batch": 32, "channels": 8, "schedule": "cosine"}}
"""The batch statistics of a net whose learning rate stays high lag so much that evaluations swing by tens of points."""
UNITS = {"gpt": "validation, bits per character", "resnet": "validation, error in per cent"}
PIPELINED = {"gpt": ("local", "lens", "sobolev_label"), "resnet": ("local", "sobolev_conv")}


def ways(task: str) -> dict[str, dict[str, Any]]:
    """Return the ways of training, each as values of the library scenario: its variants, and some of them pipelined."""
    found = {
        name: values for name, values in TASKS[task].variants.items() if name != "decoupled"
    }  # a name for the default
    return found | {f"{name}, pipelined": {**found[name], "delay": 1} for name in PIPELINED[task]}


def scenario(task: str, way: str, rate: float, seed: int, steps: int, source: dict[str, Any]) -> Scenario:
    """Return a way of training as a scenario; the seed is that of the initial parameters.

    Args:
        task: `gpt` or `resnet`.
        way: A name in `ways(task)`.
        rate: Of the blocks' Adam.
        seed: Of the initial parameters.
        steps: Of training.
        source: More values: the data, and sizes.
    """
    found: Scenario = TASKS[task](
        lr=rate, initial=seed, steps=steps, **{**SIZES[task], **source, **ways(task)[way]}
    )
    return found


def trained(
    task: str, way: str, rate: float, seed: int, steps: int, source: dict[str, Any], *, aligned: bool
) -> dict[str, Any]:
    """Return what comes of one run: the curve, the cost, and for a first seed the alignment of its signals."""
    torch.set_num_threads(1)
    keep_memory()
    simulation = Simulation(scenario(task, way, rate, seed, steps, source), seed=seed)
    reader = list(simulation.system.agents)[-1]
    row: dict[str, Any] = {"way": way, "rate": rate, "seed": seed, "steps": steps, "curve": []}
    seconds = 0.0
    try:
        for point in range(1, POINTS + 1):
            start = time.process_time()
            simulation.run(steps * point // POINTS - steps * (point - 1) // POINTS)
            seconds += time.process_time() - start
            entry = {"step": steps * point // POINTS, "score": _score(simulation, reader, "validation")}
            if aligned:
                entry["alignment"] = {
                    name: [round(x, 3) for x in (found.cosine, found.parameter_cosine)]
                    for name, found in signal_alignment(simulation, messages=4).items()
                }
            row["curve"].append(entry)
        row |= {"validation": row["curve"][-1]["score"], "test": _score(simulation, reader, "test")}
    except DivergenceError as error:
        return {**row, "validation": None, "test": None, "diverged": str(error)}
    row["ms_per_step"] = round(1e3 * seconds / steps, 1)
    row["kept_mb"] = round(_kept(simulation) / MB, 3)
    return row


def _score(simulation: Simulation, reader: str, split: str) -> float:
    """The readout's bits per character, or its share of errors in per cent."""
    found = simulation.evaluate(split).agents[reader]
    return round(found["bits"] if "bits" in found else 100 * (1 - found["accuracy"]), 4)


def _kept(simulation: Simulation) -> int:
    system = simulation.system
    models = [model for channel in system.channels.values() for model in channel.models]
    learners = [agent.learner for agent in system.agents.values()]
    own = [p for one in (*learners, *models) for p in one.parameters.values()]
    return Kept(own).during(lambda: simulation.advance(keep=False))


class Study:
    """Runs of one task, kept in a folder.

    Args:
        arguments: Of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.task, self.rates, self.seeds = arguments.task, arguments.rates, arguments.seeds
        self.steps = arguments.steps or STEPS[self.task]
        self.source = source(arguments)
        self.folder = arguments.folder / self.task
        self.folder.mkdir(parents=True, exist_ok=True)
        self.jobs = arguments.jobs

    def path(self, way: str, rate: float, seed: int) -> Path:
        """The file of a run."""
        name = way.replace(", ", "-").replace(" ", "_")
        return self.folder / f"{name}-{rate:g}-{seed}-{self.steps}.json"

    def runs(self, way: str) -> list[dict[str, Any]]:
        """The finished runs of a way of training."""
        paths = [self.path(way, rate, seed) for rate in self.rates for seed in range(self.seeds)]
        return [json.loads(path.read_text(encoding="utf-8")) for path in paths if path.exists()]

    def best(self, way: str) -> float | None:
        """The rate at which the first seed did best, where all rates that are asked for were tried."""
        first = {run["rate"]: run["validation"] for run in self.runs(way) if not run["seed"]}
        found = {rate: score for rate, score in first.items() if score is not None}
        return min(found, key=lambda rate: found[rate]) if found else None

    def train(self, names: Sequence[str]) -> None:
        """Do the runs that are not yet finished."""
        pipelined = {way: way.removesuffix(", pipelined") for way in names if way.endswith(", pipelined")}
        self._all([(way, rate, 0) for way in names if way not in pipelined for rate in self.rates])
        wanted: list[tuple[str, float, int]] = []
        for seed in range(self.seeds):
            for way in names:
                rate = self.best(pipelined.get(way, way))
                wanted += [] if rate is None else [(way, rate, seed)]
        self._all(wanted)

    def _all(self, wanted: Sequence[tuple[str, float, int]]) -> None:
        with ThreadPoolExecutor(self.jobs) as pool:
            list(pool.map(self._one, *zip(*wanted, strict=True)) if wanted else [])

    def _one(self, way: str, rate: float, seed: int) -> None:
        path = self.path(way, rate, seed)
        if path.exists():
            return
        given = {"task": self.task, "way": way, "rate": rate, "seed": seed, "steps": self.steps}
        given |= {"source": self.source, "aligned": seed == 0 and self.task == "gpt"}
        done = subprocess.run(
            [sys.executable, __file__, "--inside", json.dumps(given)],
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            sys.exit(f"{way}, rate {rate:g}, seed {seed}: {done.stderr.strip().splitlines()[-1]}")
        path.write_text(done.stdout, encoding="utf-8")
        found = json.loads(done.stdout)
        print(f"{way}, rate {rate:g}, seed {seed}: {found['validation']}", file=sys.stderr)

    def rows(self, names: Sequence[str]) -> list[dict[str, Any]]:
        """The table: a row for each way of training that has finished runs."""
        rows = []
        for way in names:
            rate = self.best(way)
            if rate is None:
                rows += [{"way": way, "diverged": True}] if self.runs(way) else []
                continue
            runs = [run for run in self.runs(way) if run["rate"] == rate]
            rows.append({"way": way, "rate": rate, "seeds": len(runs), **_summary(runs)})
            first = {run["rate"]: run["validation"] for run in self.runs(way) if not run["seed"]}
            rows[-1]["by_rate"] = ", ".join(
                f"{rate:g}: {score:g}" for rate, score in first.items() if score is not None
            )
        by = {row["way"]: row for row in rows}
        if self.task == "resnet" and {"locked", "detached"} <= by.keys():
            low, high = by["detached"]["test"], by["locked"]["test"]
            for row in rows:
                if "test" in row:
                    row["recovered"] = round((low - row["test"]) / (low - high), 3)
        elif "locked" in by:
            for row in rows:
                if "validation" in row:
                    row["beyond_locked"] = round(row["validation"] - by["locked"]["validation"], 3)
        return rows


def _summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    done = [run for run in runs if run["validation"] is not None]
    scores = {what: [run[what] for run in done] for what in ("validation", "test")}
    found: dict[str, Any] = {what: round(mean(values), 4) for what, values in scores.items()}
    if len(done) > 1:
        found["spread"] = round((max(scores["validation"]) - min(scores["validation"])) / 2, 4)
    found["ms_per_step"] = round(min(run["ms_per_step"] for run in done), 1)
    found["kept_mb"] = round(done[0]["kept_mb"], 1)
    curves = [[point["score"] for point in run["curve"]] for run in done]
    found["curve"] = {
        point["step"]: round(mean(scores), 3)
        for point, *scores in zip(done[0]["curve"], *curves, strict=True)
    }
    alignment = {point["step"]: point["alignment"] for point in done[0]["curve"] if point.get("alignment")}
    if alignment:
        pairs = [pair for channels in alignment.values() for pair in channels.values()]
        for name, values in zip(("cosine", "parameter_cosine"), zip(*pairs, strict=True), strict=True):
            found[name] = f"{min(values):.2f} to {max(values):.2f}"
        found["alignment"] = alignment
    return found


def _keep(name: str, unit: str, rows: Sequence[dict[str, Any]], columns: Sequence[str], command: str) -> None:
    """Write the table and a figure of the curves beside the JSON."""
    place = machine()
    cells = [["-" if row.get(column) is None else str(row[column]) for column in columns] for row in rows]
    lines = [[column.replace("_", " ") for column in columns], ["---"] * len(columns), *cells]
    where = f"{place['date']}, commit {place['commit']}, {place['processor']}, one thread a run, torch {place['torch']}."
    text = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(f"{text}\n\n`{command}`\n\n{where}\n", encoding="utf-8")
    figure = new_figure(f"{name}.svg", layout="constrained", figsize=(7, 4.5))
    axes = figure.subplots()
    for index, row in enumerate(row for row in rows if "curve" in row):
        style = ("-", "--", ":")[index // 10]
        axes.plot(list(row["curve"]), list(row["curve"].values()), style, marker=".", label=row["way"])
    axes.set(xlabel="steps", ylabel=unit)
    figure.legend(loc="outside right upper", frameon=False)
    save_figure(figure, RESULTS / f"{name}.svg")


def source(arguments: argparse.Namespace) -> dict[str, Any]:
    """The data of a task."""
    return {"text": arguments.text} if arguments.task == "gpt" else {"data": arguments.data}


def _numbers(text: str) -> list[float]:
    return [float(x) for x in text.split(",")]


def main() -> None:
    """Parse arguments, train, print."""
    if "--inside" in sys.argv:
        print(json.dumps(trained(**json.loads(sys.argv[-1]))))
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--task", choices=list(TASKS), default="gpt")
    parser.add_argument("--only", help="ways of training, with semicolons between them; default: all")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, help="default: 2,000 of gpt, 600 of resnet")
    parser.add_argument("--rates", type=_numbers, default=list(RATES))
    parser.add_argument("--text", default="moby_dick")
    parser.add_argument("--data", default="mnist")
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--folder", type=Path, default=Path("runs/split_credit"))
    parser.add_argument("--table", action="store_true", help="of the finished runs alone")
    arguments = parsed(parser)
    study = Study(arguments)
    names = arguments.only.split(";") if arguments.only else list(ways(arguments.task))
    if not arguments.table:
        study.train(names)
    rows = study.rows(names)
    columns = [
        "way",
        "rate",
        "seeds",
        "validation",
        "spread",
        "test",
        "recovered",
        "beyond_locked",
        "by_rate",
    ]
    columns = [name for name in columns if any(name in row for row in rows)] + ["ms_per_step", "kept_mb"]
    columns += [name for name in ("cosine", "parameter_cosine") if any(name in row for row in rows)]
    named = {"task": arguments.task, "steps": study.steps, **study.source}
    name, unit = f"split_credit-{arguments.task}", UNITS[arguments.task]
    command = f"python benchmarks/split_credit.py --task {arguments.task} --steps {study.steps}"
    command += f" --rates {','.join(map(str, study.rates))}"
    if arguments.task == "resnet" and arguments.data != "mnist":
        name, command = f"{name}-{arguments.data}", f"{command} --data {arguments.data}"
    if arguments.save:
        _keep(name, unit, rows, columns, f"{command} --save")
    finish({"benchmark": name, "unit": unit, **named, "rows": rows}, arguments, table(rows, columns))


if __name__ == "__main__":
    main()
