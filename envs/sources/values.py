"""Door of the user's data: whatever holds values enters here as a tensor, for `from_tensors`, `from_dataset`, `from_file`,
`from_loader` and `from_sequences` alike.

| kept | as |
|---|---|
| tensors, numpy arrays, lists, pandas tables and whatever numpy can read | their values, copied: later changes in the caller's memory change no run |
| big-endian, reversed, strided or read-only arrays | the same values |
| `numpy.ma` arrays, `pandas.NA`, `torch.masked` tensors | values, and a mask of what is missing: only a target may lack values |
| pictures of PIL | what numpy reads of them; palettes (`P`, `PA`) are converted to colours, 16-bit values (`I;16`) are scaled to [0, 1] |

| refused | fix |
|---|---|
| sparse, nested, packed, quantised and `meta` tensors, tensors that require a gradient | `to_dense()`, a list of sequences, `dequantize()`, `detach()` |
| float8 and other types without arithmetic, `numpy.longdouble` | `float()`, `astype('float64')` |
| texts, dates, Python objects, arrays with fields | numbers, classes from 0, a signal per field |
| pictures of mode `I`, and arrays of 16-bit pictures, as classes | floats of a known range, or `classes` |
| pictures of several modes in one signal | one mode |
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence

from antiphon.base.errors import DataError, require, with_article
from antiphon.envs.datasets.dataset_files import check_fits

WIDE = (torch.uint16, torch.uint32, torch.uint64)
"""Unsigned types that torch stores but hardly computes with."""
_WHOLE = (torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64, *WIDE)
_FLOATS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_TYPES = frozenset((*_WHOLE, *_FLOATS, torch.complex32, torch.complex64, torch.complex128))
"""Types whose values can be read; complex ones are refused where signals are made."""
_LARGE = 1 << 28
"""Bytes from which a copy is compared with the machine's memory."""
_NOT_NUMBERS = {"U": "texts", "S": "bytes", "T": "texts"}
"""What an array holds whose type numpy has a code for."""
_SCALARS = (bool, int, float, complex, str, bytes)


@dataclass(frozen=True, slots=True)
class TensorValue:
    """Values as a tensor, with what else their container holds."""

    numbers: Tensor
    missing: Tensor | None = None
    """True where a value is missing, bool of the shape of the numbers; None: nowhere."""
    mode: str = ""
    """PIL's mode of pictures; empty: no pictures."""
    blank: bool = False
    """True: a single missing value without a type, such as `pandas.NA`."""
    shared: bool = False
    """True: the memory may be the caller's."""

    def unbind(self) -> list[TensorValue]:
        """Return the values along the first axis."""
        gaps: Sequence[Tensor | None] = (
            [None] * len(self.numbers) if self.missing is None else self.missing.unbind()
        )
        parts = zip(self.numbers.unbind(), gaps, strict=True)
        return [replace(self, numbers=numbers, missing=missing) for numbers, missing in parts]


def read_column(name: str, raw: Any, where: str, *, indices: bool = False) -> TensorValue:
    """Return a column as `read_value`, in memory of its own; DataError also if a copy takes more than half of the memory."""
    value = read_value(name, raw, where, indices=indices)
    if not value.shared:
        return value
    size = value.numbers.nbytes
    if size >= _LARGE:
        check_fits(f"{where}: {name}", size, "pass a DataLoader to from_loader, which reads batch by batch")
    return replace(value, numbers=value.numbers.clone(memory_format=torch.contiguous_format), shared=False)


def read_value(name: str, raw: Any, where: str, *, indices: bool = False) -> TensorValue:
    """Return what a tensor, array, table, list, picture or number holds.

    Args:
        indices: Whether pictures with a palette are its indices (classes) instead of its colours.

    Raises:
        DataError: It does not hold numbers, or in a form that torch cannot compute with.
    """
    if isinstance(raw, Tensor):
        return _of_tensor(name, raw, where)
    refuse_packed(name, raw, where)
    if _is_of("PIL.Image", ["Image"], raw):
        return _of_picture(name, raw, where, indices)
    if _is_of("pandas", ["Series", "Index", "DataFrame", "api.extensions.ExtensionArray"], raw):
        array, missing = _of_pandas(name, raw, where)
        return _of_array(name, array, where, missing)
    if raw is np.ma.masked or raw is getattr(sys.modules.get("pandas"), "NA", np.ma.masked):
        return TensorValue(torch.zeros(()), torch.ones((), dtype=torch.bool), blank=True)
    if isinstance(raw, np.ma.MaskedArray):
        return _of_array(name, raw.data, where, np.ma.getmaskarray(raw))
    if isinstance(raw, list | tuple) and not _is_plain(raw):
        parts = [read_value(name, item, where, indices=indices) for item in raw]
        return stack_values(name, parts, where)
    try:
        array = np.asarray(raw)
    except (TypeError, ValueError, RuntimeError) as error:
        raise _not_numbers(name, raw, where) from error
    require(
        array.dtype != object or array.ndim > 0, where, str(_not_numbers(name, raw, "")).removeprefix(": ")
    )
    return _of_array(name, array, where, shared=not isinstance(raw, list | tuple))


