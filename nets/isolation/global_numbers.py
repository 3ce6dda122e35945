"""The global random numbers of Python, numpy and torch, for a user's code that draws from them: of a seed, and none of the caller's.

| whose calls | what is done |
| --- | --- |
| a loader's, an environment's while it is made | the generators are seeded and restored (`seeded_globally`) |
| an environment's, from its reset on | they have its own numbers, which go on from call to call, in all generators from which its first calls draw (`GlobalNumbers`) |
| those in a process of its own | the generators are seeded, there alone (`seed_globally`) |
| a network's, loss's, optimiser's or hook's in a run, a world's, a vector environment's of a user's class | the generators are seeded for each call and restored (`UsersDraws`) |
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from antiphon.nets.isolation.own_random import Draws, NoDraws, OwnDraws, alone, seeded, torch_draws_of

R = TypeVar("R")

_NOTHING = nullcontext()
_TRIED = 32
"""Calls after a seed that may draw from any generator; a generator that is used later at first is the caller's."""
_seeded = ContextVar("_seeded", default=False)
"""Whether all that is called draws from generators that are seeded and restored around it."""


class _Generator(NamedTuple):
    """A global generator: how it is seeded, its state, whether two states are the same, and a state as plain data and back."""

    seed: Callable[[int], object]
    state: Callable[[], Any]
    load: Callable[[Any], object]
    same: Callable[[Any, Any], bool]
    plain: Callable[[Any], Any]
    native: Callable[[Any], Any]


_GENERATORS = {
    "numpy": _Generator(
        lambda seed: np.random.seed(seed % 2**32),
        np.random.get_state,
        np.random.set_state,
        lambda first, second: first[2:] == second[2:] and bool((first[1] == second[1]).all()),
        lambda state: [state[0], torch.from_numpy(state[1].astype(np.int64)), *state[2:]],
        lambda plain: (plain[0], plain[1].numpy().astype(np.uint32), *plain[2:]),
    ),
    "python": _Generator(
        random.seed,
        random.getstate,
        random.setstate,
        lambda first, second: bool(first == second),
        lambda state: [state[0], torch.tensor(state[1]), state[2]],
        lambda plain: (plain[0], tuple(plain[1].tolist()), plain[2]),
    ),
    "torch": _Generator(
        torch.default_generator.manual_seed,
        torch.default_generator.get_state,
        torch.default_generator.set_state,
        torch.equal,
        lambda state: state,
        lambda plain: plain,
    ),
}


_ARRAYS = ("numpy", "python")
"""Those that torch's calls do not draw from."""


def seed_globally(seed: int) -> None:
    """Seed the global generators, of a process in which nobody else draws from them."""
    for generator in _GENERATORS.values():
        generator.seed(seed)


@contextmanager
def seeded_globally(seed: int) -> Iterator[None]:
    """Seed the global generators within the block, and restore them after it."""
    with seeded(seed), _arrays_seeded(seed):
        before = _seeded.set(True)
        try:
            yield
        finally:
            _seeded.reset(before)


@contextmanager
def _arrays_seeded(seed: int) -> Iterator[None]:
    """Seed Python's and numpy's within the block, and restore them after it."""
    before = {name: _GENERATORS[name].state() for name in _ARRAYS}
    for name in _ARRAYS:
        _GENERATORS[name].seed(seed)
    try:
        yield
    finally:
        for name, state in before.items():
            _GENERATORS[name].load(state)


