"""Small tools: values by their keys, copies with other attributes."""

from __future__ import annotations

import copy
from collections.abc import Iterable
from typing import Any, TypeVar

Key = TypeVar("Key")
Item = TypeVar("Item")


def by_key(pairs: Iterable[tuple[Key, Item]]) -> dict[Key, list[Item]]:
    """Return the items of each key; keys and items are in order."""
    items_by_key: dict[Key, list[Item]] = {}
    for key, item in pairs:
        items_by_key.setdefault(key, []).append(item)
    return items_by_key


def copy_with(original: Item, **attributes: Any) -> Item:
    """Return a shallow copy with other values of some attributes: `copy.replace` of Python 3.13, for any class without slots."""
    copied = copy.copy(original)
    vars(copied).update(attributes)
    return copied
