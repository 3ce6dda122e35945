"""One GPT, trained for equal seconds by processes with slow lines between them: bits per character of held-out text.

The lines are emulated (`slow_line/network.py`): `--parts` network namespaces, and a process that passes their packets on, between any
two at MBIT megabits per second in each direction, MS milliseconds later, each lost with probability LOSS. Needs root on Linux, and
a C compiler. TCP
is cubic with large buffers; packets have `--mtu` bytes (16,000), which spares the processor, and of which fewer are lost than of
1,500. The forwarder takes a share of a core, which is reported: there should be as many cores as parts.

Ways, each with one thread a process and 16 windows a step:

    plain, plain2     one process, with one thread and with two; the line does not matter
    plain-heads       the same with the auxiliary heads and losses that antiphon's parts have, all but the last
    ddp, ddp16        DistributedDataParallel over gloo; its gradients as float16
    1f1b              torch.distributed.pipelining, the blocks divided among all, 4 micro-batches
    averaging:H       parameters averaged every H steps; `averaging` is H = 16, 64 and 256, and in the result the best of them
    diloco:H          the same with an outer Nesterov momentum of 0.9 at a rate of 0.7 (Douillard et al. 2023)
    streaming:H       the same with a quarter of the parameters at a time, in four bits, 5 steps under way (Douillard et al. 2025)
    antiphon          `antiphon.split(model, at=PARTS, …)` in parts on a Ray cluster, one node in each namespace
    antiphon-asleep   the same messages, with 60 ms of sleep a step in place of a model: what the line costs, on any machine
    antiphon-local    `antiphon` with small local heads; antiphon-free: the parts do not wait for each other
    antiphon-nadam    an asynchronous pipeline: `coupling: delayed` with NAdam (Ajanthan et al. 2025), or Muon: antiphon-muon

All but these have Adam, or with `+muon` behind their names Muon for matrices, such as antiphon+muon and diloco:64+muon.

The clock is the same for all: it starts when the last process of a way has taken its first 8 steps, so that building, connecting
and the first allocations count for nobody. The step in which it runs out is finished. The model is then judged outside of the
time: of ways that average, the mean of all. A run leaves `ms` (a step), `bytes` (a step, from each end), `rss_mb` (the most memory
of each process above that after `import torch`; of antiphon the parts and the process that started them, without Ray's own),
`forwarder` (its share of a core), `bits`, and of antiphon the `link` that the parts chose. Ways, lines and seeds take turns, seed by
seed.
With `--dilation K`, each machine has 1/K of a core, the line 1/K of its rate and K times its delay, and the clock K times the
seconds; what is reported is divided by K. So four machines compute on two cores as on four.
With `--pause`, the first process that trains is stopped for so many seconds in the middle of the training.

The table of the results, on an idle machine, in 2 hours (6 with `--ways all`):

    ANTIPHON_DATA=… python benchmarks/slow_line.py --line 1000:25 --line 1000:100 --line 100:25 --line 100:100 \
        --seconds 60 --seeds 5 --out slow_line.jsonl --json

It can be cut: with the same `--out` it goes on. `slow_line_curves.py` needs 12 of the seconds, and tunes rates.
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

from antiphon.telemetry.statistics import mean

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE / "slow_line")]
from costs import Parts, Setup
from interleaved import table
from machine import machine
from network import Network, NetworkError, Setting
from task import STANDARD
from torch_way import MUON, OVERLAP
from training import Training, WayError, megabytes_after_import

EVERY = (16, 64, 256)
"""Steps between two meetings of ways that average."""
MEETING = ("averaging", "diloco", "streaming")
"""These ways."""
ASLEEP, SLEEP = "antiphon-asleep", 0.06
"""`antiphon` where the parts sleep for so many seconds a step."""
WAYS = {
    "plain": ("plain",),
    "plain2": ("plain2",),
    "plain-heads": ("plain-heads",),
    "ddp": ("ddp",),
    "ddp16": ("ddp16",),
    "1f1b": ("1f1b",),
    "averaging": tuple(f"averaging:{every}" for every in EVERY),
    "diloco": tuple(f"diloco:{every}" for every in EVERY),
    "streaming": tuple(f"streaming:{every}" for every in EVERY[1:]),
    "antiphon": ("antiphon",),
    f"antiphon{MUON}": (f"antiphon{MUON}",),
    "antiphon-local": ("antiphon-local",),
    "antiphon-free": ("antiphon-free",),
    "antiphon-nadam": ("antiphon-nadam",),
    "antiphon-muon": ("antiphon-muon",),
    ASLEEP: (ASLEEP,),
}
"""What the names of ways stand for."""
DEFAULT = "plain,ddp,1f1b,diloco:64,antiphon"
RATE = 1e-3
"""Learning rate: with 2e-3, plain, averaging and antiphon all learn less in 60 s (100:25, one seed)."""
SLOWEST = 16
"""Dilation at which a machine has no less than the millisecond of a core that Linux can give."""
PARTS = (2, 4)
"""Numbers of machines, by which the model's blocks and the batch can be divided."""


