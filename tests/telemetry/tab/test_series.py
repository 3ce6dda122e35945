"""Arrays of the Channels tab, and how they are packed."""

from __future__ import annotations

import struct

import numpy as np
import pytest

from antiphon.telemetry import Messages, Series
from tests.kit.tab import cloud


def messages(rows: int = 3, samples: int = 40, size: int = 5) -> Messages:
    generator = np.random.default_rng(0)
    drawn = [
        generator.normal(size=(samples, size)) * [0.1, 3, 0.2, 1, 0.3][:size] + row for row in range(rows)
    ]
    labelled = [np.column_stack([part, np.arange(samples) % 4]).astype(np.float32) for part in drawn]
    return Messages(np.arange(rows) * 10, labelled)


def test_the_first_direction_is_that_of_most_variance_the_same_for_all_rows() -> None:
    given = messages()
    found = cloud(given)
    whole = np.concatenate([row[:, :-1] for row in given.samples])
    _, singular, directions = np.linalg.svd(whole - whole.mean(0), full_matrices=False)
    shares = singular**2 / (singular**2).sum()
    np.testing.assert_allclose(found.explained, shares[:2], rtol=1e-4)
    for row, part in zip(found.points, given.samples, strict=True):
        expected = (part[:, :-1] - whole.mean(0)) @ directions[:2].T
        np.testing.assert_allclose(np.abs(row), np.abs(expected), rtol=1e-3, atol=1e-4)
    assert found.labels[1].tolist() == [float(i % 4) for i in range(40)]


@pytest.mark.parametrize(("size", "broken"), [(2, np.inf), (3, -np.inf), (5, np.nan)])
def test_what_is_not_finite_is_left_out_and_short_rows_are_filled(size: int, broken: float) -> None:
    """It never enters a product, of which numpy warns on some processors and for some sizes."""
    given = messages(rows=2, size=size)
    for row in given.samples:
        row[:, 1] = 1.0  # it does not vary: directions are zero there, and zero times infinity is no number
    given.samples[0][3, 1] = broken
    found = cloud(Messages(given.steps, [given.samples[0], given.samples[1][:7]]))
    assert np.flatnonzero(np.isnan(found.points[0]).any(1)).tolist() == [3]
    assert np.isfinite(found.points[1, :7]).all()
    assert np.isnan(found.points[1, 7:]).all()
    assert np.isnan(found.labels[1, 7:]).all()


def test_packed_little_endian() -> None:
    series = Series(np.array([1, 300]), np.array([[1, 2, 3], [4, np.nan, 6]], np.float32))
    packed = series.pack()
    assert struct.unpack("<IIdd", packed[:24]) == (2, 3, 1.0, 300.0)
    np.testing.assert_array_equal(np.frombuffer(packed[24:], "<f4").reshape(2, 3), series.values)
    found = cloud(messages(rows=2, samples=3))
    packed = found.pack()
    rows, samples, first, second = struct.unpack("<IIff", packed[:16])
    assert (rows, samples) == (2, 3)
    assert [first, second] == pytest.approx(found.explained.tolist())
    numbers = np.frombuffer(packed[32:], "<f4")
    np.testing.assert_array_equal(numbers[:12].reshape(2, 3, 2), found.points)
    np.testing.assert_array_equal(numbers[12:].reshape(2, 3), found.labels)
