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

_QUIET = ("tensorboard.", "torch.utils.tensorboard.", "tqdm.")
"""Packages whose threads draw no random numbers."""
_MARK = 0x5EED
"""A seed by which a call of `torch.manual_seed` is noticed."""


class _SharedGenerator:
    """Who may use torch's generator, which all threads share: calls that should not draw, together, or one thread that seeds it.

    A call that draws after all while another thread has seeded the generator would take numbers of that seed and shift the others.
    """

    def __init__(self) -> None:
        self._seeding = threading.RLock()
        self._ended = threading.Condition(threading.Lock())
        self._calling = set[int]()
        """Threads by their identity: an interrupt may come before one is added, or after it is taken away."""

    def is_called(self) -> bool:
        """Whether this thread is within a call."""
        return threading.get_ident() in self._calling

    def begin(self) -> None:
        """Begin a call of this thread, once no other one seeds the generator."""
        with self._seeding:
            self._calling.add(threading.get_ident())

    def end(self) -> None:
        """End the call of this thread."""
        with self._ended:
            self._calling.discard(threading.get_ident())
            if not self._calling:
                self._ended.notify_all()

    @contextmanager
    def alone(self) -> Iterator[None]:
        """Let this thread alone use the generator, once the calls of the others have ended; a call of its own is set aside."""
        called = self.is_called()
        if called:  # it draws nothing meanwhile: two threads within calls would wait for each other
            self.end()
        try:
            with self._seeding:
                if self._calling:  # none begins meanwhile
                    with self._ended:
                        self._ended.wait_for(lambda: not self._calling)
                yield
        finally:
            if called:
                self.begin()


_SHARED = _SharedGenerator()
alone = _SHARED.alone


@contextmanager
def seeded(seed: int | None, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's generator within the block, and restore it after; runs in other threads wait for it, as it does for their calls.

    Args:
        seed: The seed; None: it goes on from where it is.
        device: A GPU whose generator is seeded too; None: none is.
    """
    with _SHARED.alone(), torch.random.fork_rng(devices=[] if device is None else [device]):
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

    @staticmethod
    def watched(seed: int, compute: Callable[[], R]) -> tuple[R, bool]:
        """Return what `compute` returns, and whether it has drawn."""
        if not _alone():
            with _Drawing(seed) as drawing:
                return compute(), drawing.drew
        with seeded(seed):
            before = torch.default_generator.get_state()
            return compute(), not torch.equal(before, torch.default_generator.get_state())


class NoDraws(Draws):
    """No numbers; a call that draws after all is repeated with those of a generator of its own, and so are those after it.

    Attributes:
        drew: Whether one did.
    """

    def __init__(self) -> None:
        self.drew = False

    def __call__(self, seed: int, compute: Callable[[], R]) -> R:
        if self.drew:
            return OwnDraws()(seed, compute)
        within = _SHARED.is_called()
        try:
            if not within:
                _SHARED.begin()
            before = torch.default_generator.get_state()
            computed = compute()
            drew = not torch.equal(before, torch.default_generator.get_state())
        finally:
            if not within:
                _SHARED.end()
        if not drew:
            return computed
        with _Drawing(seed) as drawing:
            computed = compute()
        if drawing.drew:  # otherwise another thread did
            self.drew = True
            with _SHARED.alone():
                torch.default_generator.set_state(before)
        return computed


def torch_draws_of(compute: Callable[[], object]) -> Draws:
    """Return how calls like this one get torch's random numbers; one that fails may draw."""
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
        with _SHARED.alone():
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
    current = threading.current_thread()
    return all(
        thread is current or type(thread).__module__.startswith(_QUIET) for thread in threading.enumerate()
    )


@cache
def _drawing_form(operation: Any) -> tuple[bool, Any]:
    """Whether an operation draws numbers, and the form of it that takes a generator, None if there is none."""
    if torch.Tag.nondeterministic_seeded not in getattr(operation, "tags", ()):
        return False, None
    names = {argument.name for argument in operation._schema.arguments}
    if "generator" in names:
        return True, operation
    packet = operation.overloadpacket
    for overload in packet.overloads():
        form = getattr(packet, overload)
        if {argument.name for argument in form._schema.arguments} == {*names, "generator"}:
            return True, form
    return True, None


def _on_cpu(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    device = kwargs.get("device") or next((x.device for x in args if isinstance(x, torch.Tensor)), None)
    return device is None or torch.device(device).type == "cpu"
