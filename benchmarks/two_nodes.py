"""Two Ray nodes in two network namespaces of this machine, and between them a link with a given delay and loss.

Each namespace has one TUN device; a process passes the packets of either to the other, later, or not at all: what `tc netem` does
where the kernel has it. Namespaces have no names, so that they are gone with their last process, however this one ends. Needs
root and /dev/net/tun on Linux.
"""

from __future__ import annotations

import ctypes
import fcntl
import heapq
import itertools
import multiprocessing
import os
import random
import secrets
import select
import shutil
import signal
import socket
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

__all__ = ["DelayQueue", "Link", "Namespace", "NetworkError", "TwoNodes"]

_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _TUN_WITHOUT_HEADER = 0x400454CA, 0x1001
_SET_DEATH_SIGNAL = 1
_PACKET = 65536
_ADDRESSES = ("10.99.0.1", "10.99.0.2")
_PORT = 6379
_STARTED_WITHIN = 120.0
"""Seconds in which a Ray node must be there."""
_OBJECT_STORE = 100 * 2**20
_LIBC = ctypes.CDLL(None, use_errno=True)


class NetworkError(RuntimeError):
    """Namespaces, devices or nodes cannot be had here."""


class DelayQueue:
    """Packets on their way: each is lost by chance, or due after the delay that held when it was put in.

    Args:
        seed: Of the losses.

    Attributes:
        delay: In seconds.
        loss: Probability.
        lost: Packets so far.
    """

    def __init__(self, seed: int = 0) -> None:
        self.delay = self.loss = 0.0
        self.lost = 0
        self._random = random.Random(seed)
        self._numbers = itertools.count()
        self._waiting: list[tuple[float, int, int, bytes]] = []

    def put(self, packet: bytes, output: int, now: float) -> None:
        """Take a packet for one of the outputs."""
        if self._random.random() < self.loss:
            self.lost += 1
        else:
            heapq.heappush(self._waiting, (now + self.delay, next(self._numbers), output, packet))

    def due(self, now: float) -> list[tuple[int, bytes]]:
        """Remove and return the packets that are due, with their outputs, the earliest first."""
        found = []
        while self._waiting and self._waiting[0][0] <= now:
            _, _, output, packet = heapq.heappop(self._waiting)
            found.append((output, packet))
        return found

    def wait(self, now: float) -> float | None:
        """Return the seconds until a packet is due; None: there is none."""
        return max(0.0, self._waiting[0][0] - now) if self._waiting else None


