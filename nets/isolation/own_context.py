"""The context that numbers of antiphon are computed in: torch as a program finds it when it starts.

| set by the caller around a call | in the call |
| --- | --- |
| `no_grad`, `inference_mode`, `set_grad_enabled` | gradients are recorded where antiphon needs them |
| `autocast` | off; `training.precision: bf16` is a run's own |
| default dtype and device, `torch.device` as a context | float32, the CPU; a run's own are `dtype` and `device` |
| anomaly mode, flushed denormals | off |
| `torch.set_num_threads` | a run's own number, `threads` |
| precision of matrix products (TF32) | a run's own, which is the caller's when the run begins |
| convolutions of a GPU (cuDNN) whose sums come in any order | off: runs of one seed have the same bits |
| deterministic algorithms, oneDNN and other libraries | kept: what computes, as a machine does |
| hooks of saved tensors, function and dispatch modes, profilers | kept: what sees a computation |

Afterwards all is as the caller has it.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

from antiphon.nets.isolation.matmul_precision import in_matmul_precision, matmul_precision

P = ParamSpec("P")
R = TypeVar("R")

_NOTHING = nullcontext()
_AUTOCAST = ("cpu", "cuda", "mps", "xpu")
"""The types of device on which torch can have autocast on."""
CUDNN: bool = torch.backends.cudnn.is_available()  # type: ignore[no-untyped-call]
_SMALL = sys.float_info.min
"""Half of it is a denormal number, which the processor flushes to zero after `torch.set_flush_denormal(True)`."""


def own_context(threads: int | None = None, precision: str | None = None) -> AbstractContextManager[object]:
    """Return a context in which torch computes as if the caller had switched nothing; it costs nothing where that is so.

    Args:
        threads: Torch's threads in it; None: the caller's.
        precision: Of matrix products (`matmul_precision`); None: the caller's.

    Raises:
        ValueError: There is no such precision.
    """
    if (
        (threads is None or threads == torch.get_num_threads())
        and (precision is None or precision == matmul_precision())
        and torch.is_grad_enabled()
        and not torch.is_inference_mode_enabled()
        and not torch._C._is_any_autocast_enabled()
        and torch.get_default_dtype() is torch.float32
        and not torch._C._len_torch_function_stack()
        and not torch.is_anomaly_enabled()
        and (not CUDNN or torch.backends.cudnn.deterministic)
        and _SMALL * 0.5
    ):
        return _NOTHING
    return _switched(threads, precision)


@contextmanager
def _switched(threads: int | None, precision: str | None) -> Iterator[None]:
    with ExitStack() as restoring:
        if precision is not None and precision != matmul_precision():
            restoring.enter_context(in_matmul_precision(precision))
        if threads is not None and (before := torch.get_num_threads()) != threads:
            restoring.callback(torch.set_num_threads, before)
            torch.set_num_threads(threads)
        if torch.is_inference_mode_enabled():
            restoring.enter_context(torch.inference_mode(mode=False))
        if not torch.is_grad_enabled():
            restoring.enter_context(torch.enable_grad())
        for kind in _AUTOCAST:
            if torch.is_autocast_enabled(kind):
                restoring.enter_context(torch.autocast(kind, enabled=False))
        if (dtype := torch.get_default_dtype()) is not torch.float32:
            restoring.callback(torch.set_default_dtype, dtype)
            torch.set_default_dtype(torch.float32)
        if torch._C._len_torch_function_stack() and torch.get_default_device().type != "cpu":
            restoring.enter_context(torch.device("cpu"))
        if torch.is_anomaly_enabled():
            restoring.enter_context(torch.autograd.set_detect_anomaly(mode=False))
        if CUDNN and not torch.backends.cudnn.deterministic:
            restoring.callback(setattr, torch.backends.cudnn, "deterministic", False)
            torch.backends.cudnn.deterministic = True
        if not _SMALL * 0.5:
            restoring.callback(torch.set_flush_denormal, True)
            torch.set_flush_denormal(False)
        yield


def in_own_context(function: Callable[P, R]) -> Callable[P, R]:
    """Compute a function in its `own_context`; a method with `threads` and `matmul_precision` of its object, if it has them."""

    @wraps(function)
    def computed(*args: P.args, **kwargs: P.kwargs) -> R:
        owner = args[0] if args else None
        threads, precision = getattr(owner, "threads", None), getattr(owner, "matmul_precision", None)
        with own_context(
            threads if isinstance(threads, int) else None, precision if isinstance(precision, str) else None
        ):
            return function(*args, **kwargs)

    return computed
