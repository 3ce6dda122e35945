"""Counter-based random numbers: functions of (seed, step, index), independent of order and history.

The generator is SplitMix64 (Steele, Lea and Flood 2014, "Fast splittable pseudorandom number
generators") evaluated at a counter, in wrapping int64 arithmetic, on any device.
"""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from antiphon.nets.step_numbers import on_host, step_number

LARGEST_SEED = 2**31 - 2
"""The largest seed that every environment takes: numpy's RandomState and the Arcade Learning Environment among them."""

_GAMMA = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit number
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB
_MASK = (1 << 64) - 1

Bits = TypeVar("Bits", Tensor, NDArray[np.int64])
"""64-bit numbers that wrap around: on a device, or on the host."""


def seed_for(root: int, *names: str) -> int:
    """Derive a seed in [0, 2**63) from a root seed and names of its purpose, as `"agent", "left", "parameters"`.

    Adding an agent or channel changes no other seed, because a seed depends only on names.
    """
    text = "\x1f".join((str(root), *names)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def sampled_seeds(root: int, count: int, largest: int = LARGEST_SEED) -> list[int]:
    """Sample different seeds in [0, largest] from a root seed, of which the first do not depend on `count`.

    Roots side by side share none (but by chance): numpy's SeedSequence.
    """
    sequence, seeds, words = np.random.SeedSequence(root % 2**64), list[int](), count
    while len(seeds) < count:
        sampled = sequence.generate_state(words, np.uint64) % np.uint64(largest + 1)
        seeds, words = list(dict.fromkeys(sampled.tolist())), 2 * words
    return seeds[:count]


def generator(root: int, *names: str) -> torch.Generator:
    return torch.Generator().manual_seed(seed_for(root, *names))


@contextmanager
def torch_seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's generator within the block, and that of the device, where it is a GPU; restore both after it."""
    before = torch.default_generator.get_state()
    before_on_gpu = torch.cuda.get_rng_state(device) if device is not None and device.type == "cuda" else None
    torch.default_generator.manual_seed(seed)
    if before_on_gpu is not None:
        torch.cuda.manual_seed(seed)
    try:
        yield
    finally:
        torch.default_generator.set_state(before)
        if before_on_gpu is not None:
            torch.cuda.set_rng_state(before_on_gpu, device or "cuda")


def seed_globally(seed: int) -> None:
    """Seed the global generators of torch, numpy and Python, from which a user's code may draw."""
    torch.default_generator.manual_seed(seed)
    np.random.seed(seed_for(seed, "numpy") % 2**32)
    random.seed(seed_for(seed, "python"))


def global_states() -> dict[str, Any]:
    """Return the states of the global generators, plain data (plain_trees.py)."""
    return {"torch": torch.get_rng_state(), "numpy": np.random.get_state(), "python": random.getstate()}


def load_global_states(states: Mapping[str, Any]) -> None:
    torch.set_rng_state(states["torch"].cpu())
    np.random.set_state(states["numpy"])
    random.setstate(states["python"])


def _logical_shift(x: Bits, bits: int) -> Bits:
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _hash(seeds: Tensor, step: int, count: int) -> Tensor:
    """SplitMix64 of each of `seeds` [K] at counter (step, index): int64 [K, count], uniform over all 64-bit patterns.

    The step is mixed once before the indices, so that the streams of neighbouring steps begin far apart.
    """
    counter = step_number(_counter, step, torch.int64)
    if isinstance(counter, Tensor) or seeds.device.type != "cpu":
        start = _mixed(seeds + counter).unsqueeze(1)
        return _mixed(start + (torch.arange(count, dtype=torch.int64, device=seeds.device) + 1) * _GAMMA)
    return torch.from_numpy(_mixed(_mixed(seeds.numpy() + int(counter))[:, None] + _counters(count)))


def _counters(count: int) -> NDArray[np.int64]:
    """Return what the indices add to a seed, on the host: numpy's operations cost a tenth of torch's, and have the same bits."""
    return np.arange(1, count + 1, dtype=np.int64) * _GAMMA


def _counter(step: int) -> int:
    pattern = ((step + 1) * _GAMMA) & _MASK
    return pattern - (1 << 64) if pattern >= 1 << 63 else pattern


def _mixed(x: Bits) -> Bits:
    x = (x ^ _logical_shift(x, 30)) * _MIX_1
    x = (x ^ _logical_shift(x, 27)) * _MIX_2
    return x ^ _logical_shift(x, 31)


def uniform(seed: int, step: int, count: int, device: torch.device | str = "cpu") -> Tensor:
    """Return float64 [count], uniform in [0, 1), a pure function of (seed, step, index)."""
    return uniform_many(torch.tensor([seed], device=device), step, count)[0]


def uniform_many(seeds: Tensor, step: int, count: int) -> Tensor:
    return _between_0_and_1(_hash(seeds, step, count))


class UniformSteps:
    """Uniform numbers of each of some seeds, step after step: those of `uniform_many`, for many steps at once where the host computes them."""

    _AT_ONCE: ClassVar[int] = 4096
    """Numbers that are computed at once, at most, where a step needs fewer."""

    def __init__(self, seeds: Sequence[int], device: torch.device) -> None:
        self._seeds = torch.tensor(seeds, device=device)
        self._first, self._count, self._numbers = 0, 0, tuple[Tensor, ...]()
        """The first step and the numbers of each that are computed, and these."""

    def at(self, step: int, count: int) -> Tensor:
        """Return float64 [seeds, count], uniform in [0, 1): the numbers of a step."""
        if self._seeds.device.type != "cpu" or not on_host():
            return uniform_many(self._seeds, step, count)
        index = step - self._first
        if not 0 <= index < len(self._numbers) or self._count != count:
            index, self._first, self._count = 0, step, count
            steps = max(1, self._AT_ONCE // max(1, len(self._seeds) * count))
            counters = _counter(step - 1) + _counters(steps)
            starts = _mixed(_mixed(self._seeds.numpy() + counters[:, None])[..., None] + _counters(count))
            self._numbers = _between_0_and_1(torch.from_numpy(starts)).unbind()
        return self._numbers[index]


def _between_0_and_1(bits: Tensor) -> Tensor:
    return _logical_shift(bits, 11).double() * 2.0**-53


def integers(seed: int, step: int, count: int, high: int, device: torch.device | str = "cpu") -> Tensor:
    """Return int64 [count], uniform in [0, high), a pure function of (seed, step, index)."""
    return (uniform(seed, step, count, device) * high).long().clamp_(max=high - 1)


def normal(seed: int, step: int, count: int, device: torch.device | str = "cpu") -> Tensor:
    """Return float64 [count], standard normal, a pure function of (seed, step, index)."""
    return normal_many(torch.tensor([seed], device=device), step, count)[0]


def normal_many(seeds: Tensor, step: int, count: int) -> Tensor:
    """Return `normal` of each of `seeds` (int64 [K], at least 0), float64 [K, count], bit-identical."""
    # One number per index through the inverse of the distribution function: pairs, as Box and Muller use,
    # would make the last of an odd number special. The half avoids both ends, where it is infinite.
    inside = (_logical_shift(_hash(seeds, step, count), 12).double() + 0.5) * 2.0**-52
    sampled: Tensor = torch.special.ndtri(inside)
    return sampled
