"""How far does a line carry? Bytes and seconds of a step against the model's size, by way, as formulas (`slow_line/costs.py`).

    python benchmarks/reach.py --measure      formulas and runs over an emulated line, at three sizes (as root, 10 minutes)
    python benchmarks/reach.py                formulas for GPTs of 124 million to 8 billion parameters, `--flops` a machine

Runs have what crosses of a GPT, and sleep in place of its blocks as long as a machine computes them (`slow_line/asleep.py`): other
load on the machine does not matter. The formula's FLOP are compared with the processor time of the GPT itself. `virtual` is
a step of the parts in antiphon's own virtual time: a stand-in of the model, whose messages take as long on the line.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from itertools import product
from pathlib import Path
from typing import Any

import torch

import antiphon
from antiphon.distributed.virtual.profile import ClusterProfile

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "slow_line")]
from costs import (
    FLOATS,
    DataParallel,
    DiLoCo,
    OneMachine,
    Parts,
    Pipeline,
    Setup,
    Shape,
    StreamingDiLoCo,
    Way,
    message,
)
from interleaved import finish, parsed, table
from network import Network, NetworkError, Setting
from task import Windows, new_model
from torch_way import loop
from training import Training, WayError, megabytes_after_import

SMALL = (Shape(4, 64, 64, 32), Shape(), Shape(6, 192, 48, 16))
"""That are measured."""
LINES = ("100:25", "30:5")
SPEED, EVERY = 2e10, 8
"""FLOP per second of the machines of measured runs, and steps between two meetings."""
MEASURED: dict[str, Way] = {
    "antiphon": Parts(),
    "1f1b": Pipeline(),
    "ddp16": DataParallel(),
    f"diloco:{EVERY}": DiLoCo(every=EVERY),
    f"streaming:{EVERY}": StreamingDiLoCo(every=EVERY),
}
"""As `slow_line.py` names them."""
LARGE = {
    "GPT-2 small": Shape(12, 768, 1024, 512, 50_257, tied=True),
    "1B": Shape(20, 2048, 1024, 512, 50_257, tied=True),
    "8B": Shape(40, 4096, 1024, 512, 50_257, tied=True),
}
FAST = ("100:25", "1000:25", "10000:25")
WAYS: dict[str, Way] = {
    "one machine": OneMachine(),
    "antiphon": Parts(),
    "1F1B": Pipeline(micro_batches=16, bits=16),
    "DDP": DataParallel(),
    "DiLoCo": DiLoCo(),
    "Streaming DiLoCo": StreamingDiLoCo(),
}
"""As they would be used at such sizes: bfloat16 where torch sends floats of a model."""
FLOPS = 1e14
"""FLOP per second of their machines, unless another number is given."""
_STEPS = 40
"""Of a stand-in in virtual time."""


def measured(seconds: float, rounds: int) -> Iterator[dict[str, Any]]:
    """Yield for each size, line and way the bytes and milliseconds of a step, of the fastest round.

    Raises:
        NetworkError: No line can be emulated here.
        WayError: A way fails.
    """
    after_import = megabytes_after_import()
    with Network(2, 16_000) as network:
        for shape, text, name in product(SMALL, LINES, MEASURED):
            runs = []
            for _ in range(rounds):
                line = Setting.parsed(text)
                with Training(network, line, name, 0, 1e-3, seconds, shape=shape, flops=SPEED) as training:
                    runs.append(training.measured(after_import))
            best = min(runs, key=lambda run: run["ms"])
            row = {"shape": asdict(shape), "line": text, "way": name}
            row |= {"bytes": max(best["bytes"]), "ms": best["ms"]}
            print(*row.values(), ratios(row), file=sys.stderr, flush=True)
            yield row


def ratios(row: Mapping[str, Any]) -> dict[str, float]:
    """Return the bytes and milliseconds of the formula over those of a run."""
    way = MEASURED[row["way"]]
    setup = Setup(Shape(**row["shape"]), Setting.parsed(row["line"]), SPEED)
    return {
        "bytes_ratio": round(way.sent(setup) / row["bytes"], 3),
        "ms_ratio": round(1e3 * way.seconds(setup) / row["ms"], 3),
    }


def measured_table(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines of the table of runs."""
    shown = [{**row["shape"], **row, **ratios(row)} for row in rows]
    columns = ["blocks", "width", "batch", "length", "line", "way", "bytes", "bytes_ratio", "ms", "ms_ratio"]
    return table(shown, columns)


