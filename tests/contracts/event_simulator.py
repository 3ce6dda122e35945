"""A brute-force event simulator: who consumes which message, and when each delta record completes.

The independent oracle for the engine's schedule and ledger (semantics 4, 5, 7, 13-20, 27b), for one environment
and without torch. Steps are enumerated with lists and loops, so it shares no cleverness with the engine.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from fractions import Fraction
from math import floor, lcm
from statistics import NormalDist


@dataclass(frozen=True)
class Clock:
    """An agent ticks at steps t with t % period == phase and learns after every `unroll` of its ticks."""

    period: int
    phase: int
    unroll: int


@dataclass(frozen=True)
class Link:
    """A channel: message k goes at the sender's tick floor(k / rate) and is `delay` steps on the way.

    With `stand_in`, a synthetic input is read where the due message is missing; on an `unlocked` one, always.
    """

    name: str
    sender: str
    receiver: str
    delay: int
    coupling: str
    staleness: int = 16
    rate: float = 1.0
    stand_in: bool = False


@dataclass(frozen=True)
class Fate:
    """What became of a record: open | complete | void, and the receiver ticks that counted."""

    state: str
    finished: int | None
    learned: int | None
    counted: tuple[int, ...]


@dataclass(frozen=True)
class Prediction:
    """Stamps consumed by (channel, receiver tick), None: zeros; fates by (channel, stamp), none if locked.

    `stood` are the (channel, receiver tick) at which a stand-in was read in the place of that stamp; `heard` is what
    synthetic inputs learn from: the real message's stamp by (channel, receiver tick).
    """

    consumed: dict[tuple[str, int], int | None]
    fates: dict[tuple[str, int], Fate]
    stood: AbstractSet[tuple[str, int]]
    heard: dict[tuple[str, int], int]


def _wave_order(clocks: dict[str, Clock], links: list[Link]) -> list[str]:
    """Agents in an order where the sender of a zero-delay channel comes before its receiver."""
    order: list[str] = []
    while len(order) < len(clocks):
        senders = {a: {x.sender for x in links if x.receiver == a and x.delay == 0} for a in clocks}
        free = [a for a in clocks if a not in order and senders[a] <= set(order)]
        if not free:
            raise ValueError(f"zero-delay cycle among {sorted(set(clocks) - set(order))}")
        order.append(free[0])
    return order


def _units(clocks: dict[str, Clock], links: list[Link]) -> dict[str, str]:
    """The unit of each agent: agents joined by locked channels carry one label."""
    unit = {a: a for a in clocks}
    for link in [x for x in links if x.coupling == "locked"]:
        old, new = unit[link.sender], unit[link.receiver]
        unit = {a: new if u == old else u for a, u in unit.items()}
    return unit


def _windows(members: list[Clock], ticks: list[int], far: int) -> list[tuple[int, int]]:
    """A unit's windows as (first step, end step); one that `far` cuts short ends at `far`, which is never."""
    size, steps = members[0].unroll, ticks
    if len(members) > 1:
        size, steps = lcm(*(c.period * c.unroll for c in members)), list(range(far))
    pieces = [steps[i : i + size] for i in range(0, len(steps), size)]
    return [(piece[0], piece[-1] if len(piece) == size else far) for piece in pieces]


def _sending(link: Link, ticks: list[int]) -> set[int]:
    """The steps at which a link's sender sends: with rate 2/5, at its ticks number 0, 2, 5, 7, 10, …"""
    rate = Fraction(str(link.rate))
    numbers = {floor(k / rate) for k in range(len(ticks))}
    return {step for number, step in enumerate(ticks) if number in numbers}


@dataclass
class _Traffic:
    """What was sent and read: `uses` has (receiver tick, its window, does its gradient count?) where a stamp is due."""

    consumed: dict[tuple[str, int], int | None] = field(default_factory=dict)
    stood: set[tuple[str, int]] = field(default_factory=set)
    heard: dict[tuple[str, int], int] = field(default_factory=dict)
    sent: dict[str, list[int]] = field(default_factory=dict)
    uses: dict[tuple[str, int], list[tuple[int, tuple[str, int], bool]]] = field(default_factory=dict)


