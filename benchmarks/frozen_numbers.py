"""Whether a change of the code changes a number: what every library scenario computes, frozen in a folder and compared.

`python benchmarks/frozen_numbers.py write FOLDER` runs every scenario and variant, in float64, 60 steps of
seed 0, and keeps of each, at steps 1, 5, 20 and 60, the parameters and running statistics of agents and predictors, besides
the agents' losses at every step, the last row of metrics (`NAME.safetensors`, `NAME.json`) and a checkpoint at step 40.
`… compare FOLDER` does the same with the present code, also from the frozen checkpoints (of this format), and prints per run the largest
difference |a - b| / max(1, |a|) at each of these steps and where it is. Exit code 1: one exceeds `--tolerance`, or a value
is missing on one side.

Where rounding is amplified (60 steps of Adam), differences grow from 1e-16 step by step; a defect is there at once.
To compare with an earlier commit, check it out elsewhere and write with its code and this script:
`PYTHONPATH=EARLIER python benchmarks/frozen_numbers.py write FOLDER`. `--apart` reports the biases before batch norm and
its running means in a column of their own: code from before these biases kept their initial values moved them by rounding.
`--without METRIC` leaves a metric out whose meaning has changed.

Nothing is downloaded: MNIST is replaced by the embedded digits, CIFAR-10 by its synthetic stand-in; batches are of
16, generated graphs have 48 agents. FOLDER should be outside the repository (9 GB).
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from antiphon.base.errors import RunError
from antiphon.running.simulation import Simulation
from antiphon.scenarios import Scenario, Template, library_names, load
from antiphon.telemetry.metrics import Recorder

STEPS, LOOKS, CHECKPOINT = 60, (1, 5, 20, 60), 40
_SMALLER = {"batch": 16, "agents": 48, "data": "shapes"}
"""Values of parameters, where a template has them; of `data` where it would be CIFAR-10."""
_MNIST, _DIGITS = "antiphon/Mnist-v0, data: mnist", "antiphon/Digits-v0, data: digits"

Found = dict[str, Tensor]
Numbers = tuple[Found, dict[str, float]]
"""Of one run: tensors by step and path, and the last row of metrics."""


class LastRow(Recorder):
    """The newest row of metrics."""

    def __init__(self) -> None:
        self.row: dict[str, float] = {}

    def metrics(self, step: int, rows: Any) -> None:
        """Keep the row."""
        self.row = {f"{metric.kind} {metric.name} {metric.metric}": metric.value for metric in rows}


def scenario_of(name: str, variant: str, smaller: Mapping[str, Any] = _SMALLER) -> Scenario:
    """Return a variant of a library scenario that is small and needs no data."""
    template = load(name)
    template = Template.from_yaml(template.text.replace(_MNIST, _DIGITS), name)
    own = {key: spec.default for key, spec in template.parameters.items()} | dict(template.variants[variant])
    values = {key: value for key, value in smaller.items() if key in own}
    if own.get("data") != "cifar10":
        values.pop("data", None)
    return template.resolve(variant, values)


def tensors_of(value: Any, name: str) -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a state by their path."""
    if isinstance(value, Tensor):
        yield name, value.detach().clone().contiguous()
    elif isinstance(value, Mapping):
        for key, item in value.items():
            yield from tensors_of(item, f"{name}/{key}")


def learned(simulation: Simulation) -> Found:
    """Return parameters and running statistics of agents and predictors."""
    system = simulation.running.state_dict()["system"]
    parts = {part: system[part] for part in ("learners", "predictors", "inputs")}
    found = tensors_of(parts, str(simulation.now))
    return {key: x for key, x in found if "/parameters/" in key or "/buffers/" in key}


def run(simulation: Simulation, checkpoint: Path | None = None) -> Numbers:
    """Take the steps that remain and return what is compared."""
    recorder = LastRow()
    simulation.recorders.append(recorder)
    simulation.running.end_at(STEPS)
    found: Found = {}
    while simulation.now < STEPS:
        for name, loss in simulation.step()["losses"].items():
            found[f"{simulation.now}/loss/{name}"] = loss.detach().reshape(1).clone()
        if simulation.now in LOOKS:
            found |= learned(simulation)
        if simulation.now == CHECKPOINT and checkpoint is not None:
            simulation.save(checkpoint)
    simulation.close()
    return found, recorder.row


def difference(a: Tensor, b: Tensor) -> float:
    """Return the largest |a - b| / max(1, |a|); infinite where only one is finite, or shapes differ."""
    if a.shape != b.shape:
        return float("inf")
    a, b = a.double(), b.double()
    error = ((a - b).abs() / a.abs().clamp(min=1)).masked_fill((a == b) | (a.isnan() & b.isnan()), 0.0)
    return float(error.nan_to_num(nan=float("inf")).max()) if error.numel() else 0.0


