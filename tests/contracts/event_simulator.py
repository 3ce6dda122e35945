"""A brute-force event simulator: who reads which message, and when each gradient is complete.

The independent oracle for the engine's schedule and messages (semantics 4, 5, 7, 13-20, 27b), without torch. Steps are
enumerated with lists and loops, so it shares no cleverness with the engine.
"""

from __future__ import annotations

from itertools import cycle
from math import lcm

from tests.contracts.event_credit import Credit
from tests.contracts.event_learning import Learning
from tests.contracts.event_scene import Clock, Link, Place, Prediction, Scene, Use, Window, state_of


def wave_order(clocks: dict[str, Clock], links: list[Link]) -> list[str]:
    """Agents in an order where the sender of a zero-delay channel comes before its receiver."""
    order: list[str] = []
    while len(order) < len(clocks):
        senders = {a: {x.sender for x in links if x.receiver == a and x.delay == 0} for a in clocks}
        free = [a for a in clocks if a not in order and senders[a] <= set(order)]
        if not free:
            raise ValueError(f"zero-delay cycle among {sorted(set(clocks) - set(order))}")
        order.append(free[0])
    return order


def groups_of(clocks: dict[str, Clock], links: list[Link]) -> dict[str, str]:
    """The learning group of each agent: agents joined by locked channels carry one label."""
    group_of = {a: a for a in clocks}
    for link in [x for x in links if x.coupling == "locked"]:
        old, new = group_of[link.sender], group_of[link.receiver]
        group_of = {a: new if u == old else u for a, u in group_of.items()}
    return group_of


def windows_of(
    members: list[Clock], ticks: list[int], lengths: tuple[int, ...], far: int
) -> list[tuple[int, int]]:
    """A learning group's windows as (first step, end step); one that `far` cuts short ends at `far`, which is never."""
    sizes = [c.unroll for c in members]
    steps = list(range(far))
    if sizes[0] is None:
        pieces = []
        for length in cycle(lengths):
            if not steps:
                break
            pieces.append((steps[0], steps[length - 1] if len(steps) >= length else far))
            steps = steps[length:]
        return pieces
    size = sizes[0]
    if len(members) == 1:
        steps = ticks
    else:
        size = lcm(*(c.period * (c.unroll or 1) for c in members))
    cut = [steps[i : i + size] for i in range(0, len(steps), size)]
    return [(piece[0], piece[-1] if len(piece) == size else far) for piece in cut]


