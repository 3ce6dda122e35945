"""Members of a stack: those that something is for."""

from __future__ import annotations

from torch import Tensor

Members = Tensor | None
"""[N] or [K] bool, on the CPU: some members of a stack; None: all."""


def members_and(a: Members, b: Members) -> Members:
    """The members that are in both."""
    if a is None or b is None:
        return a if b is None else b
    return a & b