def before_batch_norm(key: str, frozen: Found) -> bool:
    """Whether a tensor is a bias before batch norm, or a running mean that includes it."""
    layer, _, last = key.rpartition(".")
    bias = layer.replace("/parameters/", "/buffers/") + ".norm.mean"
    return (last == "bias" and bias in frozen) or (last == "mean" and "/buffers/" in key)


def differences(
    frozen: Numbers, now: Numbers, first: int, options: argparse.Namespace
) -> dict[str, tuple[float, str]]:
    """Return the largest difference and its place by column: a step of `LOOKS` (since the last), `metrics`, `apart`."""
    worst: dict[str, tuple[float, str]] = {}

    def note(column: str, value: float, where: str) -> None:
        worst[column] = max(worst.get(column, (0.0, "")), (value, where))

    old, new = (
        {key: x for key, x in each[0].items() if int(key.split("/")[0]) > first} for each in (frozen, now)
    )
    for key in old.keys() | new.keys():
        column = str(next(look for look in LOOKS if int(key.split("/")[0]) <= look))
        if options.apart and before_batch_norm(key, frozen[0]):
            column = "apart"
        note(column, difference(old[key], new[key]) if key in old and key in new else float("inf"), key)
    for key in frozen[1].keys() | now[1].keys():
        if key.split(" ")[-1] in options.without:
            continue
        values = [
            torch.tensor(row.get(key, float("inf")), dtype=torch.float64) for row in (frozen[1], now[1])
        ]
        note("metrics", difference(*values), key)
    return worst


def write(folder: Path, name: str, variant: str) -> None:
    """Freeze one run."""
    place = folder / f"{name}.{variant}.cohort"
    if place.with_name(f"{place.name}.json").exists():
        return  # an interrupted `write` goes on
    simulation = Simulation(scenario_of(name, variant), seed=0, dtype=torch.float64)
    found, row = run(simulation, place.with_name(f"{place.name}.checkpoint"))
    save_file(found, place.with_name(f"{place.name}.safetensors"))
    place.with_name(f"{place.name}.json").write_text(json.dumps(row, indent=0, sort_keys=True))
    print(place.name, flush=True)


def compare(folder: Path, name: str, variant: str, options: argparse.Namespace) -> bool:
    """Print the differences of one run from what is frozen, and return whether all are within the tolerance."""
    place = f"{name}.{variant}.cohort"
    if not (folder / f"{place}.json").exists():
        print(f"{place}: not frozen")
        return False
    frozen = load_file(folder / f"{place}.safetensors"), json.loads((folder / f"{place}.json").read_text())
    fresh = run(Simulation(scenario_of(name, variant), seed=0, dtype=torch.float64))
    compared = [("fresh", fresh, 0)]
    try:
        resumed = Simulation.load(folder / f"{place}.checkpoint")
    except RunError:  # the checkpoint is of an earlier format
        pass
    else:
        compared.append(("resumed", run(resumed), CHECKPOINT))
    good = True
    for kind, now, first in compared:
        worst = differences(frozen, now, first, options)
        counted = {column: found for column, found in worst.items() if column != "apart"}
        value, where = max(counted.values())
        equal = value <= options.tolerance
        good &= equal
        columns = [str(look) for look in LOOKS if look > first] + ["metrics", "apart"]
        metrics = "  ".join(f"{column} {worst[column][0]:.0e}" for column in columns if column in worst)
        print(f"{'ok  ' if equal else 'DIFF'} {place} {kind}: {metrics}  ({where})", flush=True)
    return good


def main() -> None:
    """Parse arguments; write or compare."""
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("task", choices=["write", "compare"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("scenarios", nargs="*", help="names, or NAME.VARIANT; none: the whole library")
    parser.add_argument("--tolerance", type=float, default=1e-10)
    parser.add_argument("--without", action="append", default=[], help="a metric's name; may be repeated")
    parser.add_argument("--apart", action="store_true", help="leave biases before batch norm out")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    arguments.folder.mkdir(parents=True, exist_ok=True)
    good = True
    runs = [(name, variant) for name in library_names() for variant in load(name).variants]
    wanted = set(arguments.scenarios)
    for name, variant in runs:
        if wanted and not {name, f"{name}.{variant}"} & wanted:
            continue
        if arguments.task == "write":
            write(arguments.folder, name, variant)
        else:
            good &= compare(arguments.folder, name, variant, arguments)
    sys.exit(0 if good else 1)


if __name__ == "__main__":
    main()
