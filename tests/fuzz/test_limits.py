"""The limits of the other tests in this folder: what goes beyond them is found."""

from __future__ import annotations

import contextlib
import itertools
import mmap

import pytest

from tests.fuzz.conftest import TookTooLong, bounded


def for_ever() -> None:
    with contextlib.suppress(Exception):
        for _ in itertools.repeat(None):
            pass


def test_what_takes_too_long_is_stopped_whatever_it_catches() -> None:
    with pytest.raises(TookTooLong, match=r"more than 0\.05 s"), bounded(seconds=0.05):
        for_ever()


def test_what_takes_too_much_memory_is_found_although_it_gives_it_back() -> None:
    def fill() -> None:
        with mmap.mmap(-1, 2**26) as pages:  # the heap may have as much that is resident and free
            for place in range(0, len(pages), mmap.PAGESIZE):
                pages[place] = 1

    with pytest.raises(AssertionError, match="MiB of memory"), bounded(memory=2**24):
        fill()
    with pytest.raises(MemoryError), bounded():
        bytearray(2**40)
