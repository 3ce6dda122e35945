"""Several contestants timed in turn, in one process: blocks of steps alternate, each round of blocks gives ratios.

One contestant's block differs from the next in the machine's mood; a ratio within a round does not. Figures are medians
over rounds with a bootstrap interval. Time is the process's CPU time; on a GPU it is wall clock, the device waited for.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from machine import machine
from numpy.typing import NDArray

from antiphon.running.simulation import Simulation

Times = dict[str, NDArray[np.float64]]
"""Seconds per step, [rounds], by contestant."""
Clock = Callable[[], float]


@runtime_checkable
class Turns(Protocol):
    """A contestant that times its turns itself."""

    def turn(self, count: int) -> float:
        """Return seconds per step over some steps."""
        ...


Contestant = Callable[[], object] | Turns
"""What takes one step, or times many."""
RESULTS = Path(__file__).parent / "results"
_DRAWS = 10_000


def clock_of(device: str) -> Clock:
    if torch.device(device).type == "cpu":
        return time.process_time

    def waited() -> float:
        torch.cuda.synchronize(device)
        return time.perf_counter()

    return waited


def timed(
    contestants: Mapping[str, Contestant],
    rounds: int,
    *,
    seconds: float = 0.15,
    multiple: int | Mapping[str, int] = 1,
    clock: Clock = time.process_time,
) -> Times:
    """Time the steps of contestants in turn: seconds per step in each round.

    Args:
        seconds: A turn's length; it has one step at least.
        multiple: Steps after which costs repeat: turns are multiples of it. One number, or one for each.
    """
    counts = {}
    for name, step in contestants.items():
        unit = multiple if isinstance(multiple, int) else multiple[name]
        _turn(step, max(unit, 2), clock)
        counts[name] = unit * max(1, round(seconds / max(_turn(step, unit, clock) * unit, 1e-6)))
    found: dict[str, list[float]] = {name: [] for name in contestants}
    names = list(contestants)
    for index in range(rounds):
        start = index % len(names)  # nobody always follows the same one
        for name in names[start:] + names[:start]:
            found[name].append(_turn(contestants[name], counts[name], clock))
    return {name: np.array(each) for name, each in found.items()}


def _turn(step: Contestant, count: int, clock: Clock) -> float:
    if isinstance(step, Turns):
        return step.turn(count)
    start = clock()
    for _ in range(count):
        step()
    return (clock() - start) / count


class Run:
    """The steps of a simulation as a run takes them: on a GPU, recorded periods of them are replayed."""

    def __init__(self, simulation: Simulation, clock: Clock) -> None:
        self._simulation = simulation
        self._clock = clock

    def turn(self, count: int) -> float:
        start = self._clock()
        self._simulation.run(count)
        return (self._clock() - start) / count


def interval(values: NDArray[np.float64]) -> list[float]:
    rng = np.random.default_rng(0)
    medians = np.median(rng.choice(values, (_DRAWS, len(values))), axis=1)
    return [round(float(edge), 3) for edge in np.quantile(medians, [0.025, 0.975])]


def ratio(times: Times, over: str, under: str) -> tuple[float, list[float]]:
    """Return the median of one contestant's time over another's, round by round, and its 95 % interval."""
    ratios = times[over] / times[under]
    return round(float(np.median(ratios)), 3), interval(ratios)


def described(text: str | None) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)


def parsed(parser: argparse.ArgumentParser, rounds: int | None = None) -> argparse.Namespace:
    """Return the arguments: a benchmark's own, `--rounds` where it has rounds, `--json` and `--save`."""
    if rounds is not None:
        parser.add_argument("--rounds", type=int, default=rounds, help="turns of each contestant")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.add_argument("--save", action="store_true", help="write it to benchmarks/results/ too")
    return parser.parse_args()


def finish(result: dict[str, Any], arguments: argparse.Namespace, lines: Iterable[str]) -> None:
    """Print a result with the machine it is from, as JSON or as lines, and save it if that is asked for."""
    result = {**result, "machine": machine()}
    if arguments.save:
        RESULTS.mkdir(exist_ok=True)
        place = RESULTS / f"{result['benchmark']}.json"
        place.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result) if arguments.json else "\n".join(lines))


def table(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> list[str]:
    """Return lines of a table; what a row lacks is a dash."""
    cells = [[column.replace("_", " ") for column in columns]]
    cells += [["-" if row.get(column) is None else str(row[column]) for column in columns] for row in rows]
    widths = [max(len(line[index]) for line in cells) for index in range(len(columns))]
    return ["  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in cells]
