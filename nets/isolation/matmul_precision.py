"""Precision of float32 matrix products in torch: read, written as text, and applied for a time.

`torch.set_float32_matmul_precision` names three; `torch.backends.*.matmul.fp32_precision` sets each backend by itself, after which
torch may have no name for what is set. A precision is therefore what both backends have.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

import torch

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
