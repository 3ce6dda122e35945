"""What every test stands on: one thread, no outside folders, the same random examples on every machine."""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import time
from collections.abc import Generator, Iterator
from functools import cache
from pathlib import Path

import hypothesis
import pytest
import torch

from antiphon import extensions
from antiphon.nets.native.library import kernel
from tests.commands import Commands

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))

gc.set_threshold(50_000, 20, 20)

# A shell ignores Ctrl-C in what it starts in the background, and what is started from there inherits it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# No test depends on how busy the machine is: neither its inputs nor their generation have a time limit.
hypothesis.settings.register_profile(
    "antiphon",
    deadline=None,
    derandomize=True,
    suppress_health_check=[hypothesis.HealthCheck.too_slow],
)
hypothesis.settings.load_profile("antiphon")


def pytest_collection_finish() -> None:
    """Prepare what no single test shall pay for.

    The native kernel is compiled, if it never was for this processor. What is imported, and the tests themselves, are searched for
    garbage no more: they stay, and are millions of objects.
    """
    kernel()
    gc.freeze()


# --- what a test may cost ----------------------------------------------------------------------------------

YARDSTICK = 0.07
"""Seconds of processor time that `yardstick` takes on the machine that the limit was chosen on."""
LIMIT = 2.0
"""Seconds of processor time there, processes that it starts among them: twice what a test without the mark `long` may take."""


def cpu_seconds() -> float:
    """Processor time of this process and of those that it has started and awaited."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


@cache
def yardstick() -> float:
    """Return how slow this machine is, at least 1: the time of some Python and some small matrices, against `YARDSTICK`."""
    start = time.process_time()
    x = torch.ones(16, 16)
    for _ in range(15_000):
        x = (x @ x).clamp(max=1.0)
    return max(1.0, (time.process_time() - start) / YARDSTICK)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Fail a test that takes long and does not say so: else the tests of every day grow slow again.

    `--junitxml` has the time of each test as its property `cpu`.
    """
    limit = LIMIT * yardstick()
    start = cpu_seconds()
    result = yield
    used = cpu_seconds() - start
    item.user_properties.append(("cpu", round(used, 3)))
    marked = any(item.get_closest_marker(name) for name in ("long", "nightly", "gpu", "data"))
    marked |= any(item.config.getoption(name, None) is not None for name in ("--cases", "--rounds"))
    if used > limit and not marked:
        pytest.fail(
            f"{used:.1f} s of processor time, at most {limit:.1f} s: make it smaller, or mark it `long`"
        )
    return result


# --- where a test works ------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _own_folders(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Send runs that name no folder to a temporary one, and show local data to the tests marked `data` alone."""
    monkeypatch.setenv("ANTIPHON_LOGDIR", str(tmp_path / "runs"))
    monkeypatch.setenv("ANTIPHON_PROGRESS", "0")  # how much is displayed depends on the time
    if request.node.get_closest_marker("data") is None:
        monkeypatch.delenv("ANTIPHON_DATA", raising=False)
    elif not os.environ.get("ANTIPHON_DATA"):
        pytest.skip("ANTIPHON_DATA names no folder")


@pytest.fixture(autouse=True)
def _own_names() -> Iterator[None]:
    """Take back the kinds and environments that a test registers, such as an example of docs/: they are the process's."""
    tables = list(extensions._registered.values())
    if "antiphon.envs.registry" in sys.modules:
        tables.append(sys.modules["antiphon.envs.registry"]._environments)
    before = [dict(table) for table in tables]
    yield
    for table, names in zip(tables, before, strict=True):
        table.clear()
        table.update(names)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str]) -> Commands:
    """The command line, in this process."""
    return Commands(capsys)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one loud line that tests were skipped because this machine has no browser."""
    skipped = [report.longrepr for report in terminalreporter.getreports("skipped")]
    reasons = [each[2].removeprefix("Skipped: ") for each in skipped if isinstance(each, tuple)]
    loud = [reason for reason in reasons if reason.startswith("browser tests skipped")]
    if loud:
        terminalreporter.write_sep("!", f"{len(loud)} {loud[0]}", yellow=True, bold=True)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of data with made-up pictures in MNIST's format."""
    from tests.contracts.library import write_pictures  # imports torch

    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "mnist")
    return folder
