"""What every test stands on: one thread, no outside folders, the same random examples on every machine."""

from __future__ import annotations

import gc
import os
import resource
import signal
import sys
import time
from collections import Counter
from collections.abc import Generator, Iterator
from pathlib import Path
from pkgutil import resolve_name

import hypothesis
import pytest
import torch

from tests.faults.plant import FAULTS
from tests.kit import seams
from tests.kit.commands import Commands
from tests.kit.native import kernel

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))

gc.set_threshold(50_000, 20, 20)

os.environ.pop("COLUMNS", None)  # pytest-xdist sets it, and tables would be narrower in its processes

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


# --- what a test costs -------------------------------------------------------------------------------------


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Leave out the folder whose tests are all `long` where these are not wanted: to list its cases takes as long as many a test."""
    return True if collection_path.name == "obeyed" and "not long" in config.option.markexpr else None


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark as `long` what `@pytest.mark.cases(COUNT)` leaves over: all but the first cases of a test and those that find planted faults."""
    needed = {fault.caught_by for fault in FAULTS}
    taken = Counter[str]()
    for item in items:
        mark = item.get_closest_marker("cases")
        if mark is None or item.nodeid in needed:
            continue
        function = item.nodeid.partition("[")[0]
        taken[function] += 1
        if taken[function] > mark.args[0]:
            item.add_marker(pytest.mark.long)


LIMIT = 2.0
"""Seconds of processor time, processes that it starts among them: twice what a test without the mark `long` should take."""


def cpu_seconds() -> float:
    """Processor time of this process and of those that it has started and awaited."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, object, object]:
    """Take the processor time of each test: `--junitxml` has it as the property `cpu`."""
    start = cpu_seconds()
    try:
        return (yield)
    finally:
        item.user_properties.append(("cpu", round(cpu_seconds() - start, 3)))


def _slow_tests(terminalreporter: pytest.TerminalReporter) -> None:
    """Name the tests that take long and do not say so, lest the tests of every day grow slow again.

    Nothing fails: how long a test takes depends on the processor and on what else the machine does.
    """
    slow = []
    for report in terminalreporter.getreports("passed"):
        cost = dict(report.user_properties).get("cpu", 0.0)
        if cost > LIMIT and report.when == "call" and not {"long", "nightly", "gpu"} & set(report.keywords):
            slow.append((cost, report.nodeid))
    if slow:
        terminalreporter.section(f"above {LIMIT:g} s of processor time without the mark `long`")
        for cost, name in sorted(slow, reverse=True):
            terminalreporter.line(f"{cost:6.1f} s  {name}")


# --- where a test works ------------------------------------------------------------------------------------


@pytest.fixture(autouse=True)
def _own_folders(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Send runs that name no folder to a temporary one, and show no local data."""
    monkeypatch.setenv("ANTIPHON_LOGDIR", str(tmp_path / "runs"))
    monkeypatch.setenv("ANTIPHON_PROGRESS", "0")  # how much is displayed depends on the time
    monkeypatch.delenv("ANTIPHON_DATA", raising=False)


@pytest.fixture(autouse=True)
def _own_names() -> Iterator[None]:
    """Take back the kinds and environments that a test registers, such as an example of docs/: they are the process's."""
    tables = list(resolve_name(seams.REGISTERED).values())
    if "antiphon.envs.registry" in sys.modules:
        tables.append(sys.modules["antiphon.envs.registry"]._environments)
    before = [dict(table) for table in tables]
    yield
    for table, names in zip(tables, before, strict=True):
        table.clear()
        table.update(names)


def _torch_settings() -> tuple[object, ...]:
    """What is set for the whole process and decides how torch computes, without what a run sets (`Settings.apply`)."""
    return (
        torch.get_default_dtype(),
        torch.get_deterministic_debug_mode(),
        torch.is_grad_enabled(),
    )


@pytest.fixture(autouse=True)
def _own_torch() -> Iterator[None]:
    """Take back the precision of matrix products and the threads that a test sets, and fail a test that leaves torch otherwise than it was.

    Later tests of this process would compute something else.
    """
    before, threads = _torch_settings(), torch.get_num_threads()
    yield
    torch.set_num_threads(threads)
    torch.set_float32_matmul_precision("highest")
    assert _torch_settings() == before


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working directory."""
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Commands:
    """The command line, in this process; what `--import` gives it is given in one test."""
    monkeypatch.setenv("ANTIPHON_IMPORT", os.environ.get("ANTIPHON_IMPORT", ""))
    return Commands(capsys)


def _missing_browser(terminalreporter: pytest.TerminalReporter) -> None:
    """Say in one loud line that tests were skipped because this machine has no browser."""
    skipped = [report.longrepr for report in terminalreporter.getreports("skipped")]
    reasons = [each[2].removeprefix("Skipped: ") for each in skipped if isinstance(each, tuple)]
    loud = [reason for reason in reasons if reason.startswith("browser tests skipped")]
    if loud:
        terminalreporter.write_sep("!", f"{len(loud)} {loud[0]}", yellow=True, bold=True)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say what nobody sees in a line of dots."""
    _slow_tests(terminalreporter)
    _missing_browser(terminalreporter)


@pytest.fixture(scope="session")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of data with made-up pictures in MNIST's format."""
    from tests.contracts.library import write_pictures  # imports torch

    folder = tmp_path_factory.mktemp("data")
    write_pictures(folder / "mnist")
    return folder
