"""One GPT, trained for equal seconds by processes with slow lines between them: bits per character of held-out text.

The lines are emulated (`slow_line/network.py`): `--parts` network namespaces, and a process that passes their packets on, between any
two at MBIT megabits per second in each direction, MS milliseconds later, each lost with probability LOSS. Needs root on Linux, and
a C compiler. TCP is cubic with large buffers; packets have 16,000 bytes, which spares the processor, and of which fewer are lost
than of 1,500. The forwarder takes a share of a core, which is reported: there should be as many cores as parts.

Ways, each with one thread a process and 16 windows a step:

    plain             one process; the line does not matter
    plain-heads       the same with the auxiliary heads and losses that antiphon's parts have, all but the last
    ddp, ddp16        DistributedDataParallel over gloo; its gradients as float16
    1f1b              torch.distributed.pipelining, the blocks divided among all, 4 micro-batches
    averaging:H       parameters averaged every H steps
    diloco:H          the same with an outer Nesterov momentum of 0.9 at a rate of 0.7 (Douillard et al. 2023)
    streaming:H       a quarter of the parameters at a time, in four bits, 5 steps (fewer than H) under way (Douillard et al. 2025)
    antiphon          `antiphon.split(model, at=PARTS, …)` in parts on a Ray cluster, one node in each namespace
    antiphon-nadam    an asynchronous pipeline: `coupling: delayed` with NAdam (Ajanthan et al. 2025); all others have Adam

The clock is the same for all: it starts when the last process of a way has taken its first 8 steps, so that building, connecting
and the first allocations count for no way. The step in which it runs out is finished. The model is then evaluated outside of the
time: of ways that average, the mean of all. A run leaves `ms` (a step), `bytes` (a step, from each end), `rss_mb` (the most memory
of each process above that after `import torch`; of antiphon the parts and the process that started them, without Ray's own),
`forwarder` (its share of a core), `bits`, and of antiphon the `link` that the parts chose. Ways, lines and seeds take turns, seed by
seed.

On an idle machine, in 2 hours:

    ANTIPHON_DATA=… python benchmarks/slow_line.py --line 1000:25 --line 1000:100 --line 100:25 --line 100:100 \
        --seconds 60 --seeds 5 --out slow_line.jsonl --json

It can be stopped: with the same `--out` it continues. `slow_line_curves.py` needs 12 of the seconds, and tunes rates.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from antiphon.telemetry.intervals import mean

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "slow_line")]
from interleaved import described, table
from machine import machine
from network import Network, NetworkError, Setting
from training import Training, WayError, megabytes_after_import

DEFAULT = "plain,ddp,1f1b,diloco:64,antiphon"
RATE = 1e-3
"""Learning rate: with 2e-3, plain, averaging and antiphon all learn less in 60 s (100:25, one seed)."""
PARTS = (2, 4)
"""Numbers of machines, by which the model's blocks and the batch can be divided."""


