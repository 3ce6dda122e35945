"""Links: what happens to a message on the way."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from antiphon.nets.random import seed_for, uniform

__all__ = ["Link"]


@dataclass(frozen=True, kw_only=True)
class Link:
    """A way from sender to receiver.

    Attributes:
        name: The channel's name; it seeds the losses.
        delay: Steps between sending and arrival; the gradient takes as long on its way back.
        drop: Probability that a message is lost, drawn per environment.
        seed: Of the run.
    """

    name: str
    delay: int = 0
    drop: float = 0.0
    seed: int = 0

    def lost(self, stamp: int, batch: int, device: torch.device | str) -> Tensor | None:
        """Return which environments lose the message of `stamp`, [B] bool; None on a link that loses nothing."""
        if self.drop == 0.0:
            return None
        return uniform(seed_for(self.seed, "link", self.name), stamp, batch, device) < self.drop