def speeds() -> list[float]:
    """Return by size the formula's GFLOP per second of processor time, with one thread."""
    found = []
    for shape in SMALL:
        step = loop(new_model(0, shape), Windows(shape.batch, 0, shape.length), 1e-3)
        times = []
        for _ in range(8):
            start = time.process_time()
            step()
            times.append(time.process_time() - start)
        found.append(round(shape.flop / min(times) / 1e9, 1))
    return found


def virtual_seconds(way: Parts, setup: Setup) -> float:
    """Return the seconds of a step in virtual time: of the last part, which no other waits for."""
    bits = way.bits(setup)
    layers = [torch.nn.Linear(64, 64) for _ in range(way.machines)]
    stand_in = replace(setup.shape, batch=16, length=1, width=64)
    scenario = antiphon.split(
        torch.nn.Sequential(torch.nn.Flatten(), *layers, torch.nn.Linear(64, 10)),
        at=list(range(2, way.machines + 1)),
        env={"id": "antiphon/Digits-v0"},
        gradient="local",
        delay=1,
        bits=None if bits == FLOATS else bits,
        batch=stand_in.batch,
    )
    smaller = message(stand_in, bits) / way.sent(setup)
    link = {"between": ["machine", "machine"], "latency": setup.latency}
    profile = ClusterProfile.model_validate(
        {
            "cluster": "line",
            "machines": {"machine": {"count": way.machines}},
            "compute": {"step": way.computing(setup)},
            "links": [{**link, "bandwidth": smaller * setup.line.mbit * 1e6 / 8}],
        }
    )
    with antiphon.Simulation(scenario, parts={"cluster": profile, "count": way.machines}) as simulation:
        cluster, before = simulation.running.executor.cluster, (0.0, 0)
        while cluster.machines[-1].steps_taken < _STEPS:
            simulation.step()
            if not before[1] and cluster.machines[-1].steps_taken >= _STEPS // 4:
                before = cluster.seconds, cluster.machines[-1].steps_taken
        return (cluster.seconds - before[0]) / (cluster.machines[-1].steps_taken - before[1])


def applied(flops: float, machines: Sequence[int]) -> Iterator[dict[str, Any]]:
    """Yield for each size, line, number of machines and way what the formulas say."""
    for size, shape in LARGE.items():
        for line in map(Setting.parsed, FAST):
            for count in machines:
                for name, alone in WAYS.items():
                    way: Way = alone if isinstance(alone, OneMachine) else replace(alone, machines=count)  # type: ignore[type-var]
                    yield row_of(size, name, way, Setup(shape, line, flops))


def row_of(size: str, name: str, way: Way, setup: Setup) -> dict[str, Any]:
    """Return a row of the table of large models."""
    ours: Mapping[str, Any] = {}
    if isinstance(way, Parts):
        ours = {
            "bits": way.bits(setup),
            "virtual": round(virtual_seconds(way, setup), 2),
            "rank": way.rank(setup),
        }
    return {
        "size": size,
        "line": str(setup.line),
        "way": name,
        "machines": way.machines,
        "MB": round(way.sent(setup) / 1e6, 1),
        "seconds": round(way.seconds(setup), 2),
        "speed": round(setup.whole / way.seconds(setup), 3),
        **ours,
    }


def main() -> None:
    """Parse arguments, measure or apply, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--measure", action="store_true", help="compare the formulas with runs")
    parser.add_argument("--seconds", type=float, default=6.0, help="of each run")
    parser.add_argument("--flops", type=float, default=FLOPS, help="FLOP per second of a machine")
    parser.add_argument("--machines", default="2", help="numbers of machines, with commas")
    arguments = parsed(parser, rounds=2)
    if arguments.measure:
        try:
            rows = [*measured(arguments.seconds, arguments.rounds)]
        except (NetworkError, WayError) as error:
            sys.exit(f"reach: {error}")
        result = {"benchmark": "reach-measured", "gflops": speeds(), "rows": rows}
        lines = [*measured_table(rows), f"GFLOP a second of a thread, by size: {result['gflops']}"]
    else:
        rows = [*applied(arguments.flops, [*map(int, arguments.machines.split(","))])]
        result = {"benchmark": "reach", "flops": arguments.flops, "rows": rows}
        columns = ["size", "line", "machines", "way", "MB", "seconds", "speed", "bits", "virtual", "rank"]
        lines = table(rows, columns)
    finish(result, arguments, lines)


if __name__ == "__main__":
    main()
