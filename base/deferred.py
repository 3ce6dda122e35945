"""Modules that are named in annotations, but imported at their first use alone, so that a file loads in milliseconds.

`typing.get_type_hints`, which frameworks call of what is public, then finds the names, which it does not under `TYPE_CHECKING` alone.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any


class Deferred:
    """A module that is imported when an attribute of it is read."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, attribute: str) -> Any:
        return getattr(import_module(self._name), attribute)
