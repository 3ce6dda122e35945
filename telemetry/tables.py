"""Append-only tables, read up to the last complete line."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain, pairwise
from pathlib import Path
from typing import IO, Any

__all__ = ["TEXT", "rewriting", "whole_lines"]

TEXT: dict[str, Any] = {"encoding": "utf-8", "errors": "surrogateescape", "newline": ""}
"""Encoding of the files."""


@contextmanager
def rewriting(path: Path) -> Iterator[IO[str]]:
    """Replace a table atomically: the old one is kept until the new one is complete.

    Raises:
        OSError: The file cannot be written.
    """
    sibling = path.with_name(f".{path.name}.tmp")
    try:
        with sibling.open("w", **TEXT) as target:
            yield target
        os.replace(sibling, path)
    finally:
        sibling.unlink(missing_ok=True)


def whole_lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (number, cells) of every line, without a torn last one.

    Raises:
        OSError: The file cannot be read.
    """
    torn = _is_torn(path)
    with path.open(**TEXT) as source:
        table = csv.reader(source)
        numbered = ((table.line_num, cells) for cells in table)
        for here, following in pairwise(chain(numbered, [None])):
            if here is None or (following is None and torn):
                return
            yield here


def _is_torn(path: Path) -> bool:
    with path.open("rb") as source:
        size = source.seek(0, os.SEEK_END)
        source.seek(max(size - 1, 0))
        return source.read() != b"\n"
