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
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext, suppress
from functools import wraps
from typing import Any, ParamSpec, TypeVar

import torch

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


# --- precision of float32 matrix products: read, written as text, and applied for a time ------------------------
#
# `torch.set_float32_matmul_precision` names three; `torch.backends.*.matmul.fp32_precision` sets each backend by itself, after which
# torch may have no name for what is set. A precision is therefore what both backends have.

_BACKENDS: dict[str, Any] = {"cuda": torch.backends.cuda.matmul, "mkldnn": torch.backends.mkldnn.matmul}  # type: ignore[attr-defined]
_NAMES = {"highest": ("ieee", "ieee"), "high": ("tf32", "tf32"), "medium": ("tf32", "bf16")}
"""Values of the backends, by torch's name."""
_BY_VALUES: dict[tuple[str, ...], str] = {values: name for name, values in _NAMES.items()}
_VALUES = ("none", "ieee", "tf32", "bf16")
"""Precisions of a backend; `none` is what it has where nothing is set, and computes as `ieee`."""


def _text(cuda: str, mkldnn: str) -> str:
    precisions = tuple("ieee" if value == "none" else value for value in (cuda, mkldnn))
    return _BY_VALUES.get(precisions) or f"cuda {precisions[0]}, mkldnn {precisions[1]}"


_TEXTS = {(cuda, mkldnn): _text(cuda, mkldnn) for cuda in _VALUES for mkldnn in _VALUES}
_value = torch._C._get_fp32_precision_getter
"""What `fp32_precision` of a backend reads, without two more calls: this is compared at every step."""


def matmul_precision() -> str:
    """Return the present precision: torch's name of it, or else the values of the backends: `cuda tf32, mkldnn ieee`."""
    return _TEXTS[_value("cuda", "matmul"), _value("mkldnn", "matmul")]


def set_matmul_precision(precision: str) -> None:
    """Set the precision for what follows in this process.

    Raises:
        ValueError: `precision` is not what `matmul_precision` returns.
    """
    values = _NAMES.get(precision) or [text.split(" ")[-1] for text in precision.split(", ")]
    if len(values) != len(_BACKENDS) or not {*values} <= {"ieee", "tf32", "bf16"}:
        raise ValueError(f"precision of matrix products: {precision!r}")
    _set(values, None if _name() is None else _nearest(values))


@contextmanager
def in_matmul_precision(precision: str) -> Iterator[None]:
    """Compute in a precision, and restore the caller's; for errors see `set_matmul_precision`."""
    values, name = [backend.fp32_precision for backend in _BACKENDS.values()], _name()
    try:
        set_matmul_precision(precision)
        yield
    finally:
        _set(values, name)


def _name() -> str | None:
    with suppress(RuntimeError):  # torch has no name for what is set
        return torch.get_float32_matmul_precision()
    return None


def _set(values: Sequence[str], name: str | None) -> None:
    """Set the backends, and torch's name for them where it has one, so that a module that reads it gets one."""
    if name is not None:
        torch.set_float32_matmul_precision(name)
    for backend, value in zip(_BACKENDS.values(), values, strict=True):
        backend.fp32_precision = value


def _nearest(values: Sequence[str]) -> str:
    if "bf16" in values:
        return "medium"
    return "high" if "tf32" in values else "highest"
