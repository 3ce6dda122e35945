"""Which cases of a test are tried every day."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

__all__ = ["sampled"]


def sampled(cases: Iterable[object], often: int) -> list[object]:
    """Return the cases of a test, the first and every `often`th after it for every day, the others marked `long`.

    Args:
        cases: The values of `parametrize`, a tuple for several names.
        often: One in how many is tried by `make test`; `make test-all` tries all of them.
    """
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)), marks=[pytest.mark.long] if i % often else []
        )
        for i, case in enumerate(cases)
    ]