def refuse_packed(name: str, raw: Any, where: str) -> None:
    """Raise DataError for sequences that torch has packed for a recurrent network: their steps are laid across one another."""
    fix = f"pass {name}=torch.nn.utils.rnn.unpack_sequence({name}) to from_sequences"
    require(not isinstance(raw, PackedSequence), where, f"{name}: a PackedSequence; {fix}")


def stack_values(name: str, values: Sequence[TensorValue], where: str) -> TensorValue:
    """Return values of one form as one with a new first axis; DataError if their shapes, types or modes differ."""
    typed = [value.numbers for value in values if not value.blank] or [values[0].numbers]
    mode = _mode(name, values, where)
    shapes = sorted({tuple(numbers.shape) for numbers in typed})
    unequal = f"{name}: items have different shapes {' and '.join(map(str, shapes[:2]))}; make them equal"
    require(len(shapes) == 1, where, unequal)
    kinds = sorted({str(numbers.dtype) for numbers in typed})
    differ = f"{name}: items have different types {' and '.join(kinds[:2])}; make them equal"
    alike = len(kinds) == 1 or not shapes[0] or not {"torch.uint8", "torch.bool"} & {*kinds}
    require(alike, where, differ)  # numbers from 0 to 255 beside numbers from 0 to 1 would have two scales
    if len(kinds) > 1:
        typed = [numbers.long() if numbers.dtype in WIDE else numbers for numbers in typed]
    present, blank = iter(typed), torch.zeros_like(typed[0])
    numbers = torch.stack([blank if value.blank else next(present) for value in values])
    gaps = None
    if any(value.missing is not None for value in values):
        none = torch.zeros(shapes[0], dtype=torch.bool)
        gaps = torch.stack([none if v.missing is None else v.missing.expand(shapes[0]) for v in values])
    return TensorValue(numbers, gaps, mode)


def join_values(name: str, values: Sequence[TensorValue], where: str) -> TensorValue:
    """Return values of one type and row shape as one, along their first axis; DataError if their modes differ."""
    if len(values) == 1 and not values[0].shared:
        return values[0]
    numbers, gaps = torch.cat([value.numbers for value in values]), None
    if any(value.missing is not None for value in values):
        masks = [
            torch.zeros(v.numbers.shape, dtype=torch.bool) if v.missing is None else v.missing for v in values
        ]
        gaps = torch.cat(masks)
    return TensorValue(numbers, gaps, _mode(name, values, where))


def _mode(name: str, values: Sequence[TensorValue], where: str) -> str:
    """Return the mode of pictures; DataError if they are of several."""
    modes = sorted({value.mode for value in values if value.mode})
    several = f"{name}: some pictures are {''.join(modes[:1])} and some {''.join(modes[-1:])}; convert them to one mode"
    require(len(modes) < 2, where, several)
    return "".join(modes)


def _is_of(module: str, names: Collection[str], raw: Any) -> bool:
    """Whether a value is of a class of a package, which is not imported for it."""
    package = sys.modules.get(module)
    if package is None:
        return False
    classes = []
    for name in names:
        cls: Any = package
        for attribute in name.split("."):
            cls = getattr(cls, attribute)
        classes.append(cls)
    return isinstance(raw, tuple(classes))


def _is_plain(raw: Sequence[Any]) -> bool:
    """Whether a list holds only numbers and texts, and lists of them, which numpy reads as they are."""
    return all(
        _is_plain(item) if isinstance(item, list | tuple) else isinstance(item, (*_SCALARS, np.generic))
        for item in raw
    )


def _not_numbers(name: str, raw: Any, where: str) -> DataError:
    """Return the error of an object that numpy cannot read as numbers."""
    dense = next((f"{way}()" for way in ("toarray", "todense", "to_numpy") if hasattr(raw, way)), "")
    fix = f"pass {name}.{dense}" if dense else "pass numbers"
    return DataError(f"{where}: {name}: {type(raw).__name__} cannot become a tensor; {fix}")


def _of_tensor(name: str, raw: Tensor, where: str) -> TensorValue:
    """Return a tensor as a plain one; DataError for layouts and types without the arithmetic of plain tensors."""
    if isinstance(raw, torch.masked.MaskedTensor):
        data = _of_tensor(name, raw.get_data(), where)  # type: ignore[no-untyped-call]
        missing = ~raw.get_mask()  # type: ignore[no-untyped-call]
        return TensorValue(data.numbers.masked_fill(missing, 0), missing)
    if (obstacle := _obstacle(name, raw)) is not None:
        raise DataError(f"{where}: {name}: {obstacle}")
    plain = raw if type(raw) is Tensor else raw.as_subclass(Tensor)
    return TensorValue(plain.resolve_neg(), shared=True)


