"""Copies with other attributes: the original keeps its own, and a name that it has not is no silent addition."""

from __future__ import annotations

import pytest

from antiphon.base.copies import copy_with


class Made:
    of_class = 1

    def __init__(self) -> None:
        self.own, self.shared = 2, [3]


def test_a_copy_has_other_values_and_the_original_its_own() -> None:
    original = Made()
    copied = copy_with(original, own=5, of_class=4)
    assert (copied.own, copied.of_class, copied.shared) == (5, 4, [3])
    assert copied.shared is original.shared
    assert (original.own, original.of_class, Made.of_class) == (2, 1, 1)


def test_a_name_that_the_original_has_not_is_refused() -> None:
    original = Made()
    with pytest.raises(TypeError, match=r"^Made has no attribute 'owned' to be copied with$"):
        copy_with(original, own=5, owned=6)
    assert original.own == 2
