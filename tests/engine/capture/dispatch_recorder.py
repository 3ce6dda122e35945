"""A recorder without a GPU: what a CUDA graph does, at the level of ATen's operations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch._dynamo  # a second that torch takes at the first use of a dispatch mode: not within some test
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from antiphon.engine.capture.loop import CudaGraphRecorder

Call = tuple[Any, Any, Any, list[tuple[Tensor, bool]], Any]
"""Operation, arguments, keyword arguments, its results, each with whether it has memory of its own, and what the host has read."""


class HostReads(RuntimeError):
    """The host has read a number that is another one now: CUDA refuses to read it in a capture."""


class DispatchRecorder(CudaGraphRecorder):
    """Keeps each operation with its tensors alive, and repeats it on the same memory with the same numbers.

    Nothing of Python runs again, so that what is computed from a step on the host stays what it was.
    """

    def __init__(self) -> None:
        self.calls: list[Call] = []

    def record(self, work: Callable[[], None]) -> None:
        """Do `work` and keep its operations."""
        with _Keep(self.calls):
            work()

    @torch.no_grad()
    def replay(self) -> None:
        """Repeat the operations.

        Raises:
            HostReads: What the host has read in the recording, and decided by, is another number now.
        """
        for operation, arguments, settings, results, read in self.calls:
            found = operation(*arguments, **settings)
            if read is not None and repr(found) != repr(read):
                raise HostReads(f"the host has read {read} by {operation}, and it is {found} now")
            for (kept, own), again in zip(results, _tensors(found), strict=True):
                if own:
                    kept.copy_(again)


class _Keep(TorchDispatchMode):
    def __init__(self, calls: list[Call]) -> None:
        super().__init__()
        self.calls = calls

    def __torch_dispatch__(
        self, operation: Any, types: Any, arguments: Any = (), settings: Any = None
    ) -> Any:
        settings = settings or {}
        kept = tree_map(_alias, (arguments, settings))  # whatever becomes of the tensors' objects
        found = operation(*arguments, **settings)
        given = {_memory(tensor) for tensor in _tensors((arguments, settings))}
        results = [(_alias(tensor), _memory(tensor) not in given) for tensor in _tensors(found)]
        if operation._schema.is_mutable or not results or any(own for _, own in results):
            read = found if isinstance(found, bool | int | float) else None
            self.calls.append((operation, *kept, results, read))
        return found


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in tree_flatten(tree)[0] if isinstance(leaf, Tensor)]


def _memory(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


def _alias(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value
