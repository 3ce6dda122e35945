"""Tapes: what an open window was made of, so that its graph can be made again (semantics 15).

No autograd graph outlives its window, and none is ever stored: a fork, a checkpoint and a late learner
replay the tape, which gives the same bits as the live graph.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from antiphon.engine.core.ledger import Consumption, Record
from antiphon.engine.core.message import StepSignals
from antiphon.engine.core.rows import EnvMask

__all__ = ["AgentTick", "Input", "Tape", "Tick"]

Tensors = dict[str, Tensor]


@dataclass(slots=True, eq=False)
class Input:
    """What one agent consumed from one channel at one tick."""

    channel: str
    stamp: int | None
    """The stamp of a message made in the same window over a locked channel: it is passed on with its graph."""
    value: Tensor | None
    """[B, size], otherwise: the leaf, or a constant; None: zeros."""
    use: Consumption | None = None
    """The ledger's use whose leaf `value` is."""
    alive: EnvMask = True
    """Environments in which there is a message."""


@dataclass(slots=True, eq=False)
class AgentTick:
    """One agent's share in a tick.

    Several inputs of one channel, one after the other, are the messages that it reads side by side, oldest first.
    """

    agent: str
    step_signals: StepSignals
    """The signals it worked on (its own step's, or those its aligned message was made from)."""
    inputs: list[Input]
    participates: EnvMask = True
    """The rows in which the agent learns from this window; in others its inputs are constants."""
    memory: Input | None = None
    """What a recurrent agent read of its own state; None for others."""
    ages: Tensor | None = None
    """[B, channels]: how old the messages are, for an agent that observes it."""
    ports: Tensors = field(default_factory=dict)
    """Live outputs; empty once the window has closed."""

    @property
    def consumed(self) -> list[Input]:
        """All that it read over channels, its own state among it."""
        return self.inputs if self.memory is None else [*self.inputs, self.memory]


@dataclass(slots=True, eq=False)
class Tick:
    """One evaluation of one learner's network: one agent, or several tied ones as one batch."""

    step: int
    parts: list[AgentTick]


@dataclass(slots=True, eq=False)
class Tape:
    """One window of one unit.

    Attributes:
        window: Its number; -1 before its first tick.
        start: Running statistics of each learner, by its first agent, at the window's start.
        ticks: In the order they were made.
        sent: Records of the messages sent, by channel name, in order.
        live: Messages of this window with their graph, by (channel, stamp).
        given_up: Delayed channels whose gradients were not complete within their staleness: the window is learned from
            without them.
    """

    window: int = -1
    start: dict[str, Tensors] = field(default_factory=dict)
    ticks: list[Tick] = field(default_factory=list)
    sent: list[tuple[str, Record]] = field(default_factory=list)
    live: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    given_up: set[str] = field(default_factory=set)

    def consumptions(self) -> list[tuple[str, Consumption]]:
        """What its ticks consumed, each once, with the channels' names."""
        found = {
            id(entry.use): (entry.channel, entry.use)
            for tick in self.ticks
            for part in tick.parts
            for entry in part.consumed
            if entry.use is not None
        }
        return list(found.values())

    def release(self) -> None:
        """Let the window's graph go; the tape can still be replayed."""
        self.live.clear()
        for tick in self.ticks:
            for part in tick.parts:
                part.ports = {}
        for _, record in self.sent:
            record.live = None
            record.prediction = None
