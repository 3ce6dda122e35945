"""What ways of training have learned after equal seconds over slow lines: what they learn by step, joined with the time of a step.

What a way learns in so many steps does not depend on the line (of antiphon, on the link that its parts have chosen for it), and how
long a step takes does not depend on the seed. So there are two files:

    steps     records of `slow_line.py`, taken on an idle machine as root: milliseconds of a step by line and way, and links
    curves    bits per character of held-out text by step, of each way, rate and seed. They are trained here by the same programs
              without a line, one thread each, and are the same on a machine that does something else at the same time

The table of six lines, in 35 minutes of an idle machine and three hours of any:

    lines="--line 10:25 --line 10:100 --line 100:25 --line 100:100 --line 100:25:0.01 --line 1000:25"
    ways=ddp16,1f1b,diloco:64,streaming:64,antiphon-nadam,antiphon
    into=benchmarks/results/slow-line-steps.jsonl
    python benchmarks/slow_line.py --seconds 20 --seeds 1 --out $into $lines --ways $ways
    python benchmarks/slow_line.py --seconds 20 --seeds 1 --out $into --line 1000:25 --ways plain,plain-heads
    ANTIPHON_DATA=… nice python benchmarks/slow_line_curves.py

Each way has over each line the rate with which a seed of its own, `TUNED`, needs the fewest bits, of those of `GRID` and, where the
best is at an end, beyond it. A curve is kept when it is trained, and not trained again.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from math import ceil
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from antiphon.telemetry.intervals import mean

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "slow_line")]
from clock import WARM
from interleaved import described, table
from machine import machine

GRID, TUNED = (5e-4, 1e-3, 2e-3), 1000
"""Learning rates that are compared, and the seed with which."""
Place = tuple[str, str, int]
Run = tuple[str, int, str, float, int]
"""Of a curve: way, parts, link as JSON, learning rate, seed."""


class Curves:
    """Bits by step, kept in a file of JSON lines."""

    _KEYS = ("way", "parts", "link", "lr", "seed")

    def __init__(self, path: Path) -> None:
        self._path, self._found = path, dict[Run, list[tuple[int, float]]]()
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                self._take(json.loads(line))

    def _take(self, record: Mapping[str, Any]) -> None:
        way, parts, link, rate, seed = (record[key] for key in self._KEYS)
        self._found[way, parts, json.dumps(link), rate, seed] = record["bits"]

    def add(self, run: Run, bits: list[tuple[int, float]], about: Mapping[str, Any]) -> None:
        named = dict(zip(self._KEYS, run, strict=True)) | {"link": json.loads(run[2])}
        record = {**named, "bits": bits, "machine": about}
        self._take(record)
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def at(self, run: Run, steps: float) -> float | None:
        """Return the bits after some steps, between those that are judged by a straight line; None: there is no curve so long."""
        each = self._found.get(run)
        if not each or each[-1][0] < steps:
            return None
        return float(np.interp(steps, *zip(*each, strict=True)))


def compared(measured: Callable[[float], float | None]) -> tuple[list[float], float | None]:
    """Return the rates that are compared, and the best.

    The rates are `GRID`, then half the lowest or twice the highest while it is the best.

    Args:
        measured: What is to be small, by rate; None: it is not known yet, nor is the best.
    """
    rates = [*GRID]
    while True:
        known = {rate: found for rate in rates if (found := measured(rate)) is not None}
        best = min(known, key=known.__getitem__) if len(known) == len(rates) else None
        if best == rates[0]:
            rates.insert(0, rates[0] / 2)
        elif best == rates[-1]:
            rates.append(rates[-1] * 2)
        else:
            return rates, best


class Steps:
    """What is known of a way over a line by its records: the steps in some seconds, and the link."""

    def __init__(self, records: Sequence[Mapping[str, Any]], seconds: float) -> None:
        self._records, self._seconds = records, seconds
        self.ms = fmean(record["ms"] for record in records)

    def runs(self, rate: float, seed: int) -> Iterator[tuple[Run, float]]:
        """Yield the curve that each record needs, and the step at which it is read."""
        for record in self._records:
            run = (record["way"], record["parts"], json.dumps(record.get("link")), rate, seed)
            yield run, WARM + 1e3 * self._seconds / record["ms"]

    def bits(self, curves: Curves, rate: float, seed: int) -> float | None:
        """Return the bits after the seconds, the mean over the records; None: a curve is missing."""
        each = [curves.at(run, steps) for run, steps in self.runs(rate, seed)]
        return None if None in each else fmean(bits for bits in each if bits is not None)

    def rates(self, curves: Curves) -> tuple[list[float], float | None]:
        """Return the rates that are compared, and that with the fewest bits; None: a curve is missing."""
        return compared(lambda rate: self.bits(curves, rate, TUNED))


def steps_of(path: Path, seconds: float) -> dict[Place, Steps]:
    found = defaultdict(list)
    for text in path.read_text(encoding="utf-8").splitlines():
        record = json.loads(text)
        found[record["line"], record["way"], record["parts"]].append(record)
    return {place: Steps(records, seconds) for place, records in found.items()}


def trained(run: Run, steps: int) -> list[tuple[int, float]]:
    """Train a way without a line, and return its bits by step; RuntimeError: it has failed."""
    way, parts, link, rate, seed = run
    settings = {"way": way, "machines": parts, "link": json.loads(link), "lr": rate, "seed": seed}
    settings["steps"] = steps
    environment = os.environ | {"OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    alone = way.startswith(("plain", "antiphon"))
    with tempfile.TemporaryDirectory() as folder:
        settings["address"] = f"file://{folder}/meeting"
        program = str(HERE / "slow_line" / "without_line.py")
        processes = [
            subprocess.Popen(
                [sys.executable, program, json.dumps({**settings, "index": index})],
                env=environment,
                stdout=subprocess.PIPE,
                text=True,
            )
            for index in range(1 if alone else parts)
        ]
        printed = [process.communicate()[0] for process in processes]
    if any(process.returncode for process in processes):
        raise RuntimeError(f"{way} has failed")
    return [tuple(json.loads(line)) for line in printed[0].splitlines()]


def missing(places: Sequence[Steps], curves: Curves, seed: int) -> dict[Run, int]:
    """Return the curves of a seed that are missing, with their steps; with `TUNED` rates are compared, with others each place has its best."""
    longest: dict[Run, int] = {}
    for place in places:
        rates, best = place.rates(curves)
        for each in rates if best is None or seed == TUNED else (best,):
            for run, steps in place.runs(each, seed):
                if curves.at(run, steps) is None:
                    # a little longer, should it be timed as shorter
                    longest[run] = max(longest.get(run, 0), ceil(1.1 * steps))
    return longest


def train_missing(places: Sequence[Steps], curves: Curves, seed: int, jobs: int) -> None:
    """Train the curves of a seed that are `missing`, some at the same time, until none is that has not failed; each is kept."""
    about, failed, start = machine(), set[Run](), time.monotonic()
    while runs := {run: steps for run, steps in missing(places, curves, seed).items() if run not in failed}:
        with ThreadPoolExecutor(jobs) as pool:
            under_way = {pool.submit(trained, *pair): pair[0] for pair in runs.items()}
            for number, done in enumerate(as_completed(under_way), 1):
                run, note = under_way[done], "fails"
                if done.exception() is None:
                    curves.add(run, done.result(), about)
                    note = f"{done.result()[-1]}"
                else:
                    failed.add(run)
                took = time.monotonic() - start
                print(
                    f"seed {seed}: {number}/{len(runs)} {run}: {note} ({took:.0f} s)",
                    file=sys.stderr,
                    flush=True,
                )


def row_of(place: Place, steps: Steps, curves: Curves, seeds: int) -> dict[str, Any]:
    """Return the row of a way over a line; its interval is Student's t over seeds."""
    best = steps.rates(curves)[1]
    row = {**dict(zip(("line", "way", "parts"), place, strict=True)), "lr": best, "ms": round(steps.ms, 1)}
    each = [steps.bits(curves, best, seed) for seed in range(seeds)] if best is not None else []
    known = [bits for bits in each if bits is not None]
    if known:
        links = {run[2] for run, _ in steps.runs(best or 0.0, 0)} - {"null"}
        row |= {"link": " or ".join(sorted(links)) or None, "seeds": len(known)}
        row["bits"] = shown(known)
    return row


