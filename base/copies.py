"""Copies of objects with other attributes."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

Copied = TypeVar("Copied")


def copy_with(original: Copied, **attributes: Any) -> Copied:
    """Return a shallow copy with other values of some attributes: `copy.replace` of Python 3.13, for any class without slots."""
    copied = copy.copy(original)
    vars(copied).update(attributes)
    return copied
