"""A brute-force event simulator: who consumes which message, and when each delta record completes.

The independent oracle for the engine's schedule and ledger (semantics 5, 13-20, 27b), for one environment
and without torch. Steps are enumerated with lists and loops, so it shares no cleverness with the engine.
"""

from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from math import lcm


@dataclass(frozen=True)
class Clock:
    """An agent ticks at steps t with t % period == phase and learns after every `unroll` of its ticks."""

    period: int
    phase: int
    unroll: int


@dataclass(frozen=True)
class Link:
    """A channel: one message per sender tick, `delay` steps on the way."""

    name: str
    sender: str
    receiver: str
    delay: int
    coupling: str
    staleness: int = 16


@dataclass(frozen=True)
class Fate:
    """What became of a record: open | complete | void, and the receiver ticks that counted."""

    state: str
    finished: int | None
    learned: int | None
    counted: tuple[int, ...]


@dataclass(frozen=True)
class Prediction:
    """Stamps consumed by (channel, receiver tick), None: zeros; fates by (channel, stamp), none if locked."""

    consumed: dict[tuple[str, int], int | None]
    fates: dict[tuple[str, int], Fate]


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


def simulate(
    clocks: dict[str, Clock],
    links: list[Link],
    horizon: int,
    lost: AbstractSet[tuple[str, int]] = frozenset(),
    ends: AbstractSet[int] = frozenset(),
) -> Prediction:
    """Play the traffic somewhat beyond the horizon, then the learning up to it."""
    order, unit = _wave_order(clocks, links), _units(clocks, links)
    far = horizon + max(c.period for c in clocks.values()) + max((x.delay for x in links), default=0) + 1
    ticks = {a: [t for t in range(far) if t % c.period == c.phase % c.period] for a, c in clocks.items()}
    groups = {u: [clocks[a] for a in clocks if unit[a] == u] for u in unit.values()}
    windows = {u: _windows(members, ticks[u], far) for u, members in groups.items()}

    # Traffic. uses[channel, stamp]: (receiver tick, its window, was that very stamp consumed?) where due.
    consumed: dict[tuple[str, int], int | None] = {}
    sent: dict[str, list[int]] = {x.name: [] for x in links}
    uses: dict[tuple[str, int], list[tuple[int, tuple[str, int], bool]]] = {}
    for t in range(far):
        for agent in [a for a in order if t in ticks[a]]:
            u = unit[agent]
            window = next((u, k) for k, (first, end) in enumerate(windows[u]) if first <= t <= end)
            for link in [x for x in links if x.receiver == agent]:
                arrived = [s for s in sent[link.name] if s + link.delay <= t]
                held = [s for s in arrived if link.coupling == "locked" or (link.name, s) not in lost]
                got = held[-1] if held and not any(held[-1] <= e < t for e in ends) else None
                if arrived:
                    uses[link.name, arrived[-1]].append((t, window, got == arrived[-1]))
                if t < horizon:
                    consumed[link.name, t] = got
            for link in [x for x in links if x.sender == agent]:
                sent[link.name].append(t)
                uses[link.name, t] = []

    # Learning. closed[unit, window]: did it count (True) or was it dropped? waits: what late units wait for.
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
    return Prediction(consumed, fates)
