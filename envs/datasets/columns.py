"""Files of named columns, a row per example: `.npz`, `.safetensors` and `.parquet`. Nothing in them is unpickled."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from antiphon.envs.datasets.unpacking import check_fits
from antiphon.errors import DataError, ScenarioError, suggest

__all__ = ["Chosen", "chosen", "read"]

Chosen = dict[str, str | tuple[str, ...]]
"""By signal, the column it is, or those whose numbers it has side by side."""
Choose = Callable[[Sequence[str]], Sequence[str]]
"""From the names in a file, those that are read."""


def chosen(columns: Any) -> Chosen | None:
    """Return the columns of each signal, from a mapping, or from the names of columns; None: all of a file.

    Raises:
        ScenarioError: It is neither.
    """
    if columns is None:
        return None
    pairs: list[tuple[Any, Any]] = []
    if isinstance(columns, Mapping):
        pairs = list(columns.items())
    elif isinstance(columns, Sequence) and not isinstance(columns, str):
        pairs = [(name, name) for name in columns]
    lists = [(signal, (names,) if isinstance(names, str) else names) for signal, names in pairs]
    if not lists or not all(isinstance(signal, str) and _are_names(names) for signal, names in lists):
        raise ScenarioError(
            f"env.columns: {columns!r}; must be a list of columns, or a mapping from signals to columns or lists of them"
        )
    return {signal: names if isinstance(names, str) else tuple(names) for signal, names in pairs}


def _are_names(value: Any) -> bool:
    return isinstance(value, Sequence) and bool(value) and all(isinstance(name, str) for name in value)


def read(path: Path, columns: Chosen | None) -> dict[str, Any]:
    """Read the columns of a file, as tensors or arrays by signal; several side by side are `[rows, columns]` floats.

    Raises:
        DataError: The file is missing, damaged or of another kind; a column is not in it, or not of numbers.
    """
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    if path.suffix not in _READERS:
        raise DataError(f"{path}: files of this kind are not read; give one of {', '.join(_READERS)}")
    wanted: list[str] | None = None
    if columns is not None:
        several = [(names,) if isinstance(names, str) else names for names in columns.values()]
        wanted = list(dict.fromkeys(name for names in several for name in names))

    def choose(known: Sequence[str]) -> Sequence[str]:
        for name in wanted or ():
            if name not in known:
                raise DataError(f"{path}: no column '{name}'{suggest(name, known)}")
        return known if wanted is None else wanted

    try:
        found = _READERS[path.suffix](path, choose)
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001  (a damaged file may raise anything in what reads it)
        reason = (str(error) or type(error).__name__).splitlines()[0]
        raise DataError(f"{path}: cannot be read ({reason})") from None
    for name, values in found.items():
        if isinstance(values, np.ndarray) and values.dtype.kind not in "biufc":
            raise DataError(
                f"{path}: column '{name}' is of type {values.dtype}, not of numbers; number its classes from 0, or "
                "leave it out of `columns`"
            )
    if columns is None:
        return found
    return {
        signal: found[names] if isinstance(names, str) else _beside(path, signal, [found[n] for n in names])
        for signal, names in columns.items()
    }


def _beside(path: Path, signal: str, parts: Sequence[Any]) -> Any:
    arrays = [_floats(part) for part in parts]
    shapes = [array.shape for array in arrays]
    if len(set(shapes)) > 1 or len(shapes[0]) != 1:
        raise DataError(
            f"{path}: {signal}: columns of shape {', '.join(map(str, shapes))}; only columns of one axis "
            "and length can be laid side by side"
        )
    return np.stack(arrays, 1)


def _floats(values: Any) -> Any:
    """Return an array or a tensor of any kind of numbers, also of those that numpy does not have, as float64."""
    with np.errstate(invalid="ignore"):  # a signalling nan becomes a quiet one
        return np.asarray(values if isinstance(values, np.ndarray) else values.double(), dtype=np.float64)


def _npz(path: Path, choose: Choose) -> dict[str, Any]:
    with path.open("rb") as file:  # numpy leaves that of a damaged archive open
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                check_fits(path, sum(member.file_size for member in archive.infolist()), _FEWER)
        file.seek(0)
        found = np.load(file)
        if not isinstance(found, Mapping):
            raise DataError(f"{path}: holds a single array without a name; save it with numpy.savez")
        return {name: _array(path, found, name) for name in choose(list(found))}


def _array(path: Path, found: Mapping[str, Any], name: str) -> Any:
    try:
        return found[name]
    except ValueError as error:
        if "allow_pickle" not in str(error):
            raise
        raise DataError(
            f"{path}: column '{name}' holds Python objects, which are not read; save numbers"
        ) from None


def _safetensors(path: Path, choose: Choose) -> dict[str, Any]:
    with safe_open(path, "pt") as found:
        return {name: found.get_tensor(name) for name in choose(list(found.keys()))}


def _parquet(path: Path, choose: Choose) -> dict[str, Any]:
    try:
        from pyarrow import parquet  # type: ignore[import-untyped]
    except ImportError:
        raise DataError(f"{path}: parquet files need pyarrow: pip install 'antiphon[parquet]'") from None
    names = list(choose(parquet.read_schema(path).names))
    facts = parquet.read_metadata(path)
    groups = (facts.row_group(place).total_byte_size for place in range(facts.num_row_groups))
    check_fits(path, max(sum(groups), _NUMBER * facts.num_rows * len(names)), _FEWER)
    table = parquet.read_table(path, columns=names)
    return {name: table.column(name).to_numpy() for name in names}


_FEWER = "split it into smaller files, or save it as .safetensors"
_NUMBER = 8
"""Bytes of a number in a table, at most."""
_READERS: dict[str, Callable[[Path, Choose], dict[str, Any]]] = {
    ".npz": _npz,
    ".safetensors": _safetensors,
    ".parquet": _parquet,
}
