"""One GPT, cut into parts: bits per character of held-out text after equal steps, by what each part learns from.

Ways, each with Adam and 16 windows of 64 characters a step:

    backprop          the plain loop, not cut
    heads:N           the plain loop, and the losses of the heads that `aug_local` has with N parts, through the whole model
    aug_local:N       `antiphon.split` into N parts; as shipped: each learns from a copy of one later block and of the last layers
    aug_local-1:N     the same, pipelined: messages take one step (`delay=1`); aug_local-2, aug_local-3: two, three
    aug_local-2-8:N   messages take two steps, and a component 8 bits; aug_local-2-4: 4
    lens:N, local:N, linear:N, detached:N        other learning signals of `split`
    delayed-1:N       the true gradient, when it has come back over channels that take one step each way

Every way has the same number of learning rates (`--rates`); with several, the best by the validation split over all seeds is
reported, on the test split. In 6 hours on two cores:

    ANTIPHON_DATA=… python benchmarks/credit.py --steps 600 --seeds 5 --rates 5e-4,1e-3,2e-3 --out credit.jsonl

With the same `--out`, runs that have a record are not taken again. docs/results/split-credit.md has five seeds at one rate, in two
hours (`benchmarks/results/credit.jsonl`).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import antiphon
from antiphon.telemetry.statistics import mean

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "slow_line")]
from heads import WithHeads
from interleaved import table
from machine import machine
from task import STANDARD, Windows, bits, new_model, text_name

PARTS = (2, 4, 8)
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
    "lens": {"gradient": "lens", "delay": 0},
    "local": {"gradient": {"kind": "local", "target": "following"}, "delay": 0},
    "linear": {"gradient": "linear", "delay": 0},
    "detached": {"coupling": "detached", "delay": 0},
    "delayed-1": {"coupling": "delayed", "delay": 1},
}
"""Arguments of `split`, by way."""


def first_blocks(parts: int) -> list[int]:
    """Return the block that each part but the first begins with."""
    return [STANDARD.blocks * part // parts for part in range(1, parts)]


def plain(cuts: Sequence[int], run: dict[str, Any]) -> dict[str, Tensor]:
    """Train the whole model in a loop, with heads at the cuts, and return its parameters."""
    whole = WithHeads(new_model(run["seed"]), cuts)
    adam = torch.optim.Adam(whole.parameters(), lr=run["lr"])
    windows = Windows(STANDARD.batch, run["seed"])
    for _ in range(run["steps"]):
        adam.zero_grad()
        torch.stack(list(whole.losses(*windows()))).sum().backward()
        adam.step()
    return whole.model.state_dict()


def split(kind: str, cuts: Sequence[int], run: dict[str, Any]) -> dict[str, Tensor]:
    """Train the model cut into parts, and return its parameters."""
    adam = {"kind": "adam", "lr": run["lr"]}
    scenario = antiphon.split(
        new_model(run["seed"]),
        at=[f"blocks.{block}" for block in cuts],
        env={"id": "antiphon/TextWindows-v0", "text": text_name(), "length": STANDARD.length},
        objective={"kind": "coding", "target": "following"},
        batch=STANDARD.batch,
        steps=run["steps"],
        optimiser=adam,
        predictor=adam,
        **CREDIT[kind],
    )
    with antiphon.Simulation(scenario, seed=run["seed"]) as simulation:
        simulation.run(progress=False)
        return antiphon.join(simulation).state_dict()


def measured(run: dict[str, Any]) -> dict[str, Any]:
    """Return the record of a run: its bits on both splits, and its seconds of processor time."""
    torch.set_num_threads(1)
    kind, _, parts = run["way"].partition(":")
    cuts = first_blocks(int(parts)) if parts else []
    start = time.process_time()
    state = plain(cuts, run) if kind in ("backprop", "heads") else split(kind, cuts, run)
    seconds = time.process_time() - start
    found = {name: round(bits(state, name), 4) for name in ("validation", "test")}
    return {**run, **found, "cpu_seconds": round(seconds, 1)}


def best(records: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the records of the rate with the fewest bits of validation over all seeds."""
    rates = defaultdict(list)
    for record in records:
        rates[record["lr"]].append(record)
    return min(rates.values(), key=lambda each: sum(record["validation"] for record in each) / len(each))


def main() -> None:
    """Take the runs that have no record, then print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--ways", default=",".join(DEFAULT), help="with commas")
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--rates", default="1e-3", help="with commas")
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes, of one thread each")
    parser.add_argument("--out", type=Path, help="file of JSON lines: runs that it has are not taken again")
    parser.add_argument("--json", action="store_true", help="print the results as JSON in the last line")
    arguments = parser.parse_args()
    ways, rates = arguments.ways.split(","), [float(rate) for rate in arguments.rates.split(",")]
    for way in ways:
        kind, _, parts = way.partition(":")
        if kind not in ("backprop", "heads", *CREDIT) or (kind == "backprop") == bool(parts):
            parser.error(f"no way {way!r}; see --help")
    about = machine()
    keys = ("way", "seed", "lr", "steps")
    lines = arguments.out.read_text().splitlines() if arguments.out and arguments.out.exists() else []
    records = {tuple(record[key] for key in keys): record for record in map(json.loads, lines)}
    wanted = [
        {"way": way, "seed": seed, "lr": rate, "steps": arguments.steps}
        for seed in range(arguments.seeds)
        for rate in rates
        for way in ways
    ]
    missing = [run for run in wanted if tuple(run.values()) not in records]
    with ProcessPoolExecutor(arguments.jobs, get_context("spawn")) as pool:
        for number, done in enumerate(as_completed([pool.submit(measured, run) for run in missing]), 1):
            record = {**done.result(), "machine": about}
            records[tuple(record[key] for key in keys)] = record
            if arguments.out:
                with arguments.out.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(record) + "\n")
            place = f"{record['way']} lr {record['lr']:g} seed {record['seed']}"
            print(f"{number}/{len(missing)} {place}: {record['test']} bits", file=sys.stderr, flush=True)
    rows, results = [], {}
    for way in ways:
        chosen = best([records[tuple(run.values())] for run in wanted if run["way"] == way])
        found = mean([record["test"] for record in chosen], share=False)
        half = None if found.high is None else found.high - found.value
        seconds = sum(record["cpu_seconds"] for record in chosen) / len(chosen) / arguments.steps
        results[way] = {"bits": round(found.value, 4), "half_interval": half, "lr": chosen[0]["lr"]}
        text = f"{found.value:.3f}" + ("" if half is None else f" ± {half:.3f}")
        rows.append({"way": way, "bits": text, "rate": chosen[0]["lr"], "cpu_ms": round(1000 * seconds)})
    print("\n".join(table(rows, ["way", "bits", "rate", "cpu_ms"])))
    if arguments.json:
        print(json.dumps(results))


if __name__ == "__main__":
    main()