def shown(each: Sequence[float]) -> str:
    whole = mean(each)
    return f"{whole.value:.3f}" + ("" if whole.high is None else f" ± {whole.high - whole.value:.3f}")


def main() -> None:
    parser = described(__doc__)
    parser.add_argument(
        "--steps", type=Path, default=HERE / "results" / "slow-line-steps.jsonl", help="records"
    )
    parser.add_argument(
        "--curves", type=Path, default=HERE / "results" / "slow-line-curves.jsonl", help="kept here"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of training")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--jobs", type=int, default=1, help="curves that are trained at the same time")
    parser.add_argument("--table", action="store_true", help="train nothing")
    arguments = parser.parse_args()
    if not arguments.steps.exists():
        parser.error(
            f"--steps: no file {arguments.steps}; measure steps with slow_line.py --out {arguments.steps}"
        )
    places = steps_of(arguments.steps, arguments.seconds)
    curves = Curves(arguments.curves)
    if not arguments.table:
        for seed in (TUNED, *range(arguments.seeds)):
            train_missing([*places.values()], curves, seed, arguments.jobs)
    rows = [row_of(*pair, curves, arguments.seeds) for pair in places.items()]
    print("\n".join(table(rows, ["line", "way", "parts", "link", "lr", "ms", "seeds", "bits"])))


if __name__ == "__main__":
    main()
