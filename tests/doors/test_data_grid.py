"""The door of data, all at once: a table of containers, types and layouts against what numpy reads."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from antiphon import envs
from antiphon.errors import AntiphonError
from tests.doors.test_data import NO_SPLITS, shown
from tests.kit.tiers import sampled

pandas = pytest.importorskip("pandas")

ROWS, SIDE = 8, 3
WHOLE = np.random.default_rng(5).integers(0, 7, (ROWS, SIDE, SIDE))
Array = NDArray[Any]

# --- the table ---------------------------------------------------------------------------------------------

TYPES = (
    *("?", "u1", "i1"),
    *("<i2", ">i2", "<u2", ">u2", "<i4", ">i4", "<u4", ">u4", "<i8", ">i8", "<u8", ">u8"),
    *("<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "<g"),
    *("<c8", ">c16", "O", "U3", "<M8[s]", "<m8[s]"),
)
"""Of numbers, and behind them of what is none."""
LAYOUTS: dict[str, Callable[[Array], Array]] = {
    "rows first": np.ascontiguousarray,
    "columns first": np.asfortranarray,
    "strided": lambda a: np.repeat(np.repeat(a, 2, 0), 3, 2)[::2, :, ::3],
    "reversed": lambda a: np.ascontiguousarray(a[::-1, :, ::-1])[::-1, :, ::-1],
    "transposed": lambda a: np.ascontiguousarray(a.transpose(2, 0, 1)).transpose(1, 2, 0),
    "shifted": lambda a: np.concatenate([a[:1], a])[1:],
    "read-only": lambda a: _locked(np.array(a)),
    "unaligned": lambda a: _unaligned(a),
}


def _locked(array: Array) -> Array:
    array.flags.writeable = False
    return array


def _unaligned(array: Array) -> Array:
    """The same values, one byte beside where the processor expects them."""
    if array.dtype.hasobject:
        return array
    memory = np.zeros(array.nbytes + 1, np.uint8)
    memory[1:] = np.frombuffer(array.tobytes(), np.uint8)
    return memory[1:].view(array.dtype).reshape(array.shape)


class Rows(Dataset[Any]):
    """A data set of pairs: a row, and its number."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return ROWS

    def __getitem__(self, place: int) -> Any:
        return self.rows[place], place % 2


def tensor(array: Array) -> torch.Tensor:
    """The same values in torch, with the strides, where torch has both."""
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    if any(stride < 0 for stride in native.strides) or not native.flags.writeable:
        native = native.copy()
    return torch.from_numpy(native)


def memmap(array: Array, folder: Path) -> Array:
    if array.dtype.hasobject:
        return array
    found = np.memmap(folder / "rows.bin", array.dtype, "w+", shape=array.shape)
    found[...] = array
    return found


def pictures(array: Array) -> list[Any]:
    """What PIL has of a type; other values are no pictures."""
    if array.dtype.str[1:] not in ("u1", "b1", "f4") or array.dtype.str[0] == ">":
        raise TypeError
    return [Image.fromarray(np.ascontiguousarray(row)) for row in array]


CONTAINERS: dict[str, Callable[[Array, Path], Any]] = {
    "array": lambda a, folder: a,
    "tensor": lambda a, folder: tensor(a),
    "channels last": lambda a, folder: tensor(a)[:, None].contiguous(memory_format=torch.channels_last)[:, 0],
    "list of rows": lambda a, folder: list(a),
    "tuple of tensors": lambda a, folder: tuple(tensor(a)),
    "nested list": lambda a, folder: a.tolist(),
    "list of lists of arrays": lambda a, folder: [list(row) for row in a],
    "masked": lambda a, folder: np.ma.array(a),
    "matrix": lambda a, folder: a[:, 0].view(np.matrix),
    "memmap": memmap,
    "pandas": lambda a, folder: pandas.DataFrame(a[:, 0].astype(a.dtype.newbyteorder("="))),
    "series": lambda a, folder: pandas.Series(a[:, 0, 0].astype(a.dtype.newbyteorder("="))),
    "field": lambda a, folder: np.rec.fromarrays([a, a], names="x,y")["x"],
    "pictures": lambda a, folder: pictures(a),
    "buffer": lambda a, folder: memoryview(a),
}
FLAT = ("matrix", "pandas", "series")
"""Containers of fewer axes."""
SOURCES: dict[str, Callable[[Any, Any], Any]] = {
    "tensors": lambda values, keys: envs.from_tensors(x=values, **keys, **NO_SPLITS),
    "data set": lambda values, keys: envs.from_dataset(Rows(values), ("x", "n"), **keys, **NO_SPLITS),
    "loader": lambda values, keys: envs.from_loader([(values, torch.arange(ROWS) % 2)], ("x", "n"), **_of(keys, "n")),
    "torch's loader": lambda values, keys: envs.from_loader(DataLoader(Rows(values), batch_size=4), ("x", "n"), **_of(keys, "n")),
    "sequences": lambda values, keys: envs.from_sequences(x=[values], **keys, **NO_SPLITS),
    "mapping": lambda values, keys: envs.from_dataset([{"x": row, "n": 0} for row in values], ("x", "n"), **keys, **NO_SPLITS),
}  # fmt: skip


