"""Which cases of a test are tried every day."""

from __future__ import annotations

from collections.abc import Iterable

import pytest


def sampled(cases: Iterable[object], often: int, further: str = "long") -> list[object]:
    """Return the cases of a test, the first and every `often`th after it as the test is marked, the others with a mark of their own.

    Args:
        cases: The values of `parametrize`, a tuple for several names.
        often: One in how many is tried with the test.
        further: The mark of the others: `long` (`make test-all`) or `nightly` (`make nightly`).
    """
    return [
        pytest.param(
            *(case if isinstance(case, tuple) else (case,)),
            marks=[getattr(pytest.mark, further)] if i % often else [],
        )
        for i, case in enumerate(cases)
    ]
