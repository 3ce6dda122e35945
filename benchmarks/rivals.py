"""Who reaches an accuracy first where messages take time? A chain of 4 and of 8 layers learns digits, one machine a layer.

Plain torch in virtual time, without antiphon's engine (its digits alone): machines, latencies and their events are simulated,
every update is computed for real, in the order that the events imply. Times are in stage times: forward and backward pass of a
layer with its optimiser on one minibatch. `rivals_ways.py` describes the ways of training, `rivals_machines.py` the machines.

Studies (`--study`):
- `latency`: every way, at latencies of 0 to 50 stage times. Of `asynchronous` and `delayed` several numbers of minibatches in
  flight are tried, and the one with the least time is in the table.
- `rates`: the same with the learning rate chosen for each way and latency, and the minibatch of those that wait, which costs them
  the more work the larger it is.
- `stragglers`: machines that pause, that jitter, one that is slow for good, messages that are lost.
- `free`: under the same, what `decoupled` and `local` should do with messages that come faster than they are read: keep the
  newest, a queue of some length, wait for gradients.
- `costs`: `decoupled` and `local` where a synthetic gradient costs as much as it does for a layer this small.
`--latencies`, `--jitter`, `--pauses`, `--loss`, `--slow` and `--ways` change the first.

A time is the mean over seeds of the first look at the test accuracy at which it is reached; looks are one stage time or 2 % of
the time apart. A dash: some seed is not there by `--limit`. Of several settings of a way, those that are slower to the highest
accuracy than one before them are given up. Every run is kept in `--folder` and not repeated.
Run: `python benchmarks/rivals.py --save`, `… --study stragglers --save`; `--table` prints the finished runs alone.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import sys
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from statistics import mean
from typing import Any

import torch

from antiphon.telemetry.pictures import new_figure, save_figure

sys.path.insert(0, str(Path(__file__).parent))
from interleaved import RESULTS, finish, parsed, table
from machine import machine
from rivals_chain import BATCH, Chain, Digits, digits
from rivals_machines import Conditions, Costs, Network
from rivals_ways import OneWay, Pipeline, Synchronous, full_pipeline

WAYS = (
    "one_machine",
    "locked",
    "1f1b",
    "data_parallel",
    "ring",
    "asynchronous",
    "delayed",
    "decoupled",
    "local",
)
WAITING, PIPELINES = WAYS[:5], WAYS[5:7]
GOALS = (0.9, 0.95, 0.97)
LATENCIES = (0.0, 1.0, 5.0, 20.0, 50.0)
SHARES = (1.0, 0.5, 0.25, 0.125)
"""Of the minibatches in flight that fill a pipeline."""
STEPS = 1_000
"""After which those that wait are given up."""
RATES = (0.001, 0.003, 0.01)
BATCHES = (64, 256, 1024)
QUEUE = 16
"""Messages kept by a receiver: what the study `free` found best."""
SMALL = Costs(0.25, 0.75, 0.15, 0.93)
"""As measured for a layer of 128 units on one processor (`unlock.py`, `stage_us`)."""
STRAGGLERS: dict[str, Conditions] = {
    "none": Conditions(),
    "pauses": Conditions(pauses=0.1, pause=9.0),
    "jitter": Conditions(jitter=0.5),
    "one machine 3 x slower": Conditions(slow=3.0),
    "5 % lost": Conditions(loss=0.05),
}


@dataclass(frozen=True)
class Setting:
    """One run.

    Attributes:
        way: Of training.
        stages: Of the chain, and machines.
        seed: Of parameters, minibatches and the network.
        conditions: Of machines and network.
        costs: Of a stage.
        rate: Adam's.
        rows: Of a minibatch; work is in proportion.
        in_flight: Minibatches of a pipeline without flushes; None: as many as fill it.
        queue: Messages that a stage of `decoupled` or `local` keeps; None: all.
        ahead: Steps that a stage of `decoupled` goes on without a gradient; None: for ever.
        together: Whether gradients returned since the last step make one update of a synthetic gradient; else each its own.
    """

    way: str
    stages: int
    seed: int
    conditions: Conditions = field(default_factory=Conditions)
    costs: Costs = field(default_factory=Costs)
    rate: float = 0.001
    rows: int = BATCH
    in_flight: int | None = None
    queue: int | None = QUEUE
    ahead: int | None = None
    together: bool = False

    @property
    def file(self) -> str:
        """The name of the file that keeps the run: what is as usual does not enter it."""
        usual = asdict(Setting(self.way, self.stages, self.seed))
        text = json.dumps({k: v for k, v in asdict(self).items() if v != usual[k]}, sort_keys=True)
        return f"{self.way}-{self.stages}-{self.seed}-{hashlib.sha256(text.encode()).hexdigest()[:12]}.json"


def simulator(setting: Setting, chain: Chain) -> Synchronous | Pipeline | OneWay:
    """Return what trains a chain in virtual time."""
    network = Network(setting.conditions, setting.seed)
    scale = setting.rows / BATCH
    costs = Costs(*(scale * value for value in asdict(setting.costs).values()))
    if setting.way in WAITING:
        return Synchronous(setting.way, chain, network, costs)
    if setting.way in PIPELINES:
        full = full_pipeline(setting.stages, setting.conditions.latency)
        return Pipeline(
            chain, network, costs, in_flight=setting.in_flight or full, replay=setting.way == "delayed"
        )
    local = setting.way == "local"
    policy = {"queue": setting.queue, "ahead": setting.ahead, "together": setting.together}
    return OneWay(chain, network, costs, local=local, **policy)


def trained(setting: Setting, data: Digits, limit: float, best: float = math.inf) -> dict[str, Any]:
    """Return what comes of a run: by accuracy the time, the updates of the first stage and the megabytes sent.

    Args:
        setting: The run.
        data: The digits.
        limit: Stage times after which it is given up; those that wait are given up after `STEPS` steps.
        best: The time of another setting of the same way to all accuracies, after which it is given up as slower.
    """
    chain = Chain(setting.stages, data, rate=setting.rate, seed=setting.seed, rows=setting.rows)
    machines = simulator(setting, chain)
    found: dict[str, Any] = {"setting": asdict(setting), "limit": limit, "reached": {}}
    while len(found["reached"]) < len(GOALS) and machines.now < best:
        if machines.updates >= STEPS if isinstance(machines, Synchronous) else machines.now >= limit:
            break
        look = max(machines.now + 1, machines.now * 1.02)
        machines.run(look)
        accuracy = chain.accuracy()
        for goal in GOALS:
            if accuracy >= goal:
                entry = {"time": round(machines.now, 2), "updates": machines.updates}
                found["reached"].setdefault(str(goal), entry | {"mb": round(machines.bytes_sent / 1e6, 2)})
    found["slower"] = len(found["reached"]) < len(GOALS) and machines.now >= best
    found["working"] = round(_working(machines), 3)
    if not isinstance(machines, Synchronous):
        count, total = machines.staleness
        found["staleness"] = round(total / count, 1) if count else 0.0
    if isinstance(machines, OneWay):
        found["dropped"] = machines.dropped
    return found


def _working(machines: Synchronous | Pipeline | OneWay) -> float:
    """The share of time that machines work, mean over them."""
    if isinstance(machines, Synchronous):
        return machines.working
    return mean(machines.worked) / max(machines.now, 1e-9)


def _variants(way: str, stages: int, conditions: Conditions) -> Iterator[dict[str, Any]]:
    """Yield what is tried of a way: of a pipeline, minibatches in flight."""
    if way not in PIPELINES:
        yield {}
        return
    full = full_pipeline(stages, conditions.latency)
    yield from ({"in_flight": n} for n in sorted({max(1, round(share * full)) for share in SHARES}))


def cells(study: str, arguments: argparse.Namespace) -> Iterator[tuple[dict[str, Any], list[Setting]]]:
    """Yield the cells of a study's table: what they are, and the settings of the first seed, of which the best counts."""
    chosen = STRAGGLERS if study in ("stragglers", "free") else {"": arguments.conditions}
    for stages in arguments.stages:
        for name, conditions in chosen.items():
            for latency in arguments.latencies:
                there = replace(conditions, latency=latency)
                place = {"stages": stages, "latency": latency, **({"conditions": name} if name else {})}
                if study == "free":
                    yield from _policies(place, stages, there)
                    continue
                for way in arguments.ways:
                    plain = [Setting(way, stages, 0, there, **more) for more in _variants(way, stages, there)]
                    yield {**place, "way": way}, list(_options(study, plain))


