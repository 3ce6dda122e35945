"""Roles of fields: what a saved state has of messages, ticks, windows and notes (engine/state/trees.py).

A saved state has a field by its name, or by that of `saved_as`; without a role it is not saved.
"""

from __future__ import annotations

from typing import Any

PLAIN = {"role": "plain"}
"""A field of a saved state: a name, numbers, or sets of such."""
NESTED = {"role": "nested"}
"""Objects whose fields have roles, or several by name or in order. An end of a channel saves the message, others its stamp."""
JOINED = {"role": "joined"}
"""Lists of nested objects, which a saved state has as one list; what loads it divides that again."""
ROWS = {"role": "rows"}
"""A tensor [rows, …], or several by name."""
MASK = {"role": "mask"}
"""A mask of rows, which is saved as True, False or a tensor [rows] bool."""
SIGNALS = {"role": "signals"}
"""Step signals: a saved state has them once, and refers to them by number."""
NOTES = {"role": "notes"}
"""Notes of features; their fields have roles (notes.py)."""


def saved_as(key: str, role: dict[str, str]) -> dict[str, str]:
    """Return a role under which saved states have the field by another name, `key`."""
    return {**role, "key": key}


def record(record_class: type) -> dict[str, Any]:
    """Return the role of a record that an object has; the fields of its class have roles."""
    return {"role": "record", "kind": record_class}
