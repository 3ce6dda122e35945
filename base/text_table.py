"""Tables as text, which the terminal, a notebook and a report show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TextTable:
    """A table as text: the first `names` columns hold words that tell rows apart, the others numbers."""

    headings: Sequence[str]
    cells: Sequence[Sequence[str]]
    names: int
