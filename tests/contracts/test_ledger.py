"""The engine's schedule and ledger against an independent brute-force event simulator."""

from __future__ import annotations

import itertools
import random
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.comms.links import Link
from antiphon.engine.build.builder import build
from antiphon.engine.core.clock import Clock, Sends, TickWindows
from antiphon.engine.core.ledger import GradientLedger
from antiphon.engine.core.mailbox import Mailbox
from antiphon.engine.core.masks import EnvMask
from antiphon.engine.core.records import Consumption, Delivery, Record, StepSignals
from antiphon.engine.step.backends import StackedBackend
from antiphon.envs.signal import Description, Signal
from antiphon.nets.random import seed_for, uniform
from antiphon.scenarios import Scenario
from tests.contracts.event_links import received
from tests.contracts.event_scene import Clock as Ticking
from tests.contracts.event_scene import Fate, Place, Scene
from tests.contracts.event_scene import Link as Line
from tests.contracts.event_simulator import simulate

COUPLINGS = ("locked", "delayed", "detached", "decoupled", "unlocked")
P_UPDATE = 0.6


@dataclass
class Log:
    consumed: dict[Place, tuple[int, ...]] = field(default_factory=dict)
    fates: dict[tuple[str, int], Fate] = field(default_factory=dict)
    stood: set[Place] = field(default_factory=set)
    heard: dict[Place, int] = field(default_factory=dict)


class LoggedLedger(GradientLedger):
    """A ledger that writes down what it is asked and what becomes of its records."""

    log: Log
    losses: set[int]
    way_back: int

    def attach(self, log: Log, losses: set[int], way_back: int) -> None:
        self.log, self.losses, self.way_back = log, losses, way_back
        self._ticks: dict[Consumption, list[int]] = {}
        self._counted: dict[int, list[int]] = {}

    def send(self, step: int, message: Tensor, moment: StepSignals) -> Record:
        record = super().send(step, message, moment)
        if self.losses:
            record.lost = torch.tensor([step in self.losses])
        state = "void" if record.unread else "open"
        self.log.fates[self.name, step] = Fate(state, step if record.unread else None)
        return record

    def use(self, step: int, reading: Delivery) -> Consumption | None:
        use = super().use(step, reading)
        if use is not None and (use.counted is True or bool(torch.as_tensor(use.counted)[0])):
            self._ticks.setdefault(use, []).append(step)
        return use

    def book(self, use: Consumption, delta: Tensor | None) -> None:
        super().book(use, delta)
        self._counted.setdefault(use.record.stamp, []).extend(self._ticks.get(use, []))

    def _finish(self, record: Record, step: int) -> None:
        super()._finish(record, step)
        counted = tuple((tick, 0) for tick in sorted(self._counted.get(record.stamp, [])))
        assert record.complete == bool(counted)
        learned = step + self.way_back if counted else None
        state = "complete" if counted else "void"
        self.log.fates[self.name, record.stamp] = Fate(state, step, learned, counted)


class LoggedMailbox(Mailbox):
    """A mailbox that writes down what is read."""

    log: Log
    losses: set[int]

    def attach(self, log: Log, losses: set[int]) -> None:
        self.log, self.losses = log, losses
        self._tick = -1

    def receive_all(self, step: int) -> list[Delivery]:
        readings = super().receive_all(step)
        self._tick = step
        self.log.consumed[self.ledger.name, step, 0] = tuple(
            stamp for reading in readings if (stamp := self._stamp(reading)) is not None
        )
        return readings

    def _stamp(self, reading: Delivery) -> int | None:
        if reading.record is None or reading.value is None:
            return None
        if self.losses:
            assert self.held_stamp is not None
            held = int(self.held_stamp[0])
            return None if held < 0 else held
        there = reading.counted is True or (isinstance(reading.counted, Tensor) and bool(reading.counted[0]))
        return reading.record.stamp if there else None

    def stand_in(self, reading: Delivery, value: Tensor, lanes: EnvMask) -> Delivery:
        if bool(torch.as_tensor(lanes).any()):
            assert reading.record is not None
            self.log.consumed[self.ledger.name, self._tick, 0] = (reading.record.stamp,)
            self.log.stood.add((self.ledger.name, self._tick, 0))
        return super().stand_in(reading, value, lanes)


