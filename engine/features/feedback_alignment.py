"""Feedback alignment: over some locked channels the gradient goes back through fixed weights (semantics 10; FA)."""

from __future__ import annotations

from itertools import count

from antiphon.base.mask import NONE
from antiphon.engine.heart.message import PassedOn, Tick, Window
from antiphon.engine.heart.system import System
from antiphon.nets.layers import Transport


def transports(system: System, ticks: list[Tick], window: Window) -> list[Transport]:
    """Return the messages whose gradient goes back through fixed weights, of all agents of a call."""
    found = []
    for first, tick in zip(count(0, system.batch), ticks, strict=False):
        for read in tick.reads if tick.participates is not NONE else ():
            channel = system.channels[read.channel]
            if channel.feedback.weights is not None and isinstance(read, PassedOn):
                rows = slice(first, first + system.batch)
                found.append(Transport(channel.passed_on(read, window), channel.feedback.weights, rows))
    return found
