"""Texts as class indices: files, reading and the alphabet. Needs no torch."""

from __future__ import annotations

import functools
import gzip
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from antiphon.base.errors import DataError, require
from antiphon.base.nearest_names import suggest
from antiphon.envs.datasets.dataset_files import SPLITS, Identity, check_fits, find_folder, identity

EMBEDDED = "embedded"
"""Name of the text that ships with antiphon."""
_EMBEDDED_FILE = Path(__file__).parents[1] / "data" / "moby-dick-beginning.txt.gz"
_MEMORY = 32
"""Most bytes of memory per byte of text: the text, its code points, its classes, and intermediate results."""
_SHARES = (90, 95)
"""Start of validation and test, in per cent of the text."""


@dataclass(frozen=True, kw_only=True)
class Text:
    """A text in three splits; each character is a class."""

    vocabulary: str
    """The distinct characters of the train split, sorted: class k is its character k."""
    splits: dict[str, NDArray[np.int64]]
    """The classes of train, validation and test, in the order of the text."""
    digest: str
    """Digest of the file, compared when a run is resumed."""

    @property
    def classes(self) -> int:
        """Number of classes; the last one is for characters that are not in the train split."""
        return len(self.vocabulary) + 1

    def characters(self, codes: NDArray[np.int64]) -> str:
        """Return the characters of some classes; unknown characters are U+FFFD."""
        return "".join((self.vocabulary + "\ufffd")[code] for code in codes)


def load(name: str) -> Text:
    """Return a text; the file is read again only if it has changed.

    Args:
        name: `embedded`, the name without `.txt` of a file in `$ANTIPHON_DATA/text`, or the absolute path of a file.

    Raises:
        DataError: There is no such file, it is not UTF-8, or it is too short to split.
    """
    path = _EMBEDDED_FILE if name == EMBEDDED else _find(name)
    return _read(*identity([path]))


def _find(name: str) -> Path:
    """Return the file of a text that does not ship with antiphon."""
    path = Path(name)
    if path.is_absolute():
        require(path.is_file(), "env.text", f"no file {name}; use the path of a text")
        return path
    data, folder = os.environ.get("ANTIPHON_DATA"), find_folder("text")
    reason = f"ANTIPHON_DATA is '{data}', which has no folder text" if data else "ANTIPHON_DATA is not set"
    fix = f"set it to a folder with text/{name}.txt, or use an absolute path or {EMBEDDED}"
    require(folder is not None, "env.text", f"no text '{name}': {reason}; {fix}")
    stems = {path.stem: path for path in sorted(folder.glob("*.txt"))} if folder else {}
    near = suggest(name, [EMBEDDED, *stems])
    require(name in stems, "env.text", f"no text '{name}' in {folder} (of ANTIPHON_DATA){near}")
    return stems[name]


@functools.lru_cache(maxsize=4)
def _read(file: Identity) -> Text:
    path = Path(file[0])
    check_fits(path, _MEMORY * file[1], "use a shorter text")
    try:
        raw = gzip.decompress(path.read_bytes()) if path == _EMBEDDED_FILE else path.read_bytes()
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{path}: byte {error.start} is not UTF-8 ({error.reason}); save the text as UTF-8"
        ) from None
    except (OSError, EOFError) as error:
        raise DataError(f"{path}: cannot be read ({error})") from error
    points = np.frombuffer(text.encode("utf-32-le"), "<u4").astype(np.int64)
    bounds = [len(text) * share // 100 for share in _SHARES]
    parts = dict(zip(SPLITS, np.split(points, bounds), strict=True))
    for name, split_points in parts.items():
        short = f"{len(text)} characters leave {len(split_points)} for the {name} split, which needs 2"
        require(len(split_points) >= 2, path, f"{short}; use a longer text")
    vocabulary = np.unique(parts["train"])
    codes = {name: _classes(vocabulary, split_points) for name, split_points in parts.items()}
    digest = hashlib.sha256(raw).hexdigest()
    return Text(vocabulary="".join(map(chr, vocabulary)), splits=codes, digest=digest)


def _classes(vocabulary: NDArray[np.int64], points: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the index of each code point among the known ones, or their number where it is unknown."""
    index = np.searchsorted(vocabulary, points)
    is_known = vocabulary[np.minimum(index, len(vocabulary) - 1)] == points
    return np.where(is_known, index, len(vocabulary))
