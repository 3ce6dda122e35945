"""The truth table of docs/time.md: which message a tick reads and when its gradient is back (semantics 13-18).

The table is enumerated here with lists and loops, and shares nothing with the engine; the page and a running simulation
are held to it, for every small clock, phase, delay, window and rate.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from antiphon import Simulation
from antiphon.scenarios import Scenario

PAGE = Path(__file__).resolve().parents[2] / "docs" / "time.md"
CLOCKS = [(period, phase) for period in (1, 2, 3) for phase in range(period)]
DELAYS = (0, 1, 2, 3)
UNROLLS = (1, 2)
RATES = (1.0, 0.5, 0.4)


@dataclass(frozen=True)
class Way:
    """One channel: `sender` and `receiver` are (period, phase)."""

    sender: tuple[int, int]
    receiver: tuple[int, int]
    delay: int
    unroll: int = 1
    rate: float = 1.0


@dataclass
class Story:
    """What happens on it. A message that nothing reads has no uses and is never back."""

    reads: dict[int, int | None]
    """By receiver tick: the stamp it reads; None before the first message has come."""
    uses: dict[int, list[int]]
    """By stamp: the ticks that read it."""
    complete: dict[int, int]
    """By stamp: the end of the window of its last use."""

    def back(self, way: Way) -> dict[int, int]:
        return {stamp: step + way.delay for stamp, step in self.complete.items()}


def enumerate_story(way: Way, horizon: int) -> Story:
    """Play a channel step by step."""
    far = 3 * horizon + 40
    (sender_period, sender_phase), (period, phase) = way.sender, way.receiver
    speaking = [t for t in range(far) if t % sender_period == sender_phase]
    rate = Fraction(str(way.rate))
    sent = [speaking[math.floor(k / rate)] for k in range(math.floor(len(speaking) * rate))]
    hearing = [t for t in range(far) if t % period == phase]
    reads: dict[int, int | None] = {}
    mailbox: int | None = None
    on_the_way = list(sent)
    for step in range(far):
        while on_the_way and on_the_way[0] + way.delay <= step:
            mailbox = on_the_way.pop(0)
        if step in hearing:
            reads[step] = mailbox
    windows = [hearing[i : i + way.unroll] for i in range(0, len(hearing), way.unroll)]
    end_of = {tick: window[-1] for window in windows for tick in window}
    uses = {stamp: [t for t in hearing if reads[t] == stamp] for stamp in sent if stamp < horizon}
    complete = {stamp: end_of[ticks[-1]] for stamp, ticks in uses.items() if ticks}
    return Story({t: stamp for t, stamp in reads.items() if t < horizon}, uses, complete)


def all_ways() -> list[Way]:
    return [Way(*way) for way in itertools.product(CLOCKS, CLOCKS, DELAYS, UNROLLS, RATES)]


# --- the page ----------------------------------------------------------------------------------------------


def row(way: Way) -> str:
    slow = Way(way.sender, way.receiver, way.delay, 2, way.rate)
    story, late = enumerate_story(way, 12), enumerate_story(slow, 12)
    reads = [
        "-" if step in story.reads and story.reads[step] is None else str(story.reads.get(step, "."))
        for step in range(9)
    ]
    fates = []
    for stamp in range(6):
        ticks = story.uses.get(stamp)
        if not ticks:
            fates.append("." if ticks is None else "x")
            continue
        used = str(ticks[0]) if len(ticks) == 1 else f"{ticks[0]}-{ticks[-1]}"
        fates.append(f"{used}>{story.back(way)[stamp]}/{late.back(slow)[stamp]}")
    ends = [f"{period}/{phase}" for period, phase in (way.sender, way.receiver)]
    cells = [*ends, str(way.delay), str(way.rate).removesuffix(".0"), " ".join(reads)]
    wide = [f"{cell:<{w}}" for cell, w in zip(cells, (6, 8, 5, 4, 19), strict=True)]
    return " ".join([*wide, *(f"{fate:<9}" for fate in fates)]).rstrip()


def table() -> list[str]:
    """The rows as they stand in docs/time.md: some clocks, delays and rates; the tests below take all small ones."""
    ways = [Way((1, 0), (1, 0), delay) for delay in (0, 1, 2)]
    ways += [Way((1, 0), receiver, 0) for receiver in ((2, 0), (2, 1), (3, 2))]
    ways += [Way((1, 0), (2, 0), 1), Way((2, 0), (1, 0), 0), Way((2, 0), (1, 0), 1), Way((2, 1), (1, 0), 0)]
    ways += [Way((2, 0), (2, 1), 0), Way((2, 1), (2, 0), 0), Way((3, 0), (2, 0), 0)]
    ways += [Way((1, 0), (1, 0), 0, rate=rate) for rate in (0.5, 0.4)]
    return [row(way) for way in ways]


def test_the_page_shows_the_table() -> None:
    text = PAGE.read_text(encoding="utf-8")
    header = (
        "sender receiver delay rate reads at steps 0-8   sent at 0 1         2         3         4         5"
    )
    assert header in text
    shown = text[text.index(header) :].split("```")[0].strip().splitlines()[1:]
    assert shown == table()


def test_the_enumeration_by_hand() -> None:
    plain = enumerate_story(Way((1, 0), (1, 0), 0), 4)
    assert plain.reads == {0: 0, 1: 1, 2: 2, 3: 3}
    assert plain.complete == {0: 0, 1: 1, 2: 2, 3: 3}
    slow = Way((1, 0), (3, 1), 2, 2, 0.5)
    story = enumerate_story(slow, 12)  # sends 0 2 4 6 8 10, they arrive at 2 4 6 8 10 12, ticks 1 4 | 7 10
    assert story.reads == {1: None, 4: 2, 7: 4, 10: 8}
    assert story.uses == {0: [], 2: [4], 4: [7], 6: [], 8: [10], 10: [13]}
    assert story.complete == {2: 4, 4: 10, 8: 10, 10: 16}
    assert story.back(slow) == {2: 6, 4: 12, 8: 12, 10: 18}
    uneven = enumerate_story(Way((2, 1), (1, 0), 0, 1, 0.4), 20)  # sends at its ticks 0 2 5 7
    assert [stamp for stamp, ticks in uneven.uses.items() if ticks] == [1, 5, 11, 15]


# --- a running simulation ----------------------------------------------------------------------------------


def simulation_of(ways: list[Way]) -> Simulation:
    """One scenario with a channel for each way, and an agent for each clock and end."""
    agents: dict[str, Any] = {}
    channels: list[dict[str, Any]] = []
    for way in ways:
        sender = "a{}-{}".format(*way.sender)
        receiver = "b{}-{}-{}".format(*way.receiver, way.unroll)
        for name, (period, phase), unroll in ((sender, way.sender, 1), (receiver, way.receiver, way.unroll)):
            agents[name] = {
                "network": {"kind": "mlp", "hidden": [2], "norm": "none"},
                "clock": {"period": period, "phase": phase, "unroll": unroll},
            }
        agents[sender]["observes"] = ["image"]
        agents[receiver]["objective"] = {"kind": "classification", "target": "label"}
        channels.append(
            {
                "from": sender,
                "to": receiver,
                "key": key_of(way),
                "size": 1,
                "port": "p",
                "norm": "none",
                "link": {"delay": way.delay, "rate": way.rate},
            }
        )
    env = {"id": "antiphon/Digits-v0"}
    training = {"batch": 1}
    return Simulation(
        Scenario.model_validate(
            {
                "scenario": "table",
                "env": env,
                "agents": agents,
                "channels": channels,
                "training": training,
            }
        )
    )


def key_of(way: Way) -> str:
    return f"d{way.delay}r{round(10 * way.rate)}"


def name_of(way: Way) -> str:
    return "a{}-{}->b{}-{}-{}:{}".format(*way.sender, *way.receiver, way.unroll, key_of(way))


@pytest.mark.long
def test_a_running_simulation_agrees() -> None:
    ways = {name_of(way): way for way in all_ways()}
    complete: dict[str, dict[int, int]] = {name: {} for name in ways}
    back: dict[str, set[int]] = {name: set() for name in ways}
    updates = dict.fromkeys(ways, 0)
    horizon = 14
    with simulation_of(list(ways.values())) as simulation:
        assert set(simulation.channels) == set(ways)
        for step in range(horizon):
            simulation.step()
            for name, channel in simulation.channels.items():
                for stamp, message in channel.messages.items():
                    if message.complete and message.finished is not None:
                        complete[name][stamp] = message.finished
                assert channel.synthetic_gradient is not None
                if channel.synthetic_gradient.updates > updates[name]:
                    updates[name] = channel.synthetic_gradient.updates
                    back[name].add(step)
    for name, way in ways.items():
        story = enumerate_story(way, horizon)
        assert complete[name] == {s: step for s, step in story.complete.items() if step < horizon}, way
        assert back[name] == {step for step in story.back(way).values() if step < horizon}, way
