"""Files of named columns with a row per example: `.npz` and `.safetensors`. Nothing is unpickled."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import safe_open

from antiphon.base.errors import DataError, first_line, require
from antiphon.base.nearest_names import suggest_file
from antiphon.envs.datasets.dataset_files import check_fits


def read(path: Path) -> dict[str, Any]:
    """Read the columns of a file, as tensors or arrays by name; DataError if it is missing or damaged."""
    if not path.is_file():
        files = [file for file in path.parent.glob("*") if file.suffix in _READERS]
        fix = suggest_file(path, files) or f"; give the path of a file, {' or '.join(_READERS)}"
        raise DataError(f"{path}: no such file{fix}")
    problem = f"unknown type of file; use one of {', '.join(_READERS)}"
    require(path.suffix in _READERS, path, problem)
    try:
        return _READERS[path.suffix](path)
    except DataError:
        raise
    except Exception as error:  # noqa: BLE001  (a damaged file may raise anything in what reads it)
        raise DataError(f"{path}: cannot be read ({first_line(error)})") from None


def _npz(path: Path) -> dict[str, Any]:
    with path.open("rb") as file:  # numpy leaves that of a damaged archive open
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                check_fits(path, sum(member.file_size for member in archive.infolist()), _FEWER)
        file.seek(0)
        arrays = np.load(file)
        single = "holds a single array without a name; save it with numpy.savez"
        require(isinstance(arrays, Mapping), path, single)
        columns = {}
        for name in arrays:
            try:
                columns[name] = arrays[name]
            except ValueError as error:
                objects = f"column '{name}' holds Python objects, which are not read; save numbers"
                require("allow_pickle" not in str(error), path, objects)
                raise
        return columns


def _safetensors(path: Path) -> dict[str, Any]:
    with safe_open(path, "pt") as tensors:
        # Clones: its tensors are the file's own pages, which change with the file.
        return {name: tensors.get_tensor(name).clone() for name in tensors.keys()}  # noqa: SIM118  (it is no mapping)


_FEWER = "split it into smaller files, or save it as .safetensors"
_READERS: dict[str, Callable[[Path], dict[str, Any]]] = {".npz": _npz, ".safetensors": _safetensors}
