"""The random numbers of a user's module: torch's, but of a generator of the run's own, which no other thread draws from.

| a module's calls | what is done | its cost |
| --- | --- | --- |
| draw | torch's generator is seeded and restored where there is no other thread; else torch's functions get the run's generator, in this thread | 15 µs; 30 µs per operation |
| draw nothing | torch's generator is compared before and after | 3 µs |
| call `torch.manual_seed` themselves, or are on a GPU | torch's generator is seeded and restored, by one thread at a time | 15 µs |
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode

R = TypeVar("R")

_ONE_AT_A_TIME = threading.RLock()
"""Held while torch's generator, which all threads share, has numbers that are not its own."""
_QUIET = ("tensorboard.", "torch.utils.tensorboard.", "tqdm.")
"""Packages whose threads draw no random numbers."""
_exchanges = 0
"""How often its numbers were exchanged and put back: what was drawn meanwhile cannot be seen from its state."""
_MARK = 0x5EED
"""A seed by which a call of `torch.manual_seed` is noticed."""


@contextmanager
def seeded(seed: int | None, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's generator within the block, and restore it after; runs in other threads wait meanwhile.

    Args:
        seed: The seed; None: it goes on from where it is.
        device: A GPU whose generator is seeded too; None: none is.
    """
    global _exchanges
    with _ONE_AT_A_TIME, torch.random.fork_rng(devices=[] if device is None else [device]):
        _exchanges += 1
        if seed is None:
            pass
        elif device is not None:
            torch.manual_seed(seed)
        else:  # for its other devices torch.manual_seed formats, and keeps, a stack trace at every call
            torch.default_generator.manual_seed(seed)
        yield


class Draws:
    """How a module's calls get random numbers."""

    def __call__(self, seed: int, compute: Callable[[], R]) -> R:
        """Return what `compute` returns, with numbers of this seed."""
        raise NotImplementedError


class SeededDraws(Draws):
    """Numbers of torch's generator, seeded for the call."""

    def __call__(self, seed: int, compute: Callable[[], R]) -> R:
        with seeded(seed):
            return compute()


class OwnDraws(Draws):
    """Numbers of a generator of the call's own; where no other thread can draw, that is torch's, seeded for the call."""

    def __call__(self, seed: int, compute: Callable[[], R]) -> R:
        with seeded(seed) if _alone() else _Drawing(seed):
            return compute()


class NoDraws(Draws):
    """No numbers; a call that draws after all is repeated with those of a generator of its own, and so are those after it."""

    in_progress = 0
    """Calls of all threads: their draws cannot be told apart."""

    def __init__(self) -> None:
        self._drew = False

    def __call__(self, seed: int, compute: Callable[[], R]) -> R:
        if self._drew:
            return OwnDraws()(seed, compute)
        with _ONE_AT_A_TIME:
            NoDraws.in_progress += 1
            before, exchanges = torch.default_generator.get_state(), _exchanges
        try:
            computed = compute()
        finally:
            with _ONE_AT_A_TIME:
                NoDraws.in_progress -= 1
                certain = exchanges == _exchanges
                after = torch.default_generator.get_state()
        if certain and torch.equal(before, after):
            return computed
        with _Drawing(seed) as drawing:
            computed = compute()
        if drawing.drew:  # otherwise another thread did
            self._drew = True
            with _ONE_AT_A_TIME:
                if not NoDraws.in_progress:
                    torch.default_generator.set_state(before)
        return computed


def draws_of(compute: Callable[[], object]) -> Draws:
    """Return how calls like this one get random numbers; one that fails may draw."""
    with seeded(_MARK):
        before = torch.default_generator.get_state()
        try:
            compute()
        except Exception:  # noqa: BLE001  (anything a user's module may raise)
            return OwnDraws()
        if torch.default_generator.initial_seed() != _MARK:
            return SeededDraws()
        return NoDraws() if torch.equal(before, torch.default_generator.get_state()) else OwnDraws()


class _Drawing(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Operations of this thread draw from one generator.

    Attributes:
        drew: Whether one did.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.drew = False
        self._generator = torch.Generator().manual_seed(seed)

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        draws, takes_generator = _drawing_form(operation)
        if not draws or kwargs.get("generator") is not None or not _on_cpu(args, kwargs):
            return operation(*args, **kwargs)
        self.drew = True
        if takes_generator is not None:
            return takes_generator(*args, **{**kwargs, "generator": self._generator})
        global _exchanges
        with _ONE_AT_A_TIME:
            _exchanges += 1
            shared = torch.default_generator
            before = shared.get_state()
            shared.set_state(self._generator.get_state())
            try:
                return operation(*args, **kwargs)
            finally:
                self._generator.set_state(shared.get_state())
                shared.set_state(before)


def _alone() -> bool:
    """Whether this is the only thread but for those of TensorBoard and tqdm, which draw nothing."""
    here = threading.current_thread()
    return all(
        thread is here or type(thread).__module__.startswith(_QUIET) for thread in threading.enumerate()
    )


@cache
def _drawing_form(operation: Any) -> tuple[bool, Any]:
    """Whether an operation draws numbers, and the form of it that takes a generator, None if there is none."""
    if torch.Tag.nondeterministic_seeded not in getattr(operation, "tags", ()):
        return False, None
    names = {one.name for one in operation._schema.arguments}
    if "generator" in names:
        return True, operation
    packet = operation.overloadpacket
    for overload in packet.overloads():
        form = getattr(packet, overload)
        if {one.name for one in form._schema.arguments} == {*names, "generator"}:
            return True, form
    return True, None


def _on_cpu(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    device = kwargs.get("device") or next((x.device for x in args if isinstance(x, torch.Tensor)), None)
    return device is None or torch.device(device).type == "cpu"
