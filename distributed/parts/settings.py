"""Bounds of the exchange of parts that never wait. Loads without torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class FreeSettings:
    """Bounds of the exchange in free mode.

    Attributes:
        queue: Messages of a channel that wait for an aligned receiver, at most; then the oldest are dropped. Other receivers
            read only the newest.
        staleness: Steps after which a sender gives up waiting for the gradient of a message.
    """

    queue: int = 8
    staleness: int = 1024
