"""Feedback alignment: over some locked channels the gradient goes back through fixed weights (semantics 10; FA)."""

from __future__ import annotations

from collections.abc import Iterator

from antiphon.engine.heart.message import AgentTick, Tape, Tick
from antiphon.engine.heart.rows import mask_fill_zero
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

    def transports(self, tick: Tick, tape: Tape) -> list[Transport]:
        """Return the messages whose gradient goes back through fixed weights, of all agents of a call."""
        return [way for i, part in enumerate(tick.parts) for way in self._of(part, tape, i)]

    def _of(self, part: AgentTick, tape: Tape, position: int) -> Iterator[Transport]:
        for entry in part.reads:
            channel = self.system.channels[entry.channel]
            if (
                channel.feedback_weights is not None
                and entry.stamp is not None
                and part.participates is not False
            ):
                message = mask_fill_zero(
                    entry.available, tape.graph_outputs[channel.name, entry.stamp].flatten(1)
                )
                first = position * self.system.batch
                yield Transport(message, channel.feedback_weights, slice(first, first + self.system.batch))
