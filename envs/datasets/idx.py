"""IDX files, the format of MNIST: arrays of unsigned bytes, plain or gzipped."""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, cast

import numpy as np
from numpy.typing import NDArray

from antiphon.base.errors import DataError, require
from antiphon.envs.datasets.dataset_files import check_fits

_UNSIGNED_BYTE = 0x08


def read(path: Path, axes: int, mend: str) -> NDArray[np.uint8]:
    """Return the array in an IDX file (gzipped if its name ends in `.gz`) with `axes` dimensions.

    Raises:
        DataError: The file cannot be read, is not an IDX file of bytes with `axes` dimensions, does not have the length
            in its header, or needs more than half of this machine's memory; `mend`, the fix, ends the line.
    """
    with _reading(path, mend) as file:
        shape = _shape(file.read(4 + 4 * axes), path, axes, mend)
        promised = math.prod(shape)
        check_fits(path, promised, mend)
        content = file.read(promised + 1)
    promise = f"its header says {'x'.join(map(str, shape))} bytes, the file has"
    require(len(content) >= promised, path, f"truncated: {promise} {len(content)}; {mend}")
    require(len(content) <= promised, path, f"too long: {promise} more; {mend}")
    return np.frombuffer(content, np.uint8).reshape(shape)


def read_shape(path: Path, axes: int, mend: str) -> tuple[int, ...]:
    """Return the shape of the array in an IDX file from its header alone; see `read`."""
    with _reading(path, mend) as file:
        return _shape(file.read(4 + 4 * axes), path, axes, mend)


@contextmanager
def _reading(path: Path, mend: str) -> Iterator[IO[bytes]]:
    """Open a file, unpacked where its name ends in `.gz`; errors of the system and of gzip become one line."""
    opener = gzip.open if path.suffix == ".gz" else open
    try:
        with cast(IO[bytes], opener(path, "rb")) as file:
            yield file
    except (gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise DataError(f"{path}: corrupt gzip file ({error}); {mend}") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror or error}); {mend}") from error


def _shape(content: bytes, path: Path, axes: int, mend: str) -> tuple[int, ...]:
    magic, start = bytes((0, 0, _UNSIGNED_BYTE, axes)), content[:4].hex() or "nothing"
    problem = f"not an IDX file of {axes}-d bytes: starts with {start}, not {magic.hex()}; {mend}"
    require(content[:4] == magic, path, problem)
    require(len(content) == 4 + 4 * axes, path, f"truncated in its header; {mend}")
    return struct.unpack_from(f">{axes}I", content, 4)
