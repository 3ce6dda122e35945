"""What the event simulator plays: clocks, links, states and episodes, and what it finds. Lists and numbers, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

Window = tuple[str, int]
"""A learning group and the number of one of its windows."""
Place = tuple[str, int, int]
"""A channel, the receiver's tick (or the stamp) and the environment."""


@dataclass(frozen=True)
class Clock:
    """An agent ticks at steps t with t % period == phase and learns after every `unroll` of its ticks.

    `unroll` None: its windows are the episodes.
    """

    period: int
    phase: int
    unroll: int | None


@dataclass(frozen=True)
class Link:
    """A channel: a message goes at each tick of the sender and is `delay` steps on the way.

    With `stand_in`, a synthetic input is read where the due message is missing; on an `unlocked` one, always. `read`
    is what a slower receiver does with several (`last`, or all: `mean`, `concat`); the gradient takes `back` steps,
    as many as the message unless it is given. `drop` is what a running link loses; `Scene.lost` says which.
    """

    name: str
    sender: str
    receiver: str
    delay: int
    coupling: str
    staleness: int = 16
    stand_in: bool = False
    read: str = "last"
    back: int | None = None
    drop: float = 0.0

    @property
    def way_back(self) -> int:
        return self.delay if self.back is None else self.back


def state_of(agent: str) -> str:
    """The name of an agent's state channel."""
    return f"{agent}->{agent}:state"


@dataclass(frozen=True)
class Scene:
    """What is played.

    Attributes:
        clocks: By agent.
        links: The channels.
        horizon: Steps.
        memories: The coupling of the state of each agent that has one.
        batch: Environments.
        lost: (channel, stamp, environment) that the link loses.
        ends: Whether the episode of (step, environment) that ends there is terminated; if not, it is truncated.
        lengths: Of the episodes of all environments together, cycled, where some agent's windows are the episodes.
        undrawn: (agent, window of its group) in which it learns nothing.
        judged: The agents that have an objective, at each of their ticks.
    """

    clocks: dict[str, Clock]
    links: list[Link]
    horizon: int
    memories: Mapping[str, str] = field(default_factory=dict)
    batch: int = 1
    lost: AbstractSet[Place] = frozenset()
    ends: Mapping[tuple[int, int], bool] = field(default_factory=dict)
    lengths: tuple[int, ...] = ()
    undrawn: AbstractSet[Window] = frozenset()
    judged: AbstractSet[str] = frozenset()

    def ended(self, first: int, stop: int, row: int) -> list[int]:
        """The steps in [first, stop) after which an episode of this environment ends."""
        return [step for step in range(first, stop) if (step, row) in self.ends]


@dataclass(frozen=True)
class Use:
    """A receiver tick at which a stamp is due, its window, and the environments in which it was read."""

    reader: str
    tick: int
    window: Window
    rows: frozenset[int]


@dataclass(frozen=True)
class Fate:
    """What became of a message.

    Attributes:
        state: open | complete | void.
        finished: Step at which the last window that may use it closed.
        back: Step at which its gradient is with the sender.
        counted: (receiver tick, environment) of the uses that counted.
        zeros: Environments whose episode terminated before the state was used: its example has a gradient of zero.
    """

    state: str
    finished: int | None = None
    back: int | None = None
    counted: tuple[tuple[int, int], ...] = ()
    zeros: tuple[int, ...] = ()

    @property
    def rows(self) -> frozenset[int]:
        """The environments that have an example."""
        return frozenset(self.zeros) | {row for _, row in self.counted}


@dataclass(frozen=True)
class Prediction:
    """What the simulator says.

    Attributes:
        read: The stamps read at a place, oldest first; empty: zeros.
        fates: By (channel, stamp), of channels that are not locked and states that are decoupled, those handed over a
            window's end alone.
        stood: Where a stand-in was read in the place of that stamp.
        heard: What synthetic inputs learn from: the real message's stamp.
        injected: By (channel, stamp): the step at which the sender learns with it, and in which environments.
        credited: By (agent, step at which it learns): the (tick, environment) whose doing has a gradient then.
        moved: By (channel, stamp): the environments in which the gradient of a message is not zero.
        last: By (channel, stamp, step): the environments whose episode is terminated there, when the state of that stamp
            was its last and its window had not ended: an example with a gradient of zero, known at once.
    """

    read: dict[Place, tuple[int, ...]]
    fates: dict[tuple[str, int], Fate]
    stood: AbstractSet[Place]
    heard: dict[Place, int]
    injected: dict[tuple[str, int], tuple[int, frozenset[int]]]
    credited: dict[tuple[str, int], frozenset[tuple[int, int]]]
    moved: dict[tuple[str, int], frozenset[int]]
    last: dict[Place, frozenset[int]]
