"""A system of stacks, and the single agents that it is made of."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.system import System


@dataclass(frozen=True)
class Stacked:
    """A system of stacks, and the single agents it is made of.

    Attributes:
        base: The single agents and channels; their parameters are views of the stacked ones.
        system: The stacks.
    """

    base: System
    system: System
    _places: dict[str, tuple[Channel, int]] = field(default_factory=dict)

    def channel_of(self, name: str) -> tuple[Channel, int]:
        """The stack that a channel is in, and its place there."""
        if not self._places:
            self._places.update(
                (own, (channel, k))
                for channel in self.system.channels.values()
                for k, own in enumerate(channel.names)
            )
        return self._places[name]

    def sent(self, channel: str, stamp: int | None = None) -> Tensor | None:
        """A message of one channel that is still held, [B, size] as sent; None: there is none.

        Args:
            channel: Its name.
            stamp: The step at which it was sent; None: the newest.
        """
        stack, place = self.channel_of(channel)
        messages = stack.ledger.messages
        message = messages.get(max(messages, default=-1) if stamp is None else stamp)
        return None if message is None else message.sent[place * stack.batch : (place + 1) * stack.batch]