def _of(keys: dict[str, Any], name: str) -> dict[str, Any]:
    return {"classes": {name: 2, **keys.get("classes", {})}}


# --- by hand -----------------------------------------------------------------------------------------------


def numbers(array: Array) -> torch.Tensor | None:
    """What numpy reads, bytes between 0 and 1; None: no numbers that torch has."""
    if array.dtype.kind not in "?biuf" or array.dtype == np.longdouble:
        return None
    scale = 255 if array.dtype == np.uint8 else 1
    return torch.from_numpy(np.ascontiguousarray(array).astype("<f8")) / scale


def array_of(kind: str) -> Array:
    """Values of a type: fractions where it has them."""
    if np.dtype(kind).kind == "f":
        return (WHOLE / 10).astype(kind)
    return WHOLE.astype("<m8[s]").astype(kind) if kind == "<M8[s]" else WHOLE.astype(kind)


Cell = tuple[str, str, str, str]


def cells() -> Iterator[Cell]:
    yield from product(CONTAINERS, TYPES, LAYOUTS, SOURCES)


def enters(container: str, source: str) -> bool:
    """Whether numbers of every type are taken from a container; some are not read by their rows, or not by torch's loader."""
    by_rows = source in ("data set", "mapping", "torch's loader")
    return source != "torch's loader" and not (by_rows and container in ("pandas", "buffer"))


def check(cell: Cell, folder: Path) -> None:
    """Hold what enters to what numpy reads, or see one line that refuses it."""
    container, kind, layout, source = cell
    array = LAYOUTS[layout](array_of(kind))
    try:
        values = CONTAINERS[container](array, folder)
        if source == "mapping":
            values = list(values if container != "pandas" else values.to_numpy())
    except (TypeError, ValueError, RuntimeError, NotImplementedError):
        return  # numpy, pandas, PIL or torch has no such object
    right = numbers(array[:, 0, 0] if container == "series" else array[:, 0] if container in FLAT else array)
    if container == "nested list" and right is not None:  # Python's numbers have no types
        right = torch.tensor(array.tolist(), dtype=torch.float64)
    few = container in ("series", "nested list")  # bytes with one axis, and Python's numbers, are classes
    counted = np.dtype(kind).kind in "iu" and (kind != "u1" or few)
    keys = {"classes": {"x": 7}} if counted else {}
    try:
        found = shown(SOURCES[source](values, keys), rows=ROWS).double()
        line = ""
    except AntiphonError as error:
        line = str(error)
    if line:
        assert "\n" not in line
        assert right is None or not enters(container, source), line
        return
    if kind == "O" and few:  # its rows are Python's numbers
        right = torch.tensor(array.tolist(), dtype=torch.float64)
        right = right[:, 0, 0] if container == "series" else right
    if kind == "u1" and container == "series":
        right = right * 255 if right is not None else None
    assert right is not None, "numpy has no such numbers"
    torch.testing.assert_close(found.reshape(right.shape), right, rtol=1e-15, atol=0)


CELLS = list(cells())
random.Random(0).shuffle(CELLS)
CHUNKS = 160


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("chunk", sampled(range(CHUNKS), CHUNKS, "nightly"))
def test_data_are_those_that_numpy_reads_or_one_line(chunk: int, tmp_path: Path) -> None:
    for cell in CELLS[chunk::CHUNKS]:
        try:
            check(cell, tmp_path)
        except Exception as error:
            error.add_note("; ".join(cell))
            raise