def scenario_of(clocks: dict[str, Any], links: list[Any], sparse: set[str]) -> Scenario:
    return Scenario.model_validate(
        {
            "scenario": "contract",
            "env": {"id": "antiphon/Digits-v0"},
            "agents": {
                name: {
                    "observes": ["x"],
                    "network": {"kind": "mlp", "hidden": [], "norm": "none"},
                    "clock": {"period": c.period, "phase": c.phase, "unroll": c.unroll},
                    "objective": {"kind": "regression", "target": "x"},
                    "p_update": P_UPDATE if name in sparse else 1.0,
                }
                for name, c in clocks.items()
            },
            "channels": [
                {
                    "from": link.sender,
                    "to": link.receiver,
                    "size": 1,
                    "norm": "none",
                    "coupling": link.coupling,
                    "input": {"context": ["x", "held", "age"]} if link.stand_in else None,
                    "link": {"delay": link.delay, "rate": link.rate, "back": link.back},
                    "read": link.read,
                    "staleness": link.staleness,
                }
                for link in links
            ],
            "training": {"batch": 1, "window_limit": 10_000},
        }
    )


def run_engine(
    clocks: dict[str, Any],
    links: list[Any],
    horizon: int,
    lost: set[tuple[str, int]],
    ends: set[int],
    sparse: set[str],
    *,
    lanes: bool,
) -> Log:
    env = Description(signals={"x": Signal(shape=(1,))}, example_counts={})
    scenario = scenario_of(clocks, links, sparse)
    system = build(scenario, env, seed=0, device=torch.device("cpu"), dtype=torch.float64)
    log = Log()
    for channel in system.channels.values():
        channel.ledger.__class__, channel.mailbox.__class__ = LoggedLedger, LoggedMailbox
        assert isinstance(channel.ledger, LoggedLedger)
        assert isinstance(channel.mailbox, LoggedMailbox)
        back = next(link.way_back for link in links if link.name == channel.name)
        losses = {stamp for name, stamp in lost if name == channel.name}
        channel.ledger.attach(log, losses, back)
        channel.mailbox.attach(log, losses)
        if channel.coupling != "locked" and channel.ledger.losses:
            object.__setattr__(channel.ledger.link, "drop", 0.5)
    backend = StackedBackend(system, stacked=False)
    for step in range(horizon):
        backend.tick(step, StepSignals(step, {"x": torch.ones(1, 1, dtype=torch.float64)}))
        for name, channel in system.channels.items():
            for _, message, arrived in channel.input_examples:
                if arrived is None or bool(arrived):
                    records = channel.ledger.records.values()
                    log.heard[name, step, 0] = next(r.stamp for r in records if r.received is message)
        if step in ends:
            for channel in system.channels.values():
                channel.cut(step, torch.tensor([True]) if lanes else True)
        backend.learn(step)
    return log


def agree(
    clocks: dict[str, Any],
    links: list[Any],
    horizon: int,
    lost: set[tuple[str, int]] = frozenset(),  # type: ignore[assignment]
    ends: set[int] = frozenset(),  # type: ignore[assignment]
    sparse: set[str] = frozenset(),  # type: ignore[assignment]
    *,
    lanes: bool = False,
) -> None:
    undrawn = {
        (name, window)
        for name in sparse
        for window in range(horizon)
        if uniform(seed_for(0, "update", name), window, 1).item() >= P_UPDATE
    }
    scene = Scene(
        clocks,
        links,
        horizon,
        lost={(name, stamp, 0) for name, stamp in lost},
        ends={(step, 0): True for step in ends},
        undrawn=undrawn,
        judged=frozenset(clocks),
    )
    expected = simulate(scene)
    found = run_engine(clocks, links, horizon, lost, ends, sparse, lanes=lanes)
    story = (
        f"{clocks} {links} lost={sorted(lost)} ends={sorted(ends)} undrawn={sorted(undrawn)} lanes={lanes}"
    )
    assert found.consumed == expected.consumed, story
    assert found.stood == expected.stood, story
    assert found.heard == expected.heard, story
    locked = {link.name for link in links if link.coupling == "locked"}
    fates = {}
    for (name, stamp), fate in found.fates.items():
        if name in locked:
            continue
        if fate.learned is not None and fate.learned >= horizon:
            fate = Fate(fate.state, fate.finished, None, fate.counted)
        fates[name, stamp] = fate
    assert fates == expected.fates, story