class World:
    """The agents' ticks, and the groups and windows they learn in."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        clocks, links = scene.clocks, scene.links
        delays = max((x.delay for x in links), default=0)
        self.far = scene.horizon + max(c.period for c in clocks.values()) + delays + 1
        self.ticks = {
            a: [t for t in range(self.far) if t % c.period == c.phase % c.period] for a, c in clocks.items()
        }
        self.group_of = groups_of(clocks, links)
        groups = {u: [clocks[a] for a in clocks if self.group_of[a] == u] for u in self.group_of.values()}
        self.windows = {
            u: windows_of(members, self.ticks[u], scene.lengths, self.far) for u, members in groups.items()
        }
        self.read: dict[Place, tuple[int, ...]] = {}
        self.stood: set[Place] = set()
        self.heard: dict[Place, int] = {}
        self.sent: dict[str, list[int]] = {x.name: [] for x in links}
        self.sent |= {state_of(a): [] for a in scene.memories}
        self.uses: dict[tuple[str, int], list[Use]] = {}
        self.last: dict[Place, frozenset[int]] = {}

    def window(self, agent: str, t: int) -> Window:
        """The window of its group that an agent's tick belongs to."""
        u = self.group_of[agent]
        return next((u, k) for k, (first, end) in enumerate(self.windows[u]) if first <= t <= end)

    def play(self) -> None:
        """Let all agents tick."""
        links = self.scene.links
        when = {x.name: set(self.ticks[x.sender]) for x in links}
        for t in range(self.far):
            for agent in wave_order(self.scene.clocks, links):
                if t not in self.ticks[agent]:
                    continue
                for link in [x for x in links if x.receiver == agent]:
                    self._read(link, t)
                if agent in self.scene.memories:
                    self._remember(agent, t)
                for link in [x for x in links if x.sender == agent and t in when[x.name]]:
                    self.sent[link.name].append(t)
                    self.uses[link.name, t] = []

    def _remember(self, agent: str, t: int) -> None:
        """Let an agent read the state of its previous tick."""
        name, before = state_of(agent), [tick for tick in self.ticks[agent] if tick < t]
        rows = range(self.scene.batch)
        alive = [b for b in rows if before and not self.scene.ended(before[-1], t, b)]
        for b in rows:
            self.read[name, t, b] = (before[-1],) if b in alive else ()
        if before and self.window(agent, before[-1]) != self.window(agent, t):
            self.sent[name].append(before[-1])
            self.uses[name, before[-1]] = [Use(agent, t, self.window(agent, t), frozenset(alive))]
        elif before and self.scene.memories[agent] == "decoupled":
            self._note_last(name, before[-1], t)

    def _note_last(self, name: str, s: int, t: int) -> None:
        """Note the environments that are terminated between two ticks of one window."""
        ends = {b: self.scene.ended(s, t, b)[:1] for b in range(self.scene.batch)}
        for step in range(s, min(t, self.scene.horizon)):
            rows = frozenset(b for b, first in ends.items() if first == [step] and self.scene.ends[step, b])
            if rows:
                self.last[name, s, step] = rows

    def _read(self, link: Link, t: int) -> None:
        """Let the receiver of a link read what is due."""
        arrived = [s for s in self.sent[link.name] if s + link.delay <= t]
        earlier = [tick for tick in self.ticks[link.receiver] if tick < t]
        new = [s for s in arrived if not earlier or s + link.delay > earlier[-1]]
        due = arrived[-1:] if link.read == "last" or not new else new
        counts: dict[int, set[int]] = {s: set() for s in due}
        for b in range(self.scene.batch):
            got = self._got(link, t, b, due, arrived)
            self.read[link.name, t, b] = got
            for s in set(got) & set(due):
                counts[s].add(b)
        for s in due:
            use = Use(link.receiver, t, self.window(link.receiver, t), frozenset(counts[s]))
            self.uses[link.name, s].append(use)

    def _got(self, link: Link, t: int, b: int, due: list[int], arrived: list[int]) -> tuple[int, ...]:
        """The stamps that one environment's receiver reads."""
        here: Place = (link.name, t, b)
        if link.read != "last":
            return tuple(s for s in due if not self.scene.ended(s, t, b))
        held = [s for s in arrived if link.coupling == "locked" or (link.name, s, b) not in self.scene.lost]
        got = held[-1:] if held and not self.scene.ended(held[-1], t, b) else []
        if not due or not link.stand_in or self.scene.ended(due[0], t, b):
            return tuple(got)
        if got == due and not self.uses[link.name, due[0]]:
            self.heard[here] = due[0]
        if got != due or link.coupling == "unlocked":
            self.stood.add(here)
            return tuple(due)
        return tuple(got)


def simulate(scene: Scene) -> Prediction:
    """Play the traffic somewhat beyond the horizon, then the learning up to it."""
    world = World(scene)
    world.play()
    learning = Learning(scene, world.group_of, world.windows, world.sent, world.uses)
    learning.play()
    credit = Credit(scene, world.ticks, world.read, learning)
    credit.play()
    near = scene.horizon
    return Prediction(
        {at: stamps for at, stamps in world.read.items() if at[1] < near},
        learning.fates,
        {at for at in world.stood if at[1] < near},
        {at: stamp for at, stamp in world.heard.items() if at[1] < near},
        learning.injected,
        credit.found,
        learning.moved(credit.found),
        world.last,
    )
