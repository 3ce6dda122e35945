"""Sampled times of steps and calls: what chance makes of a profile's means, as in virtual time."""

from __future__ import annotations

import math
import random

from antiphon.engine.virtual.profile import ComputeSpec, LinkSpec

__all__ = ["SampledTimes"]


class SampledTimes:
    """Samples factors of steps and times of calls.

    Args:
        seed: The same one gives the same times.
    """

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self._occupied: dict[tuple[int, int], float] = {}

    def factor(self, compute: ComputeSpec) -> float:
        """Return the factor by which chance stretches a step."""
        factor = self._log_normal(compute.spread)
        if compute.stragglers is not None and self._random.random() < compute.stragglers.share:
            factor *= compute.stragglers.factor
        return factor

    def arrival(self, sender: int, receiver: int, link: LinkSpec, nbytes: float, now: float) -> float:
        """Return when a call arrives: the calls of one machine to another follow each other, and lost ones are repeated."""
        transfer = link.transfer(nbytes)
        sent = max(now, self._occupied.get((sender, receiver), 0.0)) + transfer
        self._occupied[sender, receiver] = sent
        latency = link.latency * self._log_normal(link.jitter)
        while link.loss and self._random.random() < link.loss:  # noticed after a round trip
            latency += 2 * link.latency + transfer
        return sent + latency

    def _log_normal(self, deviation: float) -> float:
        return math.exp(self._random.gauss(0, deviation) - deviation**2 / 2) if deviation else 1.0
