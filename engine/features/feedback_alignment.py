"""Feedback alignment: over some locked channels the gradient goes back through fixed weights (semantics 10; FA)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count

from antiphon.base.mask import NONE
from antiphon.engine.heart.feature import FeatureOfSystem
from antiphon.engine.heart.window import Tick, Window, WithGraph
from antiphon.nets.layers import Transport


class FeedbackAlignment(FeatureOfSystem):
    """The fixed weights of a system's channels."""

    def transports(self, ticks: Sequence[Tick], window: Window) -> list[Transport]:
        """Return the messages whose gradient goes back through fixed weights, of all agents of a call."""
        transports, batch = [], self.system.batch
        for first, tick in zip(count(0, batch), ticks, strict=False):
            for read in tick.reads() if tick.learning_rows is not NONE else ():
                channel = self.system.channels[read.channel_name]
                if channel.feedback.weights is not None and isinstance(read, WithGraph):
                    rows = slice(first, first + batch)
                    value = read.learned_value(window.outputs_with_graph, channel, tick.learning_rows)
                    entering = channel.entering(value, read.available)
                    transports.append(Transport(entering, channel.feedback.weights, rows))
        return transports
