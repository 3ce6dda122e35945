"""Feedback alignment: over some locked channels the gradient goes back through fixed weights (semantics 10; FA)."""

from __future__ import annotations

from collections.abc import Iterator

from antiphon.engine.heart.message import Tick, Window
from antiphon.engine.heart.system import System
from antiphon.nets.layers import Transport

__all__ = ["FixedFeedback"]


class FixedFeedback:
    """Fixed feedback weights, between networks and the messages that they read.

    Args:
        system: The channels.
    """

    def __init__(self, system: System) -> None:
        self.system = system

    def transports(self, ticks: list[Tick], window: Window) -> list[Transport]:
        """Return the messages whose gradient goes back through fixed weights, of all agents of a call."""
        return [way for i, tick in enumerate(ticks) for way in self._of(tick, window, i)]

    def _of(self, tick: Tick, window: Window, position: int) -> Iterator[Transport]:
        for read in tick.reads:
            channel = self.system.channels[read.channel]
            if channel.feedback.weights is None or read.stamp is None:
                continue
            if tick.participates is not False:
                message = channel.passed_on(read, window)
                first = position * self.system.batch
                yield Transport(message, channel.feedback.weights, slice(first, first + self.system.batch))
