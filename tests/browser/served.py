"""TensorBoard as a process, Chromium as it is found on the machine, and what a page must not do."""

from __future__ import annotations

import json
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext, Page

MISSING = "no Chromium; install the package chromium-headless-shell or chromium (or name one in ANTIPHON_CHROMIUM) and `pip install playwright`"
_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
"""The first has no windows, whose frames are pages too: tests take a quarter less."""
_LAUNCH = """
import ctypes, runpy, signal, sys
if sys.platform == "linux":  # prctl(PR_SET_PDEATHSIG): it ends with whoever started it, even if that is killed
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
sys.argv[0] = "tensorboard"
runpy.run_module("tensorboard.main", run_name="__main__")
"""
PATIENCE = 240.0
"""Seconds after which TensorBoard and the browser count as stuck, also on a machine that does much else."""


def chromium() -> str | None:
    """Return the path of a Chromium that Playwright can drive, or None."""
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return None
    named = os.environ.get("ANTIPHON_CHROMIUM")
    if named:
        return shutil.which(named)
    return next((path for path in map(shutil.which, _NAMES) if path is not None), None)


@contextmanager
def tensorboard(logdir: Path, *options: str) -> Iterator[str]:
    """Serve a log directory by a TensorBoard of its own, which looks for new data every second; yield its address.

    Args:
        logdir: A folder of runs.
        options: More of its command line.
    """
    command = [sys.executable, "-c", _LAUNCH, "--logdir", str(logdir), "--port", "0"]
    command += ["--host", "127.0.0.1", "--reload_interval", "1", *options]
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )
    lines: queue.Queue[str | None] = queue.Queue()
    assert process.stdout is not None
    reader = threading.Thread(target=_read, args=(process.stdout, lines), daemon=True)
    reader.start()
    try:
        yield _address(lines)
    finally:
        # Its own data server is a process too.
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        reader.join()
        process.stdout.close()


def _read(output: Iterator[str], lines: queue.Queue[str | None]) -> None:
    for line in output:
        lines.put(line)
    lines.put(None)


def _address(lines: queue.Queue[str | None]) -> str:
    said = []
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            line = lines.get(timeout=1.0)
        except queue.Empty:
            continue
        if line is None:
            break
        said.append(line)
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        if found:
            return found[0]
    raise RuntimeError(f"TensorBoard did not start:\n{''.join(said)}")


def fetched(address: str) -> bytes:
    """Return what is at an address of this machine."""
    with urllib.request.urlopen(address, timeout=PATIENCE) as answer:
        content: bytes = answer.read()
    return content


def runs_of(address: str) -> set[str]:
    """Return the names of the runs that the Channels tab shows."""
    return set(json.loads(fetched(f"{address}/data/plugin/antiphon/runs")))


def wait_for_runs(address: str, names: set[str]) -> None:
    """Wait until TensorBoard has read these runs."""
    end = time.monotonic() + PATIENCE
    while missing := names - runs_of(address):
        assert time.monotonic() < end, f"missing: {missing}"
        time.sleep(0.1)


@dataclass
class Watch:
    """What went wrong on the pages of a browser context.

    Attributes:
        wrong: Errors of scripts and of the console, dialogs, requests to other machines.
        allowed: Parts of lines of `wrong` that are meant to be there; TensorBoard has no picture for a page of its own.
    """

    wrong: list[str] = field(default_factory=list)
    allowed: list[str] = field(default_factory=lambda: ["favicon.ico"])

    def over(self, context: BrowserContext) -> None:
        """Watch all pages of a context."""
        context.on("request", lambda request: self._asked(request.url))
        context.on("page", self._page)

    def _page(self, page: Page) -> None:
        page.on("pageerror", lambda error: self.wrong.append(f"script: {error}"))
        page.on(
            "console",
            lambda message: (
                self.wrong.append(f"console: {message.text} ({message.location})")
                if message.type == "error"
                else None
            ),
        )
        page.on("dialog", lambda dialog: (self.wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))

    def _asked(self, url: str) -> None:
        if not url.startswith(("http://127.0.0.1:", "data:", "blob:", "file:", "about:")):
            self.wrong.append(f"request: {url}")

    def check(self) -> None:
        """Fail where something went wrong."""
        wrong = [line for line in self.wrong if not any(part in line for part in self.allowed)]
        assert not wrong, "\n".join(wrong)