class Records:
    """Results of single runs, kept in a file of JSON lines.

    Args:
        path: Of the file; None: they are kept in memory.
    """

    _KEYS = ("line", "way", "seed", "seconds", "pause", "lr", "mtu", "parts", "dilation")

    def __init__(self, path: Path | None) -> None:
        self._path, self._found = path, dict[tuple[Any, ...], dict[str, Any]]()
        if path is not None and path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                self._take(json.loads(line))

    def _take(self, record: dict[str, Any]) -> None:
        self._found[self._key(record)] = record

    def _key(self, about: Mapping[str, Any]) -> tuple[Any, ...]:
        return tuple(
            {"pause": 0.0, "parts": 2, "dilation": 1.0, **about}[key] for key in self._KEYS
        )  # older records lack these

    def get(self, about: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the record of a run; None: there is none."""
        return self._found.get(self._key(about))

    def add(self, record: dict[str, Any]) -> None:
        """Keep a record."""
        self._take(record)
        if self._path is not None:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(record) + "\n")


def run_all(runs: Sequence[dict[str, Any]], records: Records, parts: int, mtu: int, dilation: float) -> int:
    """Take the runs that have no record, and return how many have failed.

    Args:
        runs: Their line, way, seed, seconds, pause, learning rate, MTU, parts and dilation.
        records: Each is kept as soon as it is there.
        parts: Machines.
        mtu: Bytes of a packet.
        dilation: By which all is slower.

    Raises:
        NetworkError: No line can be emulated here.
    """
    missing, failed = [run for run in runs if records.get(run) is None], 0
    if not missing:
        return 0
    about, after_import = machine(), megabytes_after_import()
    with Network(parts, mtu, dilation) as network:
        for number, run in enumerate(missing, 1):
            start, setting = time.monotonic(), Setting.parsed(run["line"])
            try:
                with training_of(network, setting, run) as training:
                    found = training.measured(after_import, run["pause"])
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


def training_of(network: Network, setting: Setting, run: Mapping[str, Any]) -> Training:
    """Return the processes of a run."""
    asleep = run["way"] == ASLEEP
    flops = Parts(len(network.ends)).computing(Setup(STANDARD, setting, 1.0)) / SLEEP if asleep else 0.0
    way = "antiphon" if asleep else run["way"]
    return Training(network, setting, way, run["seed"], run["lr"], run["seconds"], flops=flops)


def summary(records: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return means over the runs of a way on a line; the interval is Student's t over seeds."""
    each = [record["bits"] for record in records]
    whole = None if None in each else mean(each, share=False)
    ends = None if whole is None or whole.low is None or whole.high is None else (whole.low, whole.high)
    columns = list(zip(*(record["bytes"] for record in records), strict=True))
    memory = list(zip(*(record["rss_mb"] for record in records), strict=True))
    return {
        "ms": round(fmean(record["ms"] for record in records), 2),
        "bits": None if whole is None else round(whole.value, 4),
        "interval": None if ends is None else [round(end, 4) for end in ends],
        "bits_each": each,
        "ms_each": [record["ms"] for record in records],
        "steps": round(fmean(record["steps"] for record in records)),
        "bytes": [round(fmean(column)) for column in columns],
        "rss_mb": [round(fmean(column)) for column in memory],
        "forwarder": round(fmean(record["forwarder"] for record in records), 3),
        "lr": records[0]["lr"],
    }


def by_way(names: Sequence[str], records: Mapping[str, Sequence[Any]]) -> dict[str, Any]:
    """Return the results of a line by way; those that average have one each, and that of the best under their name.

    Args:
        names: Names of ways.
        records: Of the runs on the line, by way.
    """
    found: dict[str, Any] = {}
    for name in names:
        rows = {way: summary(records[way]) for way in ways_of(name) if records.get(way)}
        known = {way: row for way, row in rows.items() if row["bits"] is not None}
        found |= {name: {"ms": None, "bits": None}} | rows
        if name.removesuffix(MUON) in MEETING and known:
            best = min(known, key=lambda way: known[way]["bits"])
            found[name] = {**known[best], "every": int(best.removesuffix(MUON).partition(":")[2])}
    return found


def ways_of(name: str) -> tuple[str, ...]:
    """Return the ways that a name stands for; ValueError: there is none."""
    if name.endswith(MUON) and not name.startswith(("antiphon", ASLEEP)):
        return tuple(way + MUON for way in ways_of(name.removesuffix(MUON)))
    kind, _, every = name.partition(":")
    least = OVERLAP + 1 if kind == "streaming" else 1
    if kind in MEETING and every.isdecimal():
        if int(every) < least:
            raise ValueError(f"{name}: H must be at least {least}")
        return (name,)
    if name not in WAYS:
        raise ValueError(
            f"no way {name!r}; there are {', '.join(WAYS)}, averaging:H, diloco:H, streaming:H, each also with {MUON}, and all"
        )
    return WAYS[name]


def rate_of(way: str, line: str, given: Mapping[str, float]) -> float:
    """Return the learning rate of a way on a line, as given by WAY@LINE or WAY, or `RATE`; ways that meet may lack their H."""
    kind = way.partition(":")[0]
    keys = (f"{way}@{line}", f"{kind}@{line}", way, kind)
    return next((given[key] for key in keys if key in given), RATE)


def arguments_of(command: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the arguments; `names` are those of ways, `rates` those given by way."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--line", action="append", metavar="MBIT:MS[:LOSS]", help="may be given several times"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="of training")
    parser.add_argument("--pause", type=float, default=0.0, help="seconds for which a process is stopped")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ways", default=DEFAULT, help=f"with commas, or all; default: {DEFAULT}")
    parser.add_argument(
        "--lr", action="append", default=[], metavar="WAY[@LINE]=RATE", help=f"in place of {RATE:g}"
    )
    parser.add_argument("--out", type=Path, help="file of JSON lines: runs that it has are not taken again")
    parser.add_argument("--parts", type=int, default=2, choices=PARTS, help="machines")
    parser.add_argument(
        "--dilation", type=float, default=1.0, help="by which machines, lines and clock are slower (1 to 16)"
    )
    parser.add_argument("--mtu", type=int, default=16_000, help="bytes of a packet")
    parser.add_argument("--json", action="store_true", help="print the results as JSON in the last line")
    arguments = parser.parse_args(command)
    if not 1 <= arguments.dilation <= SLOWEST:
        parser.error(f"--dilation: {arguments.dilation:g}; it must be 1 to {SLOWEST}")
    try:
        arguments.line = [str(Setting.parsed(line)) for line in arguments.line or ["100:25"]]
        arguments.names = (
            [name for name in WAYS if name != ASLEEP]
            if arguments.ways == "all"
            else arguments.ways.split(",")
        )
        arguments.ways = [way for name in arguments.names for way in ways_of(name)]
        pairs = (text.partition("=") for text in arguments.lr)
        arguments.rates = {way: float(rate) for way, _, rate in pairs}
    except ValueError as error:
        parser.error(str(error))
    return arguments


def main() -> None:
    """Parse arguments, train, print."""
    arguments = arguments_of()
    runs = [
        {
            "line": line,
            "way": way,
            "seed": seed,
            "seconds": arguments.seconds,
            "pause": arguments.pause,
            "lr": rate_of(way, line, arguments.rates),
            "mtu": arguments.mtu,
            "parts": arguments.parts,
            "dilation": arguments.dilation,
        }
        for seed in range(arguments.seeds)
        for line in arguments.line
        for way in arguments.ways
    ]
    records = Records(arguments.out)
    try:
        failed = run_all(runs, records, arguments.parts, arguments.mtu, arguments.dilation)
    except NetworkError as error:
        sys.exit(f"slow_line: {error}")
    found: dict[str, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    for run in runs:
        if (record := records.get(run)) is not None:
            found[run["line"]][run["way"]].append(record)
    results = {line: by_way(arguments.names, found[line]) for line in arguments.line}
    print("\n".join(lines_of(results)))
    if arguments.json:
        one = len(arguments.line) == 1
        print(json.dumps(results[arguments.line[0]] if one else results))
    sys.exit(1 if failed else 0)


def lines_of(results: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Return the lines of the table."""
    rows = [
        {
            "line": line,
            "way": way if "every" not in row else f"{way} (best: {row['every']})",
            **{key: row.get(key) for key in ("lr", "ms", "bits", "interval", "steps", "forwarder")},
            "kB_a_step": " + ".join(f"{each / 1e3:.0f}" for each in row.get("bytes", [])) or None,
            "MB": " + ".join(map(str, row.get("rss_mb", []))) or None,
        }
        for line, each in results.items()
        for way, row in each.items()
    ]
    return table(
        rows, ["line", "way", "lr", "ms", "bits", "interval", "steps", "kB_a_step", "MB", "forwarder"]
    )


if __name__ == "__main__":
    main()
