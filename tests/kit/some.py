"""What is there where it may be missing."""

from __future__ import annotations

from typing import TypeVar

T = TypeVar("T")


def some(value: T | None) -> T:
    """A value that must not be None."""
    assert value is not None
    return value
