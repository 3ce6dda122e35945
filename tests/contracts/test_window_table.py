"""Couplings and window ends, written out: what is read and injected and when the gradient is back (semantics 13-18, 27b)."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.contracts.event_scene import Clock, Link, Prediction, Scene, state_of
from tests.contracts.event_simulator import World, simulate
from tests.contracts.scripted import agree

MESSAGES = """
coupling  sender  receiver delay  made at 0 1     2     3     4     5
locked    1/0x1   1/0x1    0      =0    =1    =2    =3    =4    =5
locked    1/0x1   1/0x1    1      lost  lost  lost  lost  lost  lost
locked    1/0x2   1/0x2    1      =1    lost  =3    lost  =5    lost
locked    1/0x4   1/0x4    1      =3    =3    =3    lost  =7    =7
locked    1/0x1   1/0x2    0      =1    =1    =3    =3    =5    =5
locked    2/0x1   1/0x1    0      =1    .     =3    .     =5    .
locked    2/1x1   1/0x1    0      .     =1~   .     =3~   .     =5~
locked    2/0x1   1/0x2    1      =1~   .     =3~   .     =5~   .
locked    1/0x1   2/1x1    0      x     =1    x     =3    x     =5
locked    1/0x2   3/2x1    0      x     x     =5    x     x     =5
detached  1/0x1   1/0x1    0      none  none  none  none  none  none
detached  1/0x2   2/1x1    0      x     none  x     none  x     none
decoupled 1/0x1   1/0x1    0      0>0   1>1   2>2   3>3   4>4   5>5
decoupled 1/0x1   1/0x1    1      0>2   1>3   2>4   3>5   4>6   5>7
decoupled 1/0x2   1/0x2    0      1>1   1>1   3>3   3>3   5>5   5>5
decoupled 1/0x2   1/0x2    1      1>2   1>4   3>4   3>6   5>6   5>8
decoupled 1/0x4   1/0x1    0      3>0   3>1   3>2   3>3   7>4   7>5
decoupled 1/0x1   1/0x3    0      0>2   1>2   2>2   3>5   4>5   5>5
decoupled 1/0x4   4/3x1    0      x     x     x     3>3   x     x
decoupled 1/0x4   4/3x2    0      x     x     x     3>7   x     x
decoupled 2/0x1   1/0x1    0      0>1   .     2>3   .     4>5   .
decoupled 2/0x1   1/0x2    1      0>4   .     2>6   .     4>8   .
decoupled 2/1x2   3/0x1    1      .     3>4   .     x     .     7>7
unlocked  1/0x2   2/1x1    0      x     1>1   x     3>3   x     5>5
delayed   1/0x1   1/0x1    0      1<0   2<1   3<2   4<3   5<4   6<5
delayed   1/0x1   1/0x1    1      2<2   3<3   4<4   5<5   6<6   7<7
delayed   1/0x2   1/0x2    0      3<1   3<1   5<3   5<3   7<5   7<5
delayed   1/0x2   1/0x2    1      5<2   5<4   7<4   7<6   9<6   9<8
delayed   1/0x2   2/1x2    0      x     5<3   x     5<3   x     9<7
"""

STATES = """
coupling  agent        made at 0 1     2     3     4     5
detached  1/0x1        none  none  none  none  none  none
detached  1/0x3        =2    =2    none  =5    =5    none
detached  2/1x2        .     =3    .     none  .     =7
decoupled 1/0x1        0>1   1>2   2>3   3>4   4>5   5>6
decoupled 1/0x2        =1    1>3   =3    3>5   =5    5>7
decoupled 1/0x3        =2    =2    2>5   =5    =5    5>8
decoupled 2/0x1        0>2   .     2>4   .     4>6   .
decoupled 2/1x2        .     =3    .     3>7   .     =7
decoupled 3/2x2        .     .     =5    .     .     5>11
decoupled 1/0xepisode  =1    end   =4    =4    end   =6
locked    1/0xepisode  =1    end   =4    =4    end   =6
"""
"""Episodes have 2, 3, 2, 3, … steps."""

GROUP_STATES = """
coupling  agent  with     made at 0 1     2     3     4     5
detached  1/0x1  2/1x2    =3    =3    =3    none  =7    =7
decoupled 1/0x1  2/1x2    =3    =3    =3    3>7   =7    =7
decoupled 2/1x2  1/0x1    .     =3    .     3>7   .     =7
decoupled 1/0x2  3/0x1    =5    =5    =5    =5    =5    5>11
"""
"""The agent is the sender of a locked channel to another one: their common window decides, not its own unroll."""

HORIZON = 16
LENGTHS = (2, 3)


def clock_of(cell: str) -> Clock:
    rhythm, _, unroll = cell.partition("x")
    period, phase = map(int, rhythm.split("/"))
    return Clock(period, phase, None if unroll == "episode" else int(unroll))


def rows(table: str) -> list[list[str]]:
    return [line.split() for line in table.strip().splitlines()[1:]]


def message_scene(row: list[str]) -> Scene:
    coupling, sender, receiver, delay = row[:4]
    link = Link("a->b", "a", "b", int(delay), coupling, stand_in=coupling == "unlocked")
    clocks = {"a": clock_of(sender), "b": clock_of(receiver)}
    return Scene(clocks, [link], HORIZON, judged=frozenset("b"))


def state_scene(row: list[str]) -> Scene:
    clock = clock_of(row[1])
    if clock.unroll is not None:
        return Scene({"a": clock}, [], HORIZON, {"a": row[0]}, judged=frozenset("a"))
    ends = {(step, 0): True for step in range(HORIZON) if step % sum(LENGTHS) in (1, 4)}
    return Scene({"a": clock}, [], HORIZON, {"a": row[0]}, ends=ends, lengths=LENGTHS, judged=frozenset("a"))


def group_scene(row: list[str]) -> Scene:
    clocks = {"a": clock_of(row[1]), "b": clock_of(row[2])}
    return Scene(
        clocks, [Link("a->b", "a", "b", 0, "locked")], HORIZON, {"a": row[0]}, judged=frozenset("ab")
    )


SCENES = [
    *[(state_of("a"), state_scene(row), row[2:]) for row in rows(STATES)],
    *[(state_of("a"), group_scene(row), row[3:]) for row in rows(GROUP_STATES)],
    *[("a->b", message_scene(row), row[4:]) for row in rows(MESSAGES)],
]


def told(name: str, scene: Scene) -> list[str]:
    """What the event simulator says of the messages of steps 0 to 5."""
    world, found = World(scene), simulate(scene)
    world.play()
    coupling = scene.memories.get("a") if name == state_of("a") else scene.links[0].coupling
    cells = []
    for step in range(6):
        own = step in world.ticks["a"] and world.window("a", step)
        using = sorted(t for (n, t, _), stamps in found.read.items() if n == name and step in stamps)
        theirs = [world.window("a" if name == state_of("a") else "b", t) for t in using]
        if not own:
            cells.append(".")
        elif name == state_of("a") and not using:
            cells.append("end")
        elif name == "a->b" and not using:
            cells.append("x")
        elif own in theirs and (coupling == "locked" or name == state_of("a")):
            end = world.windows[own[0]][own[1]][1]
            cells.append(f"={end}" if set(theirs) == {own} else f"={end}~")
        elif coupling == "locked":
            cells.append("lost")
        elif coupling == "detached":
            assert (name, step) not in found.injected
            cells.append("none")
        else:
            assert coupling is not None
            at, fate = found.injected[name, step][0], found.fates[name, step]
            cells.append(f"{at}{'<' if coupling == 'delayed' else '>'}{fate.back}")
    return cells


@pytest.mark.parametrize(("name", "scene", "cells"), SCENES)
def test_the_event_simulator_says_the_same(name: str, scene: Scene, cells: list[str]) -> None:
    assert told(name, scene) == cells


@pytest.mark.parametrize(("name", "scene", "cells"), SCENES)
def test_a_running_simulation_does_so(name: str, scene: Scene, cells: list[str]) -> None:
    agree(scene, dict.fromkeys(scene.memories, "leaky"))


# --- the truth table of docs/time.md ---------------------------------------------------------------------


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
