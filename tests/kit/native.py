"""The native kernel, which a machine without a C++ compiler lacks."""

from __future__ import annotations

import pytest

from antiphon.nets.native.compiled_kernel import kernel

__all__ = ["kernel", "needs_kernel"]

needs_kernel = pytest.mark.skipif(kernel() is None, reason="there is no C++ compiler")
