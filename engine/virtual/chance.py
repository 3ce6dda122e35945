"""Chance in virtual time: functions of the seed, a purpose and a count, so that nothing but counts is kept."""

from __future__ import annotations

import math
from functools import cache

from antiphon.engine.virtual.profile import SECONDS_A_DAY, ComputeSpec, FailureSpec, LinkSpec
from antiphon.nets.random import normal, seed_for, uniform

__all__ = ["Chance"]


class Chance:
    """Random factors of steps, calls and failures.

    Args:
        seed: Of the run.
        names: Of the machines, by part.
    """

    def __init__(self, seed: int, names: list[str]) -> None:
        self._names = names
        self._seed_of = cache(lambda *purpose: seed_for(seed, "virtual", *purpose))

    def step_factor(self, part: int, count: int, compute: ComputeSpec) -> float:
        """Return the factor by which a part's step number `count` takes longer; the mean of `spread` alone is 1."""
        name, factor = self._names[part], 1.0
        if compute.spread:
            factor = _log_normal(self._seed_of(name, "step"), count, compute.spread)
        if compute.stragglers is not None:
            sampled = uniform(self._seed_of(name, "straggler"), count, 1).item()
            factor *= compute.stragglers.factor if sampled < compute.stragglers.share else 1.0
        return factor

    def latency(self, sender: int, receiver: int, count: int, link: LinkSpec) -> float:
        """Return the latency of call number `count` between two parts, in seconds; its mean is the link's."""
        if not link.jitter:
            return link.latency
        purpose = self._seed_of(self._names[sender], self._names[receiver], "latency")
        return link.latency * _log_normal(purpose, count, link.jitter)

    def lost(self, sender: int, receiver: int, count: int, link: LinkSpec) -> bool:
        """Return whether call number `count` between two parts is lost."""
        if not link.loss:
            return False
        purpose = self._seed_of(self._names[sender], self._names[receiver], "loss")
        return uniform(purpose, count, 1).item() < link.loss

    def until_failure(self, part: int, count: int, failures: FailureSpec) -> float:
        """Return the seconds that a machine runs before its failure number `count`: exponentially distributed."""
        sampled = uniform(self._seed_of(self._names[part], "failure"), count, 1).item()
        return -math.log1p(-sampled) * SECONDS_A_DAY / failures.per_day


def _log_normal(seed: int, count: int, deviation: float) -> float:
    """Return exp(deviation z - deviation^2 / 2) with z standard normal: a factor of mean 1."""
    return math.exp(deviation * normal(seed, count, 1).item() - deviation**2 / 2)
