"""Memory: large tensors are paid for once, and what is worth it can be handed back."""

from __future__ import annotations

import ctypes
import gc
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from antiphon.base import memory
from antiphon.base.memory import give_back, keep_memory, uncollected

ROOT = Path(__file__).parents[2]
LINUX = sys.platform.startswith("linux")
GLIBC = LINUX and hasattr(ctypes.CDLL(None), "mallopt")

PROGRAM = """
import resource, sys
from antiphon.base.memory import give_back, keep_memory, zero_pages

SIZE = 48 << 20

def touched():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    large = bytearray(b"x") * SIZE          # every page of it is written to
    del large
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

def resident():
    with open("/proc/self/statm") as pages:
        return int(pages.read().split()[1]) * resource.getpagesize()

if sys.argv[1] == "keep":
    assert keep_memory()
touched()
faults = [touched() for _ in range(3)]
kept = resident()
if sys.argv[2] == "worth":
    give_back()
print(sum(faults), kept - resident())
"""


def faults(keep: str, worth: str) -> tuple[int, int]:
    """Page faults of three large objects after a first, and the bytes that were handed back."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, keep, worth], cwd=ROOT, capture_output=True, text=True, check=True
    )
    found, freed = done.stdout.split()
    return int(found), int(freed)


@pytest.mark.long
@pytest.mark.skipif(not GLIBC, reason="the C library is not glibc")
def test_kept_memory_is_not_paid_for_anew_and_can_be_handed_back() -> None:
    without, _ = faults("leave", "worth")
    kept, little = faults("keep", "little")
    _, much = faults("keep", "worth")
    assert without > 1000  # three times, unless the pages are huge
    assert kept < without / 20
    assert little < 1 << 20
    assert much > 40 << 20


class _Told:
    """A C library that notes what it is told, and refuses one of the two settings."""

    def __init__(self, refuses: int | None = None) -> None:
        self.calls: list[tuple[int, ...]] = []
        self.refuses = refuses

    def mallopt(self, parameter: int, value: int) -> int:
        self.calls.append((parameter, value))
        return 0 if parameter == self.refuses else 1

    def malloc_trim(self, pad: int) -> int:
        self.calls.append((pad,))
        return 1


def test_both_thresholds_have_to_be_accepted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    for library, done in ((object(), False), (_Told(-1), False), (_Told(-3), False)):
        monkeypatch.setattr(ctypes, "CDLL", lambda name, library=library: library)
        assert keep_memory() is done
        give_back()  # and says nothing
    told = _Told()
    monkeypatch.setattr(ctypes, "CDLL", lambda name: told)
    assert keep_memory() is True
    assert sorted(told.calls) == [(-3, 2**31 - 1), (-1, 2**31 - 1)]
    give_back()
    assert told.calls[-1] == (0,)


@pytest.mark.cases(1)
@pytest.mark.parametrize(("kept", "count"), [(False, 1_000), (True, 1_000), (True, 10)])
def test_what_is_kept_is_old_at_once_if_it_is_much(
    kept: bool, count: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "_MANY", gc.get_count()[0] + 500)
    gc.unfreeze()  # what the tests have frozen (conftest.py)
    try:
        with uncollected(long_lived=kept):
            assert not gc.isenabled()
            made = [[i] for i in range(count)]
        assert gc.isenabled()
        assert any(one is made for one in gc.get_objects(generation=2)) is (kept and count > 500)
        assert gc.get_freeze_count() == 0
    finally:
        gc.freeze()


def test_refused_memory_is_told_from_other_errors() -> None:
    assert memory.was_refused(MemoryError())
    assert memory.was_refused(torch.cuda.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 MiB"))
    assert not memory.was_refused(RuntimeError("mat1 and mat2 shapes cannot be multiplied"))
    assert not memory.was_refused(None)
