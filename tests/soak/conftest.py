"""Long tests, cut short unless `--rounds` says otherwise (`make nightly`)."""

from __future__ import annotations

import pytest

_ROUNDS = 1
"""In an ordinary run of the tests."""


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add `--rounds`."""
    parser.addoption("--rounds", type=int, default=_ROUNDS, help="how often each soak test repeats itself")


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int:
    """How often a soak test repeats itself."""
    return int(request.config.getoption("rounds", None) or _ROUNDS)
