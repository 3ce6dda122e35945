"""The random numbers of users' code: torch's, of a seed, and none of the caller's or of another thread's.

| where a call is made | what is done | its cost |
| --- | --- | --- |
| there is no other thread, or on a GPU | torch's generators are seeded and restored | 5 µs |
| beside other threads | torch's functions get a generator of the call's own, in this thread | 15 µs per operation |
| beside other threads, of a function that should not draw | torch's generator is compared; a call that has drawn after all is repeated as above | 5 µs |

What a call does with torch.manual_seed, or a state of the generator, stays within it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from functools import cache
from typing import Any, Self, TypeVar

import torch
from torch.utils._python_dispatch import TorchDispatchMode

R = TypeVar("R")

_QUIET = ("tensorboard.", "torch.utils.tensorboard.", "tqdm.")
"""Packages whose threads draw no random numbers."""
_SHARED = torch.default_generator
"""Torch's generator, which all threads share."""

exclusive = threading.RLock()
"""Held while users' code may draw: one thread at a time seeds what all share."""


@contextmanager
def seeded(seed: int | None, device: torch.device | None = None) -> Iterator[None]:
    """Seed torch's generator within the block, and restore it after; runs in other threads wait for it.

    Args:
        seed: The seed; None: it goes on from where it is.
        device: A GPU whose generator is seeded too; None: none is.
    """
    with exclusive, nullcontext() if device is None else torch.random.fork_rng(devices=[device]):
        before = _SHARED.get_state()
        if seed is not None:
            if device is not None:
                torch.manual_seed(seed)
            # for its other devices torch.manual_seed formats, and keeps, a stack trace at every call
            _SHARED.manual_seed(seed)
        try:
            yield
        finally:
            _SHARED.set_state(before)


def torch_of_seed(
    seed: int,
    compute: Callable[[], R],
    device: torch.device | None = None,
    *,
    repeatable: bool = False,
    watched: bool = False,
) -> tuple[R, bool]:
    """Return what `compute` returns with torch's numbers of a seed, and whether it has drawn on the CPU.

    Args:
        watched: Whether it is to be known whether it has drawn.
    """
    with exclusive:
        before = _SHARED.get_state()
        if device is not None and device.type == "cuda":
            with seeded(seed, device):
                return compute(), watched and not torch.equal(_state_of(seed), _SHARED.get_state())
        if is_alone():
            _SHARED.manual_seed(seed)
            try:
                return compute(), watched and not torch.equal(_state_of(seed), _SHARED.get_state())
            finally:
                _SHARED.set_state(before)
        if repeatable:
            computed = compute()
            if torch.equal(before, _SHARED.get_state()):
                return computed, False
        with _Drawing(seed) as drawing:
            computed = compute()
        if repeatable and drawing.drew:  # otherwise another thread did
            _SHARED.set_state(before)
        return computed, drawing.drew


def _state_of(seed: int) -> torch.Tensor:
    """The state of torch's generator after it has been seeded."""
    return torch.Generator().manual_seed(seed).get_state()


class _Drawing(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Operations of this thread draw from one generator, which it seeds, reads and restores in place of the one that all share.

    Attributes:
        drew: Whether one did, or the generator was asked for.
    """

    def __init__(self, seed: int) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.drew = False
        self.generator = torch.Generator().manual_seed(seed)

    def __enter__(self) -> Self:
        self._theirs = vars(torch.random)["default_generator"]
        # torch.manual_seed and its like look it up there
        vars(torch.random)["default_generator"] = _GeneratorByThread(self, self._theirs)
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *error: object) -> None:
        vars(torch.random)["default_generator"] = self._theirs
        super().__exit__(*error)  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, operation: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        draws, takes_generator = _drawing_form(operation)
        if not draws or kwargs.get("generator") is not None or not _on_cpu(args, kwargs):
            return operation(*args, **kwargs)
        self.drew = True
        if takes_generator is not None:
            return takes_generator(*args, **{**kwargs, "generator": self.generator})
        before = _SHARED.get_state()
        _SHARED.set_state(self.generator.get_state())
        try:
            return operation(*args, **kwargs)
        finally:
            self.generator.set_state(_SHARED.get_state())
            _SHARED.set_state(before)


class _GeneratorByThread:
    """In the thread that has made it the generator that operations draw from; in others the one that all share."""

    def __init__(self, drawing: _Drawing, shared: Any) -> None:
        self._drawing, self._shared, self._thread = drawing, shared, threading.get_ident()

    def __getattr__(self, name: str) -> Any:
        if threading.get_ident() != self._thread:
            return getattr(self._shared, name)
        self._drawing.drew = True
        return getattr(self._drawing.generator, name)


def is_alone() -> bool:
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
