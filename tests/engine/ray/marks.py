"""What tests share that start a Ray cluster."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from typing import Any

import pytest

_MARKS = (
    pytest.mark.ray,
    pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed"),
)


def needs_ray(test: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a test that starts processes of Ray."""
    for mark in _MARKS:
        test = mark(test)
    return test


needs_ray_all = [*_MARKS]
"""The same for all tests of a module, as its `pytestmark`."""
