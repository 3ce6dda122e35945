"""The engine's schedule and ledger against an independent brute-force event simulator."""

from __future__ import annotations

import importlib.util
import itertools
import random
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor

from antiphon.engine.build import build
from antiphon.engine.ledger import Ledger, Reading, Record, Use
from antiphon.engine.moment import Moment
from antiphon.engine.reference import Reference
from antiphon.envs.signal import Description, Signal
from antiphon.scenarios import Scenario

COUPLINGS = ("locked", "delayed", "detached", "decoupled")


def _load_oracle() -> ModuleType:
    path = Path(__file__).with_name("event_simulator.py")
    spec = importlib.util.spec_from_file_location("event_simulator", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["event_simulator"] = module
    spec.loader.exec_module(module)
    return module


oracle = _load_oracle()


@dataclass
class Log:
    consumed: dict[tuple[str, int], int | None] = field(default_factory=dict)
    fates: dict[tuple[str, int], Any] = field(default_factory=dict)


class LoggedLedger(Ledger):
    """A ledger that writes down what it is asked and what becomes of its records."""

    log: Log
    losses: set[int]

    def attach(self, log: Log, losses: set[int]) -> None:
        self.log, self.losses = log, losses
        self._ticks: dict[Use, list[int]] = {}
        self._counted: dict[int, list[int]] = {}

    def send(self, step: int, message: Tensor, moment: Moment) -> Record:
        record = super().send(step, message, moment)
        if self.losses:
            record.lost = torch.tensor([step in self.losses])
        state = "void" if record.unread else "open"
        self.log.fates[self.name, step] = oracle.Fate(state, step if record.unread else None, None, ())
        return record

    def receive(self, step: int) -> Reading:
        reading = super().receive(step)
        stamp: int | None = None
        if reading.record is not None and reading.value is not None:
            if self.losses:
                assert self.held_stamp is not None
                held = int(self.held_stamp[0])
                stamp = None if held < 0 else held
            elif reading.counted is True or (
                isinstance(reading.counted, Tensor) and bool(reading.counted[0])
            ):
                stamp = reading.record.stamp
        self.log.consumed[self.name, step] = stamp
        return reading

    def use(self, step: int, reading: Reading) -> Use | None:
        use = super().use(step, reading)
        if use is not None and (use.counted is True or bool(torch.as_tensor(use.counted)[0])):
            self._ticks.setdefault(use, []).append(step)
        return use

    def book(self, use: Use, delta: Tensor | None) -> None:
        super().book(use, delta)
        self._counted.setdefault(use.record.stamp, []).extend(self._ticks.get(use, []))

    def _finish(self, record: Record, step: int) -> None:
        super()._finish(record, step)
        counted = tuple(sorted(self._counted.get(record.stamp, [])))
        assert record.complete == bool(counted)
        learned = step + self.link.delay if counted else None
        state = "complete" if counted else "void"
        self.log.fates[self.name, record.stamp] = oracle.Fate(state, step, learned, counted)


def run_engine(
    clocks: dict[str, Any],
    links: list[Any],
    horizon: int,
    lost: set[tuple[str, int]],
    ends: set[int],
    *,
    lanes: bool,
) -> Log:
    scenario = Scenario(
        scenario="contract",
        env={"id": "antiphon/Digits-v0"},
        agents={
            name: {
                "observes": ["x"],
                "network": {"kind": "mlp", "hidden": [], "norm": "none"},
                "clock": {"period": c.period, "phase": c.phase, "unroll": c.unroll},
                "objective": {"kind": "regression", "target": "x"},
            }
            for name, c in clocks.items()
        },
        channels=[
            {
                "from": link.sender,
                "to": link.receiver,
                "size": 1,
                "norm": "none",
                "coupling": link.coupling,
                "link": {"delay": link.delay},
                "staleness": link.staleness,
            }
            for link in links
        ],
        training={"batch": 1, "window_limit": 10_000},
    )
    env = Description(signals={"x": Signal(shape=(1,))}, example_counts={})
    system = build(scenario, env, seed=0, device=torch.device("cpu"), dtype=torch.float64)
    log = Log()
    for channel in system.channels.values():
        channel.ledger.__class__ = LoggedLedger
        assert isinstance(channel.ledger, LoggedLedger)
        channel.ledger.attach(log, {stamp for name, stamp in lost if name == channel.name})
        if channel.coupling != "locked" and channel.ledger.losses:
            object.__setattr__(channel.ledger.link, "drop", 0.5)
    backend = Reference(system)
    for step in range(horizon):
        backend.tick(step, Moment(step, {"x": torch.ones(1, 1, dtype=torch.float64)}))
        backend.learn(step)
        if step in ends:
            for channel in system.channels.values():
                channel.ledger.cut(step, torch.tensor([True]) if lanes else True)
    return log


def agree(
    clocks: dict[str, Any],
    links: list[Any],
    horizon: int,
    lost: set[tuple[str, int]] = frozenset(),  # type: ignore[assignment]
    ends: set[int] = frozenset(),  # type: ignore[assignment]
    *,
    lanes: bool = False,
) -> None:
    expected = oracle.simulate(clocks, links, horizon, lost, ends)
    found = run_engine(clocks, links, horizon, lost, ends, lanes=lanes)
    story = f"{clocks} {links} lost={sorted(lost)} ends={sorted(ends)}"
    assert found.consumed == expected.consumed, story
    locked = {link.name for link in links if link.coupling == "locked"}
    fates = {}
    for (name, stamp), fate in found.fates.items():
        if name in locked:
            continue
        if fate.learned is not None and fate.learned >= horizon:
            fate = oracle.Fate(fate.state, fate.finished, None, fate.counted)
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
    clocks = [
        oracle.Clock(p, f, u) for p in (1, 2, 3) for f in range(-1 if p > 1 else 0, p - 1) for u in (1, 2)
    ]
    for sender, receiver in itertools.product(clocks, clocks):
        links = [oracle.Link("a->b", "a", "b", delay, coupling, staleness=rng.choice([1, 2, 16]))]
        lost, ends, lanes = patterns(rng, ["a->b"], 16)
        agree(
            {"a": sender, "b": receiver},
            links,
            16,
            set() if coupling == "locked" else lost,
            ends,
            lanes=lanes,
        )


@pytest.mark.parametrize("seed", range(8))
def test_random_graphs_agree_with_the_event_simulator(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(25):
        names = ["a", "b", "c", "d"][: rng.randint(2, 4)]
        clocks = {}
        for name in names:
            period = rng.choice([1, 1, 2, 3, 4])
            clocks[name] = oracle.Clock(period, rng.randrange(-period, period), rng.choice([1, 1, 2, 3]))
        links = []
        for sender, receiver in itertools.permutations(names, 2):
            if rng.random() < 0.5:
                delay = rng.choice([0, 0, 1, 2, 5]) if sender < receiver else rng.choice([1, 2, 3])
                name = f"{sender}->{receiver}"
                links.append(
                    oracle.Link(
                        name, sender, receiver, delay, rng.choice(COUPLINGS), rng.choice([1, 2, 3, 16])
                    )
                )
        linked = {link.sender for link in links} | {link.receiver for link in links}
        clocks = {name: clock for name, clock in clocks.items() if name in linked}
        if not links:
            continue
        lost, ends, lanes = patterns(rng, [x.name for x in links if x.coupling != "locked"], 24)
        agree(clocks, links, 24, lost, ends, lanes=lanes)