def _obstacle(name: str, raw: Tensor) -> str | None:
    """Return why a tensor cannot be read as plain numbers, and what to pass instead; None if it can."""
    if raw.is_nested:
        return f"a nested tensor; pass {name}=list({name}.unbind()) to from_sequences"
    if raw.layout != torch.strided:
        return f"a sparse tensor ({str(raw.layout).removeprefix('torch.')}); pass {name}.to_dense()"
    if raw.is_quantized:
        return f"a quantised tensor; pass {name}.dequantize()"
    if raw.is_meta:
        return "a tensor on the device meta has no values; pass one that has"
    if raw.requires_grad:
        return f"a tensor that requires a gradient; pass {name}.detach()"
    if raw.dtype not in _TYPES:
        return f"has type {raw.dtype}, with which torch does not compute; pass {name}.float()"
    if type(raw).__torch_dispatch__ is not Tensor.__torch_dispatch__:
        return f"{with_article(type(raw).__name__)}, whose values torch reads by its own rules; pass a plain tensor"
    return None


def _of_array(
    name: str, array: NDArray[Any], where: str, missing: NDArray[Any] | None = None, *, shared: bool = True
) -> TensorValue:
    """Return an array in the machine's byte order, zero where it is missing."""
    kind, written = array.dtype.kind, array.dtype
    fixes = {
        "U": "number its classes from 0",
        "S": "number its classes from 0",
        "T": "number its classes from 0",
        "M": f"pass a duration in numbers, such as ({name} - {name}.min()) / numpy.timedelta64(1, 's')",
        "m": f"pass numbers, such as {name} / numpy.timedelta64(1, 's')",
        "O": f"pass numbers of one type, such as {name}.astype('float32')",
        "V": f"pass each of its fields as a signal, or {name}.astype('float32')",
    }
    holds = f"holds {_NOT_NUMBERS[kind]}" if kind in _NOT_NUMBERS else f"has type {written}"
    require(kind in "biufc", where, f"{name}: {holds}, not numbers; {fixes.get(kind, 'pass numbers')}")
    if missing is not None and missing.any():
        array, shared = np.where(missing, array.dtype.type(0), array), False
    else:
        missing = None
    if not array.dtype.isnative:
        array, shared = array.astype(array.dtype.newbyteorder("=")), False
    if not (array.flags.writeable and array.flags.c_contiguous):  # torch accepts no other
        array, shared = array.copy(), False
    try:
        numbers = torch.from_numpy(array)
    except TypeError as error:
        lacking = f"{name}: has type {written}, which torch lacks; pass {name}.astype('float64')"
        raise DataError(f"{where}: {lacking}") from error
    return TensorValue(
        numbers, None if missing is None else torch.from_numpy(np.array(missing)), shared=shared
    )


def _of_picture(name: str, raw: Any, where: str, indices: bool) -> TensorValue:
    """Return a picture as numpy reads it, `[height, width]` or `[height, width, bands]`, without a palette."""
    if raw.mode in ("P", "PA") and not indices:
        raw = raw.convert("RGBA" if raw.has_transparency_data else "RGB")
    return replace(_of_array(name, np.array(raw), where, shared=False), mode=raw.mode)


def _of_pandas(name: str, raw: Any, where: str) -> tuple[NDArray[Any], NDArray[Any] | None]:
    """Return the numbers of a column or table of pandas, and where it has `pandas.NA`."""
    if getattr(raw, "ndim", 1) == 2 and hasattr(raw, "columns"):
        columns = [_of_pandas(f"{name}.{label}", column, where) for label, column in raw.items()]
        require(bool(columns), where, f"{name}: a table without columns; pass one with numbers")
        for label, (array, _) in zip(raw.columns, columns, strict=True):
            _of_array(f"{name}.{label}", array[:0], where)
        missing = [np.zeros(len(array), bool) if gap is None else gap for array, gap in columns]
        return np.stack([array for array, _ in columns], 1), np.stack(missing, 1)
    numpy_type = getattr(raw.dtype, "numpy_dtype", None)
    if isinstance(raw.dtype, np.dtype) or numpy_type is None or numpy_type.kind not in "biufc":
        if str(raw.dtype) == "category" and np.asarray(raw).dtype == object:
            raise DataError(f"{where}: {name}: categories are no numbers; pass {name}.cat.codes")
        return np.asarray(raw), None
    return raw.to_numpy(dtype=numpy_type, na_value=numpy_type.type(0)), np.asarray(raw.isna())