class UsersDraws(Draws):
    """Numbers of a seed, in the generators from which a user's calls draw: every call's are a function of its seed alone.

    Args:
        drawn: Generators from which calls are known to draw.
        late: How calls get torch's where the first ones have drawn none; None: they are made as they are, which costs nothing.
    """

    def __init__(self, drawn: Collection[str] = (), *, late: Draws | None = None) -> None:
        self._drawn, self._late, self._left = {*drawn}, late, _TRIED

    @property
    def is_idle(self) -> bool:
        """Whether a call is made as it is: none has drawn, and none is tried any more."""
        return not (self._left or self._late or self._drawn)

    @property
    def drew(self) -> bool:
        """Whether a call has drawn."""
        return bool(self._drawn) or (isinstance(self._late, NoDraws) and self._late.drew)

    def __call__(self, seed: int, compute: Callable[[], R], device: torch.device | None = None) -> R:
        """Return what `compute` returns, with numbers of this seed, also on `device` if that is a GPU."""
        if device is not None and device.type == "cuda" and not self.is_idle:
            with seeded(seed, device):
                return self(seed, compute)
        if not self._left and self._drawn <= {"torch"}:
            draws = OwnDraws() if self._drawn else self._late
            return compute() if draws is None else draws(seed, compute)
        with alone(), _arrays_seeded(seed):
            begun = {name: _GENERATORS[name].state() for name in _ARRAYS} if self._left else {}
            computed, drew = OwnDraws.watched(seed, compute)
            self._drawn |= _drawn_since(begun) | ({"torch"} if drew else set())
        self._left = max(0, self._left - 1)
        return computed


def draws_of(compute: Callable[[], object]) -> Draws:
    """Return how calls like this one get random numbers; one that fails may draw."""
    with seeded_globally(0):
        begun = {name: _GENERATORS[name].state() for name in _ARRAYS}
        found = torch_draws_of(compute)
        drawn = _drawn_since(begun)
    return UsersDraws(drawn, late=OwnDraws()) if drawn else found


def _drawn_since(begun: Mapping[str, Any]) -> set[str]:
    """Return the generators whose states are others than they were."""
    return {
        name for name, state in begun.items() if not _GENERATORS[name].same(state, _GENERATORS[name].state())
    }


class GlobalNumbers:
    """What the calls of an environment draw from the global generators: numbers of its own seed, so that no other code shifts them."""

    def __init__(self) -> None:
        self._seed: int | None = None
        self._states: dict[str, Any] = {}
        """By generator, after the newest call."""
        self._drawn: set[str] = set()
        """Generators from which a call has drawn."""
        self._trials_left = 0
        """Calls that are still tried."""
        self._within = False

    def seed(self, seed: int) -> None:
        """Begin with the numbers of a seed at the next call."""
        self._seed, self._trials_left = seed, _TRIED

    def active(self) -> AbstractContextManager[None]:
        """Return a context that has them in the global generators, and after it what these had; it costs nothing where none draws."""
        names = [*_GENERATORS] if self._trials_left else [name for name in _GENERATORS if name in self._drawn]
        return _NOTHING if not names or self._within or _seeded.get() else self._put(names)

    @contextmanager
    def _put(self, names: Sequence[str]) -> Iterator[None]:
        theirs = {name: _GENERATORS[name].state() for name in names}
        for name in names:
            if self._seed is not None:
                _GENERATORS[name].seed(self._seed)
            elif name in self._states:
                _GENERATORS[name].load(self._states[name])
        begun = {name: _GENERATORS[name].state() for name in names if self._trials_left}
        self._seed, self._trials_left, self._within = None, max(0, self._trials_left - 1), True
        try:
            yield
        finally:
            self._within = False
            for name in names:
                generator = _GENERATORS[name]
                self._states[name] = state = generator.state()
                if name in begun and not generator.same(begun[name], state):
                    self._drawn.add(name)
                generator.load(theirs[name])

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the generators that are drawn from, as plain data, and how many calls are still tried."""
        saved = [*_GENERATORS] if self._trials_left else sorted(self._drawn)
        states = {name: _GENERATORS[name].plain(self._states[name]) for name in saved if name in self._states}
        return {"states": states, "drawn": sorted(self._drawn), "left": self._trials_left}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state."""
        self._seed = None
        self._states = {name: _GENERATORS[name].native(plain) for name, plain in state["states"].items()}
        self._drawn, self._trials_left = set(state["drawn"]), state["left"]
