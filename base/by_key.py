"""Values gathered by their keys."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

Key = TypeVar("Key")
Item = TypeVar("Item")


def by_key(pairs: Iterable[tuple[Key, Item]]) -> dict[Key, list[Item]]:
    """Return the items of each key; keys and items are in order."""
    items_by_key: dict[Key, list[Item]] = {}
    for key, item in pairs:
        items_by_key.setdefault(key, []).append(item)
    return items_by_key
