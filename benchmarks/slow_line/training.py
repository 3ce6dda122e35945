"""A way of training as processes in the namespaces of a network, and what is measured of it."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

import torch
from clock import WARM, Clock
from network import INTERFACE, Network, Setting
from task import bits, mean_state
from timed_windows import CLOCK

HERE = Path(__file__).resolve().parent
_PORT = 29500
_POLL = 0.02
_BEGUN_WITHIN, _ENDED_WITHIN = 900.0, 600.0


class WayError(RuntimeError):
    """A way of training has failed."""


class Training:
    """The processes of a way, one in each namespace, from their start to the parameters that they have learned; a context manager.

    NetworkError: there is no Ray cluster.
    """

    def __init__(
        self, network: Network, setting: Setting, way: str, seed: int, rate: float, seconds: float
    ) -> None:
        self.network, self._seconds = network, seconds
        with ExitStack() as resources:
            self._folder = Path(resources.enter_context(tempfile.TemporaryDirectory(dir=network.folder)))
            resources.callback(network.renew, Setting(0, 0))
            self._antiphon = way.startswith("antiphon")
            machines = len(network.ends)
            self._workers = workers = 1 if way.startswith("plain") else machines
            self.clock = Clock(self._folder / "clock", workers, seconds, measuring=self._antiphon)
            settings = {"way": way, "seed": seed, "lr": rate, "machines": machines}
            settings |= {"clock": str(self._folder / "clock")}
            environment = {**os.environ, "OMP_NUM_THREADS": "1"}
            environment["GLOO_SOCKET_IFNAME"] = INTERFACE
            paths = [str(HERE), os.environ.get("PYTHONPATH")]
            environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
            network.renew(Setting(0, 0) if self._antiphon else setting)
            if self._antiphon:  # the cluster starts over idle lines without delay
                timed = {CLOCK: str(self._folder / "clock")}
                address = resources.enter_context(network.ray(environment, timed))
                network.lines.set(setting)
                starts = [("antiphon_way.py", {**settings, "address": address})]
            else:
                settings["address"] = f"tcp://{network.ends[0].address}:{_PORT}"
                starts = [("torch_way.py", {**settings, "index": index}) for index in range(workers)]
            self._processes = [
                self._started(index, program, own, environment) for index, (program, own) in enumerate(starts)
            ]
            self._resources = resources.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def _started(
        self, index: int, program: str, settings: Mapping[str, Any], environment: Mapping[str, str]
    ) -> subprocess.Popen[str]:
        settings = {**settings, "state": str(self._folder / f"{index}.pt")}
        command = [sys.executable, str(HERE / program), json.dumps(settings)]
        with (self._folder / f"{index}.log").open("wb") as log:
            return self.network.ends[index].start(command, env=environment, stdout=log, stderr=log)

    def _wait(self, reached: Callable[[], bool], within: float, what: str) -> None:
        """Wait until something is reached; WayError: a process has failed, or the time is over."""
        end = time.monotonic() + within
        while not reached():
            for index, process in enumerate(self._processes):
                if process.poll():
                    text = (self._folder / f"{index}.log").read_text(encoding="utf-8", errors="replace")
                    lines = [line for line in text.splitlines() if line.strip()][-1:]
                    raise WayError(f"process {index} ended with code {process.returncode}: {' '.join(lines)}")
            if time.monotonic() > end:
                raise WayError(f"{what} within {within:g} s")
            time.sleep(_POLL)

    def measured(self, after_import: float) -> dict[str, Any]:
        """Return the results of the way in its time; `after_import`: megabytes of a process that has imported torch. WayError: it fails."""
        clock, lines = self.clock, self.network.lines
        self._wait(lambda: len(clock.processes) == self._workers, _BEGUN_WITHIN, "has not begun")
        self._wait(lambda: clock.began is not None, _BEGUN_WITHIN, f"has not taken {WARM} steps")
        before = clock.steps, lines.bytes, lines.cpu, time.monotonic()
        self._wait(lambda: clock.over, self._seconds + 60, "the clock has stopped")
        steps, now = clock.steps - before[0], time.monotonic()
        sent = [round((new - old) / max(1, steps)) for new, old in zip(lines.bytes, before[1], strict=True)]
        share = (lines.cpu - before[2]) / (now - before[3])
        processes = [*clock.processes, *(process.pid for process in self._processes if self._antiphon)]
        memory = [round(peak(number) - after_import) for number in processes]
        if self._antiphon:
            self._processes[0].send_signal(signal.SIGINT)
        states = [self._folder / f"{index}.pt" for index in range(len(self._processes))]
        self._wait(lambda: all(state.exists() for state in states), _ENDED_WITHIN, "has not ended")
        learned = mean_state([torch.load(state, weights_only=True) for state in states])
        found, link = bits(learned), self._folder / "0.json"
        trained = max(clock.seconds, self._seconds)  # parts may have waited at the end
        return {
            "ms": round(1e3 * trained / max(1, clock.steps - WARM), 2),
            "bits": round(found, 4) if math.isfinite(found) else None,
            "steps": clock.steps,
            "trained": round(trained, 2),
            "bytes": sent,
            "rss_mb": memory,
            "forwarder": round(share, 3),
            **({"link": json.loads(link.read_text(encoding="utf-8"))} if link.exists() else {}),
        }


def peak(process: int) -> float:
    """Return the most megabytes that a process has had; WayError: it is gone."""
    try:
        return _status(Path(f"/proc/{process}/status").read_text(encoding="ascii"), "VmHWM")
    except (OSError, StopIteration):
        raise WayError(f"process {process} is gone") from None


def megabytes_after_import() -> float:
    program = "import torch; print(open('/proc/self/status').read())"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    return _status(done.stdout, "VmRSS")


def _status(text: str, name: str) -> float:
    return next(int(line.split()[1]) for line in text.splitlines() if line.startswith(name)) / 1024
