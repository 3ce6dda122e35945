"""Copies of objects with other attributes."""

from __future__ import annotations

import copy
from typing import Any, TypeVar

Copied = TypeVar("Copied")


def copy_with(original: Copied, **attributes: Any) -> Copied:
    """Return a shallow copy with other values of some attributes: `copy.replace` of Python 3.13, for any class without slots.

    Raises:
        TypeError: It has no attribute of a name, which nothing would read.
    """
    for name in attributes:
        if not hasattr(original, name):
            raise TypeError(f"{type(original).__name__} has no attribute '{name}' to be copied with")
    copied = copy.copy(original)
    vars(copied).update(attributes)
    return copied