@dataclass(frozen=True)
class _World:
    """The agents' clocks in wave order, and the units and windows they learn in."""

    links: list[Link]
    ticks: dict[str, list[int]]
    unit: dict[str, str]
    windows: dict[str, list[tuple[int, int]]]
    lost: AbstractSet[tuple[str, int]]
    ends: AbstractSet[int]
    undrawn: AbstractSet[tuple[str, int]]

    def read(self, found: _Traffic, link: Link, t: int) -> None:
        """Let the receiver of `link` tick."""
        u = self.unit[link.receiver]
        window = next((u, k) for k, (first, end) in enumerate(self.windows[u]) if first <= t <= end)
        arrived = [s for s in found.sent[link.name] if s + link.delay <= t]
        held = [s for s in arrived if link.coupling == "locked" or (link.name, s) not in self.lost]
        got = held[-1] if held and not any(held[-1] <= e < t for e in self.ends) else None
        if arrived:
            due = arrived[-1]
            alive = not any(due <= e < t for e in self.ends)
            if alive and got == due and link.stand_in and not found.uses[link.name, due]:
                found.heard[link.name, t] = due
            if alive and link.stand_in and (got != due or link.coupling == "unlocked"):
                got = due
                found.stood.add((link.name, t))
            counts = got == due and (link.receiver, window[1]) not in self.undrawn
            found.uses[link.name, due].append((t, window, counts))
        found.consumed[link.name, t] = got

    def traffic(self, order: list[str], far: int) -> _Traffic:
        """Let all agents tick."""
        found = _Traffic(sent={x.name: [] for x in self.links})
        sending = {x.name: _sending(x, self.ticks[x.sender]) for x in self.links}
        for t in range(far):
            for agent in [a for a in order if t in self.ticks[a]]:
                for link in [x for x in self.links if x.receiver == agent]:
                    self.read(found, link, t)
                for link in [x for x in self.links if x.sender == agent and t in sending[x.name]]:
                    found.sent[link.name].append(t)
                    found.uses[link.name, t] = []
        return found

    def learning(self, found: _Traffic, horizon: int) -> dict[tuple[str, int], Fate]:
        """Let windows close and records finish."""
        links, unit, windows, sent, uses = self.links, self.unit, self.windows, found.sent, found.uses
        # closed[unit, window]: did it count (True) or was it dropped? waits: what late units wait for.
        closed: dict[tuple[str, int], bool] = {}
        fates: dict[tuple[str, int], Fate] = {}
        unfinished = [(x, s) for x in links if x.coupling != "locked" for s in sent[x.name] if s < horizon]
        slow = [x for x in links if x.coupling == "delayed" and unit[x.sender] != unit[x.receiver]]
        waits = {u: [x for x in slow if unit[x.sender] == u] for u in windows}

        def finish(t: int) -> None:
            """Finish the records whose receiver windows have all closed (at once if nothing uses the stamp)."""
            for link, s in [(x, s) for x, s in unfinished if s <= t]:
                if all(window in closed for _, window, _ in uses[link.name, s]):
                    counted = tuple(at for at, window, real in uses[link.name, s] if real and closed[window])
                    learned = t + link.delay if counted and t + link.delay < horizon else None
                    fates[link.name, s] = Fate("complete" if counted else "void", t, learned, counted)
                    unfinished.remove((link, s))

        def returned(link: Link, s: int, t: int) -> bool:
            """Whether a late tape is spared waiting for this record at t: void, or complete and come back."""
            fate = fates.get((link.name, s), Fate("open", None, None, ()))
            done = t if fate.finished is None else fate.finished
            void = fate.state == "void"
            return (void and not uses[link.name, s]) or (done < t and (void or done + link.delay <= t))

        for t in range(horizon):
            ending = [(u, k) for u in windows for k, (_, end) in enumerate(windows[u]) if end == t]
            closed.update({(u, k): True for u, k in ending if not waits[u]})
            finish(t)
            for u, newest in [(u, k) for u, k in ending if waits[u]]:
                for k in [k for k in range(newest + 1) if (u, k) not in closed]:
                    first, end = windows[u][k]
                    if newest - k > min(x.staleness for x in waits[u]):
                        closed[u, k] = False
                    elif all(returned(x, s, t) for x in waits[u] for s in sent[x.name] if first <= s <= end):
                        closed[u, k] = True
            finish(t)
        fates.update({(x.name, s): Fate("open", None, None, ()) for x, s in unfinished})
        return fates


def simulate(
    clocks: dict[str, Clock],
    links: list[Link],
    horizon: int,
    lost: AbstractSet[tuple[str, int]] = frozenset(),
    ends: AbstractSet[int] = frozenset(),
    undrawn: AbstractSet[tuple[str, int]] = frozenset(),
) -> Prediction:
    """Play the traffic somewhat beyond the horizon, then the learning up to it.

    Args:
        clocks: By agent.
        links: The channels.
        horizon: Steps.
        lost: (channel, stamp) that the link loses.
        ends: Steps after which the episode ends.
        undrawn: (agent, window of its unit) in which it learns nothing.
    """
    order, unit = _wave_order(clocks, links), _units(clocks, links)
    far = horizon + max(c.period for c in clocks.values()) + max((x.delay for x in links), default=0) + 1
    ticks = {a: [t for t in range(far) if t % c.period == c.phase % c.period] for a, c in clocks.items()}
    groups = {u: [clocks[a] for a in clocks if unit[a] == u] for u in unit.values()}
    windows = {u: _windows(members, ticks[u], far) for u, members in groups.items()}
    world = _World(links, ticks, unit, windows, lost, ends, undrawn)
    found = world.traffic(order, far)
    fates = world.learning(found, horizon)
    return Prediction(
        {at: stamp for at, stamp in found.consumed.items() if at[1] < horizon},
        fates,
        {at for at in found.stood if at[1] < horizon},
        {at: stamp for at, stamp in found.heard.items() if at[1] < horizon},
    )


def received(
    message: list[list[float]], stamp: int, *, bits: int | None, noise: float, seed: int
) -> list[list[float]]:
    """A message, by environment and component, as it arrives: rounded within its own range, then blurred."""
    arrived = []
    for b, sample in enumerate(message):
        largest = max(abs(component) for component in sample)
        if bits is not None:
            levels = [largest * (2 * k / (2**bits - 1) - 1) for k in range(2**bits)]
            sample = [min(levels, key=lambda level: abs(level - component)) for component in sample]
        lanes = range(b * len(sample), (b + 1) * len(sample))
        arrived.append([x + noise * _drawn(seed, stamp, lane) for x, lane in zip(sample, lanes, strict=True)])
    return arrived


def _drawn(seed: int, step: int, lane: int) -> float:
    """A standard normal number: SplitMix64 started anew for each step, then the quantile of its upper 52 bits."""
    gamma, full = 0x9E3779B97F4A7C15, 2**64 - 1

    def mixed(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & full
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & full
        return z ^ (z >> 31)

    start = mixed((seed + (step + 1) * gamma) & full)
    return NormalDist().inv_cdf(((mixed((start + (lane + 1) * gamma) & full) >> 12) + 0.5) / 2**52)
