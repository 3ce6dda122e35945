"""What a link does to the numbers of a message, in lists: the oracle of `comms/links.py`."""

from __future__ import annotations

from statistics import NormalDist


def received(
    message: list[list[float]], stamp: int, *, bits: int | None, noise: float, seed: int
) -> list[list[float]]:
    """A message, by environment and component, as it arrives: rounded within its own range, then blurred."""
    arrived = []
    for b, sample in enumerate(message):
        largest = max(abs(component) for component in sample)
        if bits is not None:
            levels = [largest * (2 * k / (2**bits - 1) - 1) for k in range(2**bits)]
            sample = [min(levels, key=lambda level: abs(level - component)) for component in sample]
        lanes = range(b * len(sample), (b + 1) * len(sample))
        arrived.append([x + noise * _drawn(seed, stamp, lane) for x, lane in zip(sample, lanes, strict=True)])
    return arrived


def _drawn(seed: int, step: int, lane: int) -> float:
    """A standard normal number: SplitMix64 started anew for each step, then the quantile of its upper 52 bits."""
    gamma, full = 0x9E3779B97F4A7C15, 2**64 - 1

    def mixed(z: int) -> int:
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & full
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & full
        return z ^ (z >> 31)

    start = mixed((seed + (step + 1) * gamma) & full)
    return NormalDist().inv_cdf(((mixed((start + (lane + 1) * gamma) & full) >> 12) + 0.5) / 2**52)
