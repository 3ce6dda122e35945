"""What the figures of a channel warn of."""

from __future__ import annotations

import math

import pytest

from antiphon.telemetry.cautions import signal_caution


@pytest.mark.parametrize(("cosine", "parameters"), [(0.85, -0.3), (0.5, 0.2), (0.9, 0.44)])
def test_a_signal_that_is_right_in_the_messages_and_wrong_in_the_parameters(
    cosine: float, parameters: float
) -> None:
    line = signal_caution(cosine, parameters)
    assert line is not None
    assert f"cosine {cosine:.2f}" in line
    assert f"({parameters:.2f})" in line
    assert "\n" not in line


@pytest.mark.parametrize(
    ("cosine", "parameters"),
    [(0.9, 0.46), (0.4, -1.0), (None, -1.0), (0.9, None), (math.nan, 0.1), (0.9, math.nan)],
)
def test_nothing_is_to_be_said(cosine: float | None, parameters: float | None) -> None:
    assert signal_caution(cosine, parameters) is None
