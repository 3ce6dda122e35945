"""The global random numbers of Python, numpy and torch, for a user's code that draws from them: of a seed, and none of the caller's.

| whose calls | what is done |
| --- | --- |
| a network's, loss's, optimiser's or hook's in a run, a world's, a vector environment's of a user's class | the generators are seeded for each call and restored (`of_seed`): 25 µs; a call that should draw nothing and does not, 12 µs |
| a loader's, an environment's while it is made | the generators are seeded and restored (`seeded_globally`) |
| an environment's, from its reset on | they have its own numbers, which go on from call to call, in all generators from which its first calls draw (`GlobalNumbers`) |
"""

from __future__ import annotations

import ctypes
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from contextvars import ContextVar
from functools import cache
from typing import Any, NamedTuple, TypeVar

import numpy as np
import torch

from antiphon.nets.random import seed_for

R = TypeVar("R")

_NOTHING = nullcontext()
_TRIED = 32
"""Calls of an environment after a seed that may draw from any generator; a generator that is used later at first is the caller's."""
_seeded = ContextVar("_seeded", default=False)
"""Whether all that is called draws from generators that are seeded and restored around it."""


# --- states: the functions of numpy and Python take 40 to 90 µs to read theirs, and as long to set numpy's --------------


_numpys: Any = np.random.mtrand
_python: Any = getattr(random.seed, "__self__")  # noqa: B009  (Python's generator, whose functions those of `random` are)


class _NumpyState(NamedTuple):
    """A state of numpy's generator."""

    words: Any
    """[625] uint32: those of the Mersenne Twister, and the place among them."""
    normal: float | None
    """The second number of a pair of which the first has been drawn; None: there is none."""


@cache
def _memory(address: int) -> Any:
    return np.ctypeslib.as_array((ctypes.c_uint32 * 625).from_address(address))


def _words() -> Any:
    """The memory of numpy's generator, see `_NumpyState`."""
    return _memory(_numpys.get_bit_generator().ctypes.state_address)


def _numpy_state() -> _NumpyState:
    """The state of numpy's generator; of a pair of normal numbers the second is taken out, so a state is to be set next."""
    words = _words()
    before = words.copy()
    normal = np.random.standard_normal()
    return _NumpyState(before, normal if (words == before).all() else None)


def _set_numpy_state(state: _NumpyState) -> None:
    if state.normal is not None:
        np.random.set_state(("MT19937", state.words[:-1], int(state.words[-1]), 1, state.normal))
        return
    np.random.seed(0)  # without a second number
    _words()[:] = state.words


@cache
def _python_words() -> Any:
    """The memory of Python's generator, [625] uint32: the place among the words, and these; None where it is not as CPython has it."""
    words = _memory(id(_python) + object.__basicsize__)
    *theirs, place = random.getstate()[1]
    return words if (words == [place, *theirs]).all() else None


def _python_state() -> Any:
    words = _python_words()
    return random.getstate() if words is None else (words.tobytes(), _python.gauss_next)


def _set_python_state(state: Any) -> None:
    words = _python_words()
    if words is None:
        random.setstate(state)
    else:
        words[:], _python.gauss_next = np.frombuffer(state[0], np.uint32), state[1]


def _plain_numpy_state(state: _NumpyState) -> list[Any]:
    has_normal, key = state.normal is not None, torch.from_numpy(state.words[:-1].astype(np.int64))
    return ["MT19937", key, int(state.words[-1]), int(has_normal), state.normal if has_normal else 0.0]


def _native_numpy_state(plain: Sequence[Any]) -> _NumpyState:
    _, key, place, has_normal, normal = plain
    return _NumpyState(np.append(key.numpy(), place).astype(np.uint32), normal if has_normal else None)


@contextmanager
def _numpys_kept() -> Iterator[None]:
    """Let numpy's generator, seeded anew, be of numpy's usual kind within the block, and be the caller's after it."""
    generator: Any = _numpys.get_bit_generator()
    if not isinstance(generator, np.random.MT19937):  # the caller has chosen another kind
        theirs = np.random.get_state(legacy=False)
        _numpys.set_bit_generator(np.random.MT19937(0))
        try:
            yield
        finally:
            _numpys.set_bit_generator(generator)
            np.random.set_state(theirs)
        return
    state = _numpy_state()
    np.random.seed(0)
    try:
        yield
    finally:
        _set_numpy_state(state)