class Records:
    """Results of single runs, kept in a file of JSON lines, or without a path in memory."""

    _KEYS = ("line", "way", "seed", "seconds", "lr", "parts")

    def __init__(self, path: Path | None) -> None:
        self._path, self._found = path, dict[tuple[Any, ...], dict[str, Any]]()
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                self._take(json.loads(line))

    def _take(self, record: dict[str, Any]) -> None:
        self._found[self._key(record)] = record

    def _key(self, about: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(about[key] for key in self._KEYS)

    def get(self, about: Mapping[str, Any]) -> dict[str, Any] | None:
        return self._found.get(self._key(about))

    def add(self, record: dict[str, Any]) -> None:
        self._take(record)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")


def run_all(runs: Sequence[dict[str, Any]], records: Records, parts: int) -> int:
    """Take the runs that have no record, each recorded at its end, and return how many have failed.

    NetworkError: no line can be emulated here.
    """
    missing, failed = [run for run in runs if records.get(run) is None], 0
    if not missing:
        return 0
    about, after_import = machine(), megabytes_after_import()
    with Network(parts) as network:
        for number, run in enumerate(missing, 1):
            start, setting = time.monotonic(), Setting.parsed(run["line"])
            try:
                with Training(
                    network, setting, run["way"], run["seed"], run["lr"], run["seconds"]
                ) as training:
                    found = training.measured(after_import)
            except (WayError, NetworkError) as error:
                failed += 1
                note = f"fails ({error})"
            else:
                records.add({**run, **found, "load": round(os.getloadavg()[0], 1), "machine": about})
                note = f"{found['ms']:g} ms a step, {found['bits']} bits"
            took = time.monotonic() - start
            place = f"{run['line']} {run['way']} lr {run['lr']:g} seed {run['seed']}"
            print(f"{number}/{len(missing)} {place}: {note} ({took:.0f} s)", file=sys.stderr, flush=True)
    return failed


def summary(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return means over the runs of a way on a line; the interval is Student's t over seeds."""
    each = [record["bits"] for record in records]
    whole = None if None in each else mean(each)
    ends = None if whole is None or whole.low is None or whole.high is None else (whole.low, whole.high)
    columns = list(zip(*(record["bytes"] for record in records), strict=True))
    memory = list(zip(*(record["rss_mb"] for record in records), strict=True))
    return {
        "ms": round(fmean(record["ms"] for record in records), 2),
        "bits": None if whole is None else round(whole.value, 4),
        "interval": None if ends is None else [round(end, 4) for end in ends],
        "steps": round(fmean(record["steps"] for record in records)),
        "bytes": [round(fmean(column)) for column in columns],
        "rss_mb": [round(fmean(column)) for column in memory],
        "forwarder": round(fmean(record["forwarder"] for record in records), 3),
        "lr": records[0]["lr"],
    }


def arguments_of(command: Sequence[str] | None = None) -> argparse.Namespace:
    parser = described(__doc__)
    parser.add_argument(
        "--line", action="append", metavar="MBIT:MS[:LOSS]", help="may be given several times"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of training")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ways", default=DEFAULT, help=f"with commas; default: {DEFAULT}")
    parser.add_argument("--out", type=Path, help="file of JSON lines: runs that it has are not taken again")
    parser.add_argument("--parts", type=int, default=2, choices=PARTS, help="machines")
    parser.add_argument("--json", action="store_true", help="print the results as JSON in the last line")
    arguments = parser.parse_args(command)
    try:
        arguments.line = [str(Setting.parsed(line)) for line in arguments.line or ["100:25"]]
    except ValueError as error:
        parser.error(str(error))
    return arguments


def main() -> None:
    arguments = arguments_of()
    runs = [
        {
            "line": line,
            "way": way,
            "seed": seed,
            "seconds": arguments.seconds,
            "lr": RATE,
            "parts": arguments.parts,
        }
        for seed in range(arguments.seeds)
        for line in arguments.line
        for way in arguments.ways.split(",")
    ]
    records = Records(arguments.out)
    try:
        failed = run_all(runs, records, arguments.parts)
    except NetworkError as error:
        sys.exit(f"slow_line: {error}")
    found: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if (record := records.get(run)) is not None:
            found[run["line"]][run["way"]].append(record)
    results = {line: {way: summary(own) for way, own in ways.items()} for line, ways in found.items()}
    rows = [
        {
            **row,
            "line": line,
            "way": way,
            "kB_a_step": " + ".join(f"{each / 1e3:.0f}" for each in row["bytes"]),
            "MB": " + ".join(map(str, row["rss_mb"])),
        }
        for line, ways in results.items()
        for way, row in ways.items()
    ]
    columns = ["line", "way", "lr", "ms", "bits", "interval", "steps", "kB_a_step", "MB", "forwarder"]
    print("\n".join(table(rows, columns)))
    if arguments.json:
        print(json.dumps(results))
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