def patterns(
    rng: random.Random, names: list[str], horizon: int
) -> tuple[set[tuple[str, int]], set[int], bool]:
    lost = {(n, s) for n in names for s in range(horizon) if rng.random() < rng.choice([0.0, 0.3])}
    ends = {s for s in range(horizon) if rng.random() < rng.choice([0.0, 0.15])}
    return lost, ends, rng.random() < 0.5


@pytest.mark.parametrize("coupling", COUPLINGS)
@pytest.mark.parametrize("delay", range(4))
def test_pairs_of_clocks_agree_with_the_event_simulator(coupling: str, delay: int) -> None:
    rng = random.Random(f"{coupling}{delay}")
    clocks = [Ticking(p, f, u) for p in (1, 2, 3) for f in range(-1 if p > 1 else 0, p - 1) for u in (1, 2)]
    for sender, receiver in rng.sample(list(itertools.product(clocks, clocks)), 45):
        stand_in = coupling == "unlocked" or (coupling == "decoupled" and rng.random() < 0.5)
        staleness, rate = rng.choice([1, 2, 16]), rng.choice([1.0, 1.0, 0.5, 0.4])
        back = rng.choice([None, None, 0, 3])
        links = [Line("a->b", "a", "b", delay, coupling, staleness, rate, stand_in, back=back)]
        lost, ends, lanes = patterns(rng, ["a->b"], 16)
        if not stand_in and rng.random() < 0.4:
            whole = receiver.period % sender.period == 0
            read = rng.choice(["mean", "concat", "concat"] if whole else ["mean"])
            links, lost = [replace(links[0], rate=1.0, read=read)], set()
        agree(
            {"a": sender, "b": receiver},
            links,
            16,
            set() if coupling == "locked" else lost,
            ends,
            {name for name in "ab" if rng.random() < 0.3},
            lanes=lanes,
        )


@pytest.mark.parametrize("seed", range(8))
def test_random_graphs_agree_with_the_event_simulator(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(15):
        names = ["a", "b", "c", "d"][: rng.randint(2, 4)]
        clocks = {}
        for name in names:
            period = rng.choice([1, 1, 2, 3, 4])
            clocks[name] = Ticking(period, rng.randrange(-period, period), rng.choice([1, 1, 2, 3]))
        links = []
        for sender, receiver in itertools.permutations(names, 2):
            if rng.random() < 0.5:
                delay = rng.choice([0, 0, 1, 2, 5]) if sender < receiver else rng.choice([1, 2, 3])
                coupling, rate = rng.choice(COUPLINGS), rng.choice([1.0, 1.0, 0.75, 0.4])
                stand_in = coupling == "unlocked" or (coupling == "decoupled" and rng.random() < 0.5)
                staleness = rng.choice([1, 2, 3, 16])
                name = f"{sender}->{receiver}"
                links.append(Line(name, sender, receiver, delay, coupling, staleness, rate, stand_in))
        linked = {link.sender for link in links} | {link.receiver for link in links}
        clocks = {name: clock for name, clock in clocks.items() if name in linked}
        if not links:
            continue
        lost, ends, lanes = patterns(rng, [x.name for x in links if x.coupling != "locked"], 24)
        sparse = {name for name in clocks if rng.random() < 0.3}
        agree(clocks, links, 24, lost, ends, sparse, lanes=lanes)


@pytest.mark.parametrize("bits", [None, 1, 3])
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_what_is_received_agrees_with_the_event_simulator(bits: int | None, noise: float) -> None:
    link = Link(name="a->b", delay=2, bits=bits, noise=noise, seed=5)
    ledger = GradientLedger("a->b", Sends(Clock()), Clock(), TickWindows(Clock()), link, wants_deltas=True)
    messages = {step: uniform(1, step, 6).view(2, 3) - 0.5 for step in range(8)}
    for step, message in messages.items():
        ledger.send(step, message, StepSignals(step, {}))
        reading = Mailbox(ledger).receive(step)
        if step >= 2:
            assert reading.record is not None
            assert torch.equal(reading.record.message, messages[step - 2])
            seed = seed_for(5, "noise", "a->b")
            rows = messages[step - 2].tolist()
            expected = received(rows, step - 2, bits=bits, noise=noise, seed=seed)
            assert torch.allclose(reading.value, torch.tensor(expected, dtype=torch.float64), atol=1e-14)  # type: ignore[arg-type]
        ledger.close(step, step)
