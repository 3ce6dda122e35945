"""The global random numbers of Python, numpy and torch, for a user's code that draws from them: of a seed, and none of the caller's.

| whose calls | what is done |
| --- | --- |
| a loader's, an environment's while it is made | the generators are seeded and restored (`seeded_globally`) |
| an environment's, from its reset on | they have its own numbers, which go on from call to call, in all generators from which its first calls draw (`GlobalNumbers`) |
| those in a process of its own | the generators are seeded, there alone (`seed_globally`) |
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from typing import Any, NamedTuple

import numpy as np
import torch

from antiphon.nets.isolation.own_random import seeded

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


def seed_globally(seed: int) -> None:
    """Seed the global generators, of a process in which nobody else draws from them."""
    for generator in _GENERATORS.values():
        generator.seed(seed)


@contextmanager
def seeded_globally(seed: int) -> Iterator[None]:
    """Seed the global generators within the block, and restore them after it."""
    python, arrays = random.getstate(), np.random.get_state()
    with seeded(seed):
        random.seed(seed)
        np.random.seed(seed % 2**32)
        before = _seeded.set(True)
        try:
            yield
        finally:
            _seeded.reset(before)
            random.setstate(python)
            np.random.set_state(arrays)


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
