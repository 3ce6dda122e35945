"""The truth table of docs/time.md, which message a tick reads and when its gradient is back (semantics 13 to 18).

It is what the event simulator says, to which running simulations are held in test_random_time.py and test_window_table.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from tests.contracts.event_scene import Clock, Link, Prediction, Scene
from tests.contracts.event_simulator import simulate

PAGE = Path(__file__).resolve().parents[2] / "docs" / "time.md"
CHANNEL = "a->b"


@dataclass(frozen=True)
class Way:
    """One channel: `sender` and `receiver` are (period, phase)."""

    sender: tuple[int, int]
    receiver: tuple[int, int]
    delay: int

    def story(self, unroll: int) -> Prediction:
        """What becomes of its messages, the receiver's windows being of so many ticks."""
        clocks = {"a": Clock(*self.sender, 1), "b": Clock(*self.receiver, unroll)}
        link = Link(CHANNEL, "a", "b", self.delay, "decoupled")
        return simulate(Scene(clocks, [link], 40, judged=frozenset("b")))


def row(way: Way) -> str:
    soon, late = way.story(1), way.story(2)
    reads = []
    for step in range(9):
        read = soon.read.get((CHANNEL, step, 0))
        reads.append("." if read is None else str(read[0] + 1) if read else "-")
    fates = []
    for stamp in range(6):
        if (CHANNEL, stamp) not in soon.fates:
            fates.append(".")
            continue
        ticks = [step for (_, step, _), read in soon.read.items() if stamp in read]
        back = [found.fates[CHANNEL, stamp].back for found in (soon, late)]
        used = "-".join(str(tick + 1) for tick in sorted({ticks[0], ticks[-1]})) if ticks else ""
        fates.append(f"{used}>{back[0] + 1}/{back[1] + 1}" if ticks else "x")
    ends = [f"{period}/{phase}" for period, phase in (way.sender, way.receiver)]
    cells = [*ends, str(way.delay), " ".join(reads)]
    wide = [f"{cell:<{w}}" for cell, w in zip(cells, (6, 8, 5, 19), strict=True)]
    return " ".join([*wide, *(f"{fate:<9}" for fate in fates)]).rstrip()


def table() -> list[str]:
    """Some clocks and delays."""
    ways = [Way((1, 0), (1, 0), delay) for delay in (0, 1, 2)]
    ways += [Way((1, 0), receiver, 0) for receiver in ((2, 0), (3, 2))]
    ways += [Way((1, 0), (2, 0), 1), Way((2, 0), (1, 0), 0), Way((2, 0), (2, 1), 0), Way((3, 0), (2, 0), 0)]
    return [row(way) for way in ways]


def test_the_page_shows_the_table() -> None:
    text = PAGE.read_text(encoding="utf-8")
    header = "sender receiver delay reads at steps 1-9   sent at 1 2         3         4         5         6"
    shown = text[text.index(header) :].split("```")[0].strip().splitlines()[1:]
    assert shown == table()