def _options(study: str, plain: Sequence[Setting]) -> Iterator[Setting]:
    """Yield the settings of a way that a study tries."""
    for setting in plain:
        if study == "costs":
            yield replace(setting, costs=SMALL)
        elif study == "rates":
            batches = BATCHES if setting.way in WAITING else (BATCH,)
            yield from (replace(setting, rate=rate, rows=rows) for rate in RATES for rows in batches)
        else:
            yield setting


def _policies(
    place: dict[str, Any], stages: int, conditions: Conditions
) -> Iterator[tuple[dict[str, Any], list[Setting]]]:
    """Yield what receivers and senders of a free exchange may do."""
    round_trip = full_pipeline(stages, conditions.latency)
    for way in ("decoupled", "local"):
        for queue in (1, 4, 16, None):
            bounds = (None,) if way == "local" or conditions.loss else (None, round_trip)
            for ahead, together in itertools.product(bounds, (False,) if way == "local" else (False, True)):
                policy = {"queue": queue, "ahead": ahead, "together": together}
                cell = policy | {"queue": "all" if queue is None else queue, "way": way}
                yield place | cell, [Setting(way, stages, 0, conditions, **policy)]


class Study:
    """Runs kept in a folder, and tables of them.

    Args:
        arguments: Of the command line.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.seeds, self.limit = arguments.seeds, arguments.limit
        self.folder: Path = arguments.folder
        self.folder.mkdir(parents=True, exist_ok=True)
        self.cells = list(cells(arguments.study, arguments))

    def train(self) -> None:
        """Do the runs that are not yet finished."""
        data = digits()
        for cell, settings in self.cells:
            for seed in range(self.seeds):
                best = math.inf
                for setting in settings:
                    one = replace(setting, seed=seed)
                    path = self.folder / one.file
                    if (found := self._finished(path)) is None:
                        found = trained(one, data, self.limit, best)
                        path.write_text(json.dumps(found), encoding="utf-8")
                    if (last := found["reached"].get(str(GOALS[-1]))) is not None:
                        best = min(best, last["time"])
            print(", ".join(str(value) for value in cell.values()), file=sys.stderr, flush=True)

    def rows(self) -> list[dict[str, Any]]:
        """The table: a row for each cell whose runs are finished."""
        rows = []
        for cell, settings in self.cells:
            tried = []
            for setting in settings:
                files = [self.folder / replace(setting, seed=seed).file for seed in range(self.seeds)]
                runs = [found for path in files if (found := self._finished(path)) is not None]
                if len(runs) == self.seeds:
                    tried.append((setting, runs))
            if len(tried) == len(settings):
                rows.append(cell | _best(tried))
        return rows

    def _finished(self, path: Path) -> dict[str, Any] | None:
        """A run that need not be repeated: it reached all accuracies, or was given up for good."""
        if not path.exists():
            return None
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        complete = len(found["reached"]) == len(GOALS) or found["slower"]
        return found if complete or found["limit"] >= self.limit else None


def _best(tried: Sequence[tuple[Setting, list[dict[str, Any]]]]) -> dict[str, Any]:
    """The figures of a cell: for each accuracy those of the setting that reaches it first, on the mean over seeds."""
    found: dict[str, Any] = {}
    for goal in map(str, GOALS):
        times = [
            (mean(run["reached"][goal]["time"] for run in runs), setting, runs)
            for setting, runs in tried
            if all(goal in run["reached"] for run in runs)
        ]
        if not times:
            found[goal] = None
            continue
        time, setting, runs = min(times, key=lambda each: each[0])
        entry: dict[str, Any] = {"time": round(time, 1)}
        entry["by_seed"] = [run["reached"][goal]["time"] for run in runs]
        for what in ("updates", "mb"):
            entry[what] = round(mean(run["reached"][goal][what] for run in runs), 1)
        if len(tried) > 1:
            entry["chosen"] = {
                name: value
                for name in ("in_flight", "rate", "rows")
                if (value := getattr(setting, name)) != getattr(tried[-1][0], name)
                or len({getattr(other, name) for other, _ in tried}) > 1
            }
        for what in ("staleness", "working", "dropped"):
            if what in runs[0]:
                entry[what] = round(mean(run[what] for run in runs), 3)
        found[goal] = entry
    return found


def crossed(rows: Sequence[dict[str, Any]], goal: float) -> tuple[list[str], list[dict[str, Any]]]:
    """Return the columns and rows of a table of times to an accuracy, the ways side by side."""
    names = ("stages", "conditions", "latency", "queue", "ahead", "together")
    names = [name for name in names if name in rows[0]]
    ways = list(dict.fromkeys(row["way"] for row in rows))
    lines: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in rows:
        line = lines.setdefault(
            tuple(row[name] for name in names),
            {name: f"{row[name]:g}" if name == "latency" else row[name] for name in names},
        )
        entry = row[str(goal)]
        line[row["way"]] = None if entry is None else f"{entry['time']:,.0f}"
    return [*names, *ways], list(lines.values())


def _keep(name: str, rows: Sequence[dict[str, Any]], about: str, command: str) -> None:
    """Write the tables, and a figure where latencies are compared, beside the JSON."""
    place = machine()
    parts = []
    for goal in GOALS:
        columns, lines = crossed(rows, goal)
        cells = [
            ["–" if line.get(column) is None else str(line[column]) for column in columns] for line in lines
        ]
        text = [[column.replace("_", " ") for column in columns], ["---:"] * len(columns), *cells]
        parts.append(
            f"Stage times to {100 * goal:.0f} %:\n\n" + "\n".join(f"| {' | '.join(line)} |" for line in text)
        )
    where = f"{place['date']}, commit {place['commit']}, {place['processor']}, one thread, torch {place['torch']}."
    text = "\n\n".join([*parts, about, f"`{command}`", where])
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.md").write_text(text + "\n", encoding="utf-8")
    if name == "rivals-latency":
        _draw(rows, RESULTS / f"{name}.svg")


def _draw(rows: Sequence[dict[str, Any]], path: Path) -> None:
    figure = new_figure(path.name, layout="constrained", figsize=(8, 4))
    sizes = sorted({row["stages"] for row in rows})
    for stages, axes in zip(
        sizes, figure.subplots(1, len(sizes), sharey=True, squeeze=False)[0], strict=True
    ):
        for way in dict.fromkeys(row["way"] for row in rows):
            chosen = [row for row in rows if (row["stages"], row["way"]) == (stages, way) and row["0.95"]]
            times = [row["0.95"]["time"] for row in chosen]
            axes.plot([row["latency"] for row in chosen], times, marker=".", label=way.replace("_", " "))
        axes.set(title=f"{stages} layers", xlabel="latency, stage times", yscale="log")
        axes.set_xscale("symlog", linthresh=1)
    figure.axes[0].set_ylabel("stage times to 95 %")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), loc="outside right upper", frameon=False)
    save_figure(figure, path)


def _chosen_options(words: Sequence[str]) -> list[str]:
    """The words of a command line that change a table."""
    found, skip = [], False
    for word in words:
        if not skip and word != "--table" and not word.startswith("--folder"):
            found.append(word)
        skip = word == "--folder"
    return found


def _numbers(text: str) -> list[float]:
    return [float(word) for word in text.split(",")]


def main() -> None:
    """Parse arguments, train, print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    studies = ("latency", "rates", "stragglers", "free", "costs")
    parser.add_argument("--study", choices=studies, default="latency")
    parser.add_argument("--stages", type=lambda text: [int(word) for word in text.split(",")], default=[4, 8])
    parser.add_argument("--latencies", type=_numbers, help="in stage times, with commas")
    parser.add_argument("--ways", type=lambda text: text.split(","), default=list(WAYS))
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument(
        "--limit", type=float, default=10_000.0, help="stage times after which a run is given up"
    )
    parser.add_argument("--jitter", type=float, default=0.0, help="spread of work and latency (lognormal)")
    parser.add_argument(
        "--pauses", type=float, default=0.0, help="pauses per stage time of work, of each machine"
    )
    parser.add_argument("--pause", type=float, default=9.0, help="length of a pause in stage times")
    parser.add_argument("--loss", type=float, default=0.0, help="probability that a message is lost")
    parser.add_argument(
        "--slow", type=float, default=1.0, help="factor on the work of the machine in the middle"
    )
    parser.add_argument("--folder", type=Path, default=Path("runs/rivals"))
    parser.add_argument("--table", action="store_true", help="of the finished runs alone")
    arguments = parsed(parser)
    if unknown := sorted(set(arguments.ways) - set(WAYS)):
        parser.error(f"--ways: no way {unknown[0]!r}; there are {', '.join(WAYS)}")
    if arguments.latencies is None:
        arguments.latencies = [1.0, 20.0] if arguments.study in ("stragglers", "free") else list(LATENCIES)
    torch.set_num_threads(1)
    names = ("jitter", "pauses", "pause", "loss", "slow")
    arguments.conditions = Conditions(**{name: getattr(arguments, name) for name in names})
    study = Study(arguments)
    if not arguments.table:
        study.train()
    rows = study.rows()
    if not rows:
        parser.error(f"no cell of this study has all its runs finished in {arguments.folder}")
    seeds = f"{arguments.seeds} seeds" if arguments.seeds > 1 else "1 seed"
    about = f"Mean over {seeds}; a dash: not within {arguments.limit:,.0f} stage times."
    name = f"rivals-{arguments.study}"
    if arguments.save:
        _keep(
            name, rows, about, f"python {' '.join(['benchmarks/rivals.py', *_chosen_options(sys.argv[1:])])}"
        )
    settings = {"seeds": arguments.seeds, "limit": arguments.limit, "stages": arguments.stages}
    settings |= {"latencies": arguments.latencies, "conditions": asdict(arguments.conditions)}
    text = []
    for goal in GOALS:
        columns, lines = crossed(rows, goal)
        text += [f"Stage times to {100 * goal:.0f} %", "", *table(lines, columns), ""]
    finish({"benchmark": name, **settings, "rows": rows}, arguments, [*text, about])


if __name__ == "__main__":
    main()