class Namespace:
    """A network namespace without a name, with a TUN device.

    Args:
        address: Of the device, in a network of 24 bits.

    Attributes:
        address: As given.
        tun: The device's file, which does not block.

    Raises:
        NetworkError: It cannot be made here.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self.tun = -1
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _system_call("unshare", _CLONE_NEWNET)
            try:
                self._file = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
                self.tun = _tun("link0")
                for command in (
                    "link set lo up",
                    f"addr add {address}/24 dev link0",
                    "link set link0 up mtu 1500 txqueuelen 5000",
                ):
                    subprocess.run(["ip", *command.split()], check=True, capture_output=True, text=True)
            finally:
                _system_call("setns", home, _CLONE_NEWNET)
        except (OSError, subprocess.CalledProcessError) as error:
            raise NetworkError(
                f"no network namespace with a TUN device can be made here ({error}); it takes root, /dev/net/tun and ip"
            ) from None
        finally:
            os.close(home)

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Have this thread, and the threads and processes that it starts, in the namespace."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _system_call("setns", self._file, _CLONE_NEWNET)
            yield
        finally:
            _system_call("setns", home, _CLONE_NEWNET)
            os.close(home)

    def holds(self, process: int) -> bool:
        """Whether a process is in it."""
        with suppress(OSError):
            return os.stat(f"/proc/{process}/ns/net").st_ino == os.fstat(self._file).st_ino
        return False

    def processes(self) -> list[int]:
        """Return all processes in it but this one."""
        found = [int(name) for name in os.listdir("/proc") if name.isdecimal()]
        return [process for process in found if process != os.getpid() and self.holds(process)]

    def close(self) -> None:
        """Kill all processes in it, and with them the namespace and its device."""
        while found := self.processes():
            for process in found:
                with suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            time.sleep(0.1)
        os.close(self.tun)
        os.close(self._file)


class Link:
    """What passes packets between two namespaces: a process that ends with this one.

    Args:
        ends: The two.
    """

    def __init__(self, ends: tuple[Namespace, Namespace]) -> None:
        context = multiprocessing.get_context("fork")
        self._settings: Any = context.RawArray("d", 2)
        self._counts: Any = context.RawArray("q", 2)
        files = [end.tun for end in ends]
        self._process = context.Process(
            target=_pass_on, args=(files, self._settings, self._counts), daemon=True
        )
        self._process.start()

    def set(self, delay: float, loss: float) -> None:
        """Set delay each way, in seconds, and probability of loss of a packet."""
        self._settings[0], self._settings[1] = delay, loss

    @property
    def counts(self) -> tuple[int, int]:
        """Packets passed on, and lost."""
        return self._counts[0], self._counts[1]

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.join()


class TwoNodes:
    """A Ray cluster of two nodes with one CPU each, with token authentication, over a `Link`; a context manager.

    In the context this process has the address and the token of the cluster, and its main thread is on the head's side.

    Attributes:
        address: HOST:PORT of the head.
        link: Between the nodes; without delay and loss at first.

    Raises:
        NetworkError: The nodes cannot be had.
    """

    def __init__(self) -> None:
        self.address = f"{_ADDRESSES[0]}:{_PORT}"
        self._resources = ExitStack()

    def __enter__(self) -> Self:
        with ExitStack() as resources:
            folder = tempfile.mkdtemp(prefix="nodes-", dir="/tmp")  # short: sockets are in it
            resources.callback(shutil.rmtree, folder, ignore_errors=True)
            token = Path(folder, "token")
            token.touch(0o600)
            token.write_text(secrets.token_hex(32), encoding="utf-8")
            os.environ.pop("RAY_AUTH_TOKEN", None)
            os.environ |= {
                "RAY_AUTH_MODE": "token",
                "RAY_AUTH_TOKEN_PATH": str(token),
                "RAY_USAGE_STATS_ENABLED": "0",
            }
            self.ends = tuple(_closing(resources, Namespace(address)) for address in _ADDRESSES)
            self.link = _closing(resources, Link((self.ends[0], self.ends[1])))
            head = ["--head", f"--port={_PORT}", "--include-dashboard=false", f"--temp-dir={folder}/ray"]
            self._start(0, head, folder)
            resources.enter_context(self.ends[0].inside())
            self._wait_for_head()
            self._start(1, [f"--address={self.address}"], folder)
            self._resources = resources.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self._resources.close()

    def _start(self, index: int, arguments: list[str], folder: str) -> None:
        end = self.ends[index]
        command = [
            sys.executable,
            "-m",
            "ray.scripts.scripts",
            "start",
            "--block",
            "--num-cpus=1",
            "--num-gpus=0",
        ]
        command += [f"--node-ip-address={end.address}", f"--object-store-memory={_OBJECT_STORE}", *arguments]
        with end.inside(), Path(folder, f"{index}.log").open("wb") as log:
            subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                preexec_fn=_end_with_parent,  # noqa: PLW1509  (no threads yet: Ray is not imported)
            )

    def _wait_for_head(self) -> None:
        end = time.monotonic() + _STARTED_WITHIN
        while time.monotonic() < end:
            with suppress(OSError):
                socket.create_connection((_ADDRESSES[0], _PORT), 1.0).close()
                return
            time.sleep(0.2)
        raise NetworkError(f"no Ray head answers at {self.address} within {_STARTED_WITHIN:g} s")

    def wait_for_nodes(self) -> None:
        """Wait until both nodes are there, in a process that is connected to the cluster."""
        import ray

        end = time.monotonic() + _STARTED_WITHIN
        while sum(node["Alive"] for node in ray.nodes()) < len(_ADDRESSES):
            if time.monotonic() > end:
                raise NetworkError(f"the second Ray node does not join within {_STARTED_WITHIN:g} s")
            time.sleep(0.2)

    def node_of(self, process: int) -> int | None:
        """Return the node that a process runs on."""
        return next((index for index, end in enumerate(self.ends) if end.holds(process)), None)

    def round_trip(self, count: int = 15) -> float:
        """Return the median of the seconds in which the other node refuses a connection."""
        found = []
        for _ in range(count):
            start = time.perf_counter()
            with suppress(ConnectionRefusedError):
                socket.create_connection((_ADDRESSES[1], 9), 10.0).close()
            found.append(time.perf_counter() - start)
        return statistics.median(found)


def _closing(resources: ExitStack, one: Any) -> Any:
    resources.callback(one.close)
    return one


def _system_call(name: str, *arguments: int) -> None:
    if getattr(_LIBC, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _tun(name: str) -> int:
    """Return the file of a new TUN device in the namespace of this thread; it is gone when that is closed."""
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(file, _TUNSETIFF, struct.pack("16sH", name.encode(), _TUN_WITHOUT_HEADER))
    return file


def _end_with_parent() -> None:
    """Have the kernel kill this process when the one that started it is gone; Ray then ends what `ray start` has started."""
    _LIBC.prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)


def _pass_on(files: list[int], settings: Any, counts: Any) -> None:
    """Pass packets between two TUN devices, for ever; `settings`: delay and loss, `counts`: passed and lost."""
    _end_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM):  # which a terminal sends to both
        signal.signal(number, signal.SIG_IGN)
    with suppress(OSError):
        os.nice(-15)  # else the delay is that of this process, where others are at work
    queue = DelayQueue()
    while True:
        for file in select.select(files, [], [], queue.wait(time.monotonic()))[0]:
            queue.delay, queue.loss = settings[0], settings[1]
            output = files[1 - files.index(file)]
            with suppress(BlockingIOError):
                while True:
                    queue.put(os.read(file, _PACKET), output, time.monotonic())
        for output, packet in queue.due(time.monotonic()):
            with suppress(OSError):  # of a device that takes no more
                os.write(output, packet)
                counts[0] += 1
        counts[1] = queue.lost
