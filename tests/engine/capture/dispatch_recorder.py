"""A recorder without a GPU: what a CUDA graph does, at the level of ATen's operations."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

from antiphon.engine.capture.recorder import NotRecordable

WAITS = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "is_nonzero", "unique_dim", "_unique2")
"""Operations whose result the host waits for."""


def storage(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()


class DispatchRecorder:
    """Keeps each operation with its tensors alive, and repeats them on the same memory with the same arguments.

    A tensor is on the device where it was computed from `varying` ones: what a graph would have to read back. Numbers
    that are read of other tensors are of the host.

    Args:
        varying: The memory that differs between replays.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[Any, Any, Any, list[Tensor], list[Any]]] = []
        self.kept: list[Any] = []

    def record(self, work: Callable[[], None]) -> None:
        with _Recording(self):
            work()

    @torch.no_grad()
    def replay(self) -> None:
        for function, args, kwargs, outputs, fresh in self.calls:
            found = function(*args, **kwargs)
            each = [one for one in tree_flatten(found)[0] if isinstance(one, Tensor)]
            for mine, new, is_fresh in zip(outputs, each, fresh, strict=True):
                if is_fresh:
                    mine.copy_(new)


class _Recording(TorchDispatchMode):
    def __init__(self, recorder: DispatchRecorder) -> None:
        super().__init__()
        self.recorder = recorder

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = function._schema.name.split("::")[1]
        if name in WAITS:
            raise NotRecordable(f"the host waits for the device ({name}) at {_caller()}")
        kept_args, kept_kwargs = tree_map(_alias, (args, kwargs))
        out = function(*args, **kwargs)
        inputs = {storage(t) for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)}
        outputs = [t for t in tree_flatten(out)[0] if isinstance(t, Tensor)]
        fresh = [storage(t) not in inputs for t in outputs]
        if function._schema.is_mutable or any(fresh) or not outputs:
            self.recorder.calls.append(
                (function, kept_args, kept_kwargs, [_alias(t) for t in outputs], fresh)
            )
        return out


def _caller() -> str:
    """The line of the package that called torch."""
    frames = [frame for frame in traceback.extract_stack() if "/antiphon/" in frame.filename]
    return f"{Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else "?"


def _alias(value: Any) -> Any:
    return value.detach() if isinstance(value, Tensor) else value
