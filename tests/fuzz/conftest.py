"""Damaged and hostile inputs: how many of them, from which seeds, and what each may cost.

A test takes `cases`, which yields a generator of random numbers for each of its inputs. A failure names the seed;
`pytest tests/fuzz/… --seed N --cases 1` tries that input again.
"""

from __future__ import annotations

import gc
import os
import random
import resource
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

SECONDS = 10.0
"""Of processor time that one input may take."""
BYTES = 2**30
"""Of memory that one input may take above what was in use before it."""
_ADDRESSES = 3 * 2**30
"""Of address space above the present: a request far beyond the limit fails at once, and does not fill the machine."""
_GARBAGE_EVERY = 100


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the number of inputs and the seed of the first."""
    parser.addoption(
        "--cases", type=int, default=None, help="inputs that each fuzz test tries (default: a few)"
    )
    parser.addoption("--seed", type=int, default=0, help="seed of the first input of each fuzz test")


class TookTooLong(BaseException):
    """One input took more processor time than it may; no handler of the code under test catches it."""


@contextmanager
def bounded(seconds: float = SECONDS, memory: int = BYTES) -> Iterator[None]:
    """Fail where a block takes more processor time or memory than it may.

    Raises:
        TookTooLong: In the block, as soon as its time is over.
        AssertionError: After it, where the peak of its memory was too high.
    """

    def stop(number: int, frame: FrameType | None) -> None:
        raise TookTooLong(f"more than {seconds:g} s of processor time")

    before = _status("VmRSS")
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")  # the peak is what is resident now
    old_limit = resource.getrlimit(resource.RLIMIT_AS)
    old_handler = signal.signal(signal.SIGPROF, stop)
    resource.setrlimit(resource.RLIMIT_AS, (_status("VmSize") + _ADDRESSES, old_limit[1]))
    signal.setitimer(signal.ITIMER_PROF, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        signal.signal(signal.SIGPROF, old_handler)
        resource.setrlimit(resource.RLIMIT_AS, old_limit)
    peak = _status("VmHWM")
    assert peak - before <= memory, f"{(peak - before) / 2**20:,.0f} MiB of memory"


def _status(name: str) -> int:
    """Return an entry of the process's status, in bytes."""
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{name}:"))


class Case(random.Random):
    """The random numbers of one input.

    Attributes:
        number: Of its seed.
        log: Lines on what was done with it; a failure prints them.
    """

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number
        self.log: list[str] = []


Cases = Callable[..., None]


@pytest.fixture
def cases(request: pytest.FixtureRequest) -> Cases:
    """Function that tries inputs: `cases(try_one, default=20)` calls `try_one(case)` for each seed, within the limits.

    With `--cases N` there are N of them, or `factor` times as many.
    """
    if not hasattr(os, "fork"):
        pytest.skip("the limits of processor time and memory need Linux")
    wanted: int | None = request.config.getoption("--cases", None)
    first: int = request.config.getoption("--seed", 0)

    def try_all(try_one: Callable[[Case], Any], default: int = 20, factor: float = 1) -> None:
        begun = time.process_time()
        count = default if wanted is None else int(wanted * factor)
        for number in range(first, first + count):
            case = Case(number)
            try:
                with bounded():
                    try_one(case)
            except (Exception, TookTooLong) as error:
                log = "".join(f"\n  {line}" for line in case.log)
                error.add_note(f"{request.node.nodeid} --seed {number} --cases 1{log}")
                raise
            if number % _GARBAGE_EVERY == 0:
                gc.collect()
        print(
            f"{request.node.name}: {count:,} inputs in {time.process_time() - begun:,.0f} s of processor time"
        )

    return try_all