# --- all of them ---------------------------------------------------------------------------------------------------


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
        lambda seed: np.random.seed(
            seed_for(seed, "numpy") % 2**32
        ),  # of torch's seed it would draw torch's numbers
        _numpy_state,
        _set_numpy_state,
        lambda first, second: first.normal == second.normal and bool((first.words == second.words).all()),
        _plain_numpy_state,
        _native_numpy_state,
    ),
    "python": _Generator(
        lambda seed: random.seed(seed_for(seed, "python")),
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
"""Generators that torch's calls do not draw from."""


@contextmanager
def seeded(seed: int, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's generator within the block, and restore it after it.

    Args:
        device: A device whose generator is seeded too; None: none is.
    """
    on_gpu = device is not None and device.type == "cuda"
    before = torch.default_generator.get_state()
    try:
        with torch.random.fork_rng(devices=[device]) if on_gpu else _NOTHING:
            if on_gpu:
                torch.manual_seed(seed)
            # for its other devices torch.manual_seed formats, and keeps, a stack trace at every call
            torch.default_generator.manual_seed(seed)
            yield
    finally:
        torch.default_generator.set_state(before)


@contextmanager
def seeded_globally(seed: int) -> Iterator[None]:
    """Seed the global generators within the block, and restore them after it."""
    with seeded(seed), _arrays_kept():
        _seed_arrays(seed)
        before = _seeded.set(True)
        try:
            yield
        finally:
            _seeded.reset(before)


def of_seed(
    seed: int, compute: Callable[[], R], device: torch.device | None = None, *, repeatable: bool = False
) -> R:
    """Return what `compute` returns, with numbers of a seed: all that it draws is a function of the seed alone.

    Args:
        device: A GPU whose generator is seeded too; None: none is.
        repeatable: Whether it should draw nothing, and may be called again if it does.
    """
    if torch.compiler.is_exporting():  # a generator that is traced has no state
        return compute()
    return _of_seed(seed, compute, device, repeatable=repeatable)[0]


def watched_of_seed(
    seed: int, compute: Callable[[], R], device: torch.device | None = None
) -> tuple[R, bool]:
    """Return what `compute` returns, which should draw nothing, and whether it has drawn: then it is to be called again, by `of_seed`."""
    return _of_seed(seed, compute, device, repeatable=True, watched=True)


def draws_numbers(compute: Callable[[], object]) -> bool:
    """Whether a call draws random numbers, or seeds their generators, or fails, in which case it may."""
    try:
        return watched_of_seed(0, compute)[1]
    except Exception:  # noqa: BLE001  (anything a user's code may raise)
        return True


def _of_seed(
    seed: int,
    compute: Callable[[], R],
    device: torch.device | None,
    *,
    repeatable: bool,
    watched: bool = False,
) -> tuple[R, bool]:
    if repeatable and (device is None or device.type == "cpu"):
        before = _before_a_trial()
        if before is not None:
            computed, drew = _tried(compute, before)
            if watched or not drew:
                return computed, drew
    with seeded(seed, device), _arrays_kept():
        _seed_arrays(seed)
        before = _states() if watched else None
        computed = compute()
        return computed, watched and before != _states()


class _States(NamedTuple):
    """The states of all generators, but for a second normal number of numpy's."""

    torch: bytes
    words: bytes
    python: Any


def _states() -> _States:
    return _States(torch.default_generator.get_state().numpy().tobytes(), _words().tobytes(), _python_state())


def _before_a_trial() -> _States | None:
    """Return the states of the generators, where a call that should draw nothing may be made with them as they are.

    None: numpy's generator keeps numbers elsewhere.
    """
    if not isinstance(_numpys.get_bit_generator(), np.random.MT19937):
        return None
    state = _numpy_state()
    _set_numpy_state(state)
    return _states() if state.normal is None else None


def _tried(compute: Callable[[], R], before: _States) -> tuple[R, bool]:
    """Return what `compute` returns, and whether it has drawn: the generators are then as before it."""
    drew = True
    try:
        computed = compute()
        drew = before != _states()
    finally:
        if drew:
            torch.default_generator.set_state(torch.frombuffer(bytearray(before.torch), dtype=torch.uint8))
            _set_numpy_state(_NumpyState(np.frombuffer(before.words, np.uint32), None))
            _set_python_state(before.python)
    return computed, drew


def _seed_arrays(seed: int) -> None:
    for name in _ARRAYS:
        _GENERATORS[name].seed(seed)


@contextmanager
def _arrays_kept() -> Iterator[None]:
    """Restore Python's and numpy's after the block; within it they are to be seeded."""
    with _numpys_kept():
        theirs = _python_state()
        try:
            yield
        finally:
            _set_python_state(theirs)


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
        with _numpys_kept() if "numpy" in names else _NOTHING:
            theirs = {name: _GENERATORS[name].state() for name in names if name != "numpy"}
            for name in names:
                if self._seed is not None:
                    _GENERATORS[name].seed(self._seed)
                elif name in self._states:
                    _GENERATORS[name].load(self._states[name])
            begun = {name: _GENERATORS[name].state() for name in names if self._trials_left}
            for name, state in begun.items():
                _GENERATORS[name].load(state)
            self._seed, self._trials_left, self._within = None, max(0, self._trials_left - 1), True
            try:
                yield
            finally:
                self._within = False
                for name in names:
                    self._states[name] = state = _GENERATORS[name].state()
                    if name in begun and not _GENERATORS[name].same(begun[name], state):
                        self._drawn.add(name)
                for name, state in theirs.items():
                    _GENERATORS[name].load(state)

    def state_dict(self) -> dict[str, Any]:
        """Return the states of the generators that are drawn from, as plain data, and how many calls are still tried."""
        saved = [*_GENERATORS] if self._trials_left else sorted(self._drawn)
        states = {name: _GENERATORS[name].plain(self._states[name]) for name in saved if name in self._states}
        return {"states": states, "drawn": sorted(self._drawn), "left": self._trials_left}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self._seed = None
        self._states = {name: _GENERATORS[name].native(plain) for name, plain in state["states"].items()}
        self._drawn, self._trials_left = set(state["drawn"]), state["left"]
