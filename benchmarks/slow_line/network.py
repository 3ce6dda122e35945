"""Network namespaces of this machine, and between any two of them a line with a rate, a delay and a loss.

Each namespace has one TUN device; a process (`forwarder.c`) passes the packets of each to the others. Namespaces have no names:
they are gone with their last process, however this one ends. Needs root, /dev/net/tun, `ip` and a C compiler, on Linux.
"""

from __future__ import annotations

import ctypes
import fcntl
import mmap
import os
import secrets
import shutil
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

_NETWORK = "10.99.0.0/24"
_MTU = 16_000
INTERFACE = "line0"
_CLONE_NEWNET = 0x40000000
_TUNSETIFF, _TUN_WITHOUT_HEADER = 0x400454CA, 0x1001
_SET_DEATH_SIGNAL = 1
_LIBC = ctypes.CDLL(None, use_errno=True)
_TCP = {
    "tcp_slow_start_after_idle": "0",
    "tcp_no_metrics_save": "1",
    "tcp_wmem": "4096 1048576 67108864",
    "tcp_rmem": "4096 1048576 67108864",
}
"""Settings of each namespace: buffers that fill the longest line, and no slow start after a pause."""
_RAY_PORT = 6379
_RAY_STARTED = "Ray runtime started"
_RAY_WITHIN = 120.0
_OBJECT_STORE = 100 * 2**20


class NetworkError(RuntimeError):
    """Namespaces, devices, the forwarder or Ray nodes cannot be had here."""


@dataclass(frozen=True)
class Setting:
    """What a line is.

    Attributes:
        mbit: Rate in each direction, Mbit/s; 0: without limit.
        ms: Delay one way, milliseconds.
        loss: Probability that a packet is lost.
    """

    mbit: float
    ms: float
    loss: float = 0.0

    @classmethod
    def parsed(cls, text: str) -> Self:
        """Return the line of MBIT:MS or MBIT:MS:LOSS; ValueError: it is none."""
        numbers = [float(each) for each in text.split(":")]
        if len(numbers) not in (2, 3) or min(numbers) < 0 or (len(numbers) == 3 and numbers[2] >= 1):
            raise ValueError(f"{text!r} is no MBIT:MS or MBIT:MS:LOSS")
        return cls(*numbers)

    def __str__(self) -> str:
        return f"{self.mbit:g}:{self.ms:g}" + (f":{self.loss:g}" if self.loss else "")


class Namespace:
    """A network namespace without a name, with a TUN device of an address in a network of 24 bits.

    OSError or subprocess.CalledProcessError: it cannot be made here.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _system_call("unshare", _CLONE_NEWNET)
            try:
                self._file = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
                self.tun = _device(address)
            finally:
                _system_call("setns", home, _CLONE_NEWNET)
        finally:
            os.close(home)

    def start(self, command: Sequence[str], **settings: Any) -> subprocess.Popen[str]:
        """Return a process in the namespace; it is killed when this one ends."""
        return subprocess.Popen(command, preexec_fn=self._enter, text=True, **settings)  # noqa: PLW1509

    def _enter(self) -> None:
        _system_call("setns", self._file, _CLONE_NEWNET)
        _LIBC.prctl(_SET_DEATH_SIGNAL, signal.SIGKILL)

    def kill(self) -> None:
        own = os.fstat(self._file).st_ino
        while found := [number for number in map(int, _numbers()) if _namespace_of(number) == own]:
            for number in found:
                with suppress(ProcessLookupError):
                    os.kill(number, signal.SIGKILL)
            time.sleep(0.05)

    def close(self) -> None:
        """Kill all processes in it, and with them the namespace and its device."""
        self.kill()
        os.close(self.tun)
        os.close(self._file)


class Lines:
    """A process, the compiled `forwarder.c`, that passes packets between namespaces, over a line between any two."""

    def __init__(self, ends: Sequence[Namespace], program: Path, setting: Setting) -> None:
        self._ends = len(ends)
        memory = os.memfd_create("line")
        os.ftruncate(memory, mmap.PAGESIZE)
        self._page = mmap.mmap(memory, mmap.PAGESIZE)
        self.set(setting)
        files = [*(end.tun for end in ends), memory]
        command = [str(program), *map(str, files)]
        self._process = subprocess.Popen(command, pass_fds=files)
        os.close(memory)
        with suppress(OSError):  # else the delay is also that of other processes
            os.setpriority(os.PRIO_PROCESS, self._process.pid, -15)

    def set(self, setting: Setting) -> None:
        """Change what each line is; packets on their way keep their time."""
        self._page[:24] = struct.pack("3d", setting.mbit * 1e6, setting.ms / 1e3, setting.loss)

    @property
    def bytes(self) -> tuple[float, ...]:
        """Bytes so far from each end, headers and lost packets included."""
        return struct.unpack_from(f"{self._ends}d", self._page, 24)

    @property
    def cpu(self) -> float:
        """CPU seconds of the process so far."""
        fields = (
            Path(f"/proc/{self._process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        )
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


class Network:
    """So many namespaces and the lines between them, a context manager; NetworkError: they cannot be had here."""

    def __init__(self, count: int) -> None:
        with ExitStack() as resources:
            self.folder = Path(tempfile.mkdtemp(prefix="line-", dir="/tmp"))  # short: sockets are in it
            resources.callback(shutil.rmtree, self.folder, ignore_errors=True)
            try:
                self._program = self._compiled()
                self.ends = list[Namespace]()
                for number in range(1, count + 1):
                    end = Namespace(f"10.99.0.{number}")
                    resources.callback(end.close)
                    self.ends.append(end)
                self.lines = Lines(self.ends, self._program, Setting(0, 0))
            except (OSError, subprocess.CalledProcessError) as error:
                reason = getattr(error, "stderr", None) or error
                needs = "root on Linux, /dev/net/tun, ip and cc"
                raise NetworkError(f"no line can be emulated here ({reason}); it takes {needs}") from None
            self._resources = resources.pop_all()

    def _compiled(self) -> Path:
        source, program = Path(__file__).with_name("forwarder.c"), self.folder / "forwarder"
        command = ["cc", "-O2", "-o", str(program), str(source)]
        subprocess.run(command, check=True, capture_output=True, text=True)
        return program

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.lines.close()
        self._resources.close()

    def renew(self, setting: Setting) -> None:
        """Kill all processes in the namespaces, drop what is on its way, and begin with idle lines."""
        for end in self.ends:
            end.kill()
        self.lines.close()
        self.lines = Lines(self.ends, self._program, setting)

    @contextmanager
    def ray(self, environment: dict[str, str], own: Mapping[str, str]) -> Iterator[str]:
        """Yield the address of a Ray cluster with a node of one CPU in each namespace, which share a token.

        Args:
            environment: Of all processes; the variables that name the token are added to it.
            own: Further variables of the cluster's processes.
        """
        address, folder = (
            f"{self.ends[0].address}:{_RAY_PORT}",
            Path(tempfile.mkdtemp(prefix="ray-", dir="/tmp")),
        )
        token = folder / "token"
        token.touch(0o600)
        token.write_text(secrets.token_hex(32), encoding="ascii")
        environment |= {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_USAGE_STATS_ENABLED": "0",
        }
        head = ["--head", f"--port={_RAY_PORT}", "--include-dashboard=false", f"--temp-dir={folder}/ray"]
        try:
            for index in range(len(self.ends)):
                arguments = head if index == 0 else [f"--address={address}"]
                self._start_node(index, arguments, {**environment, **own}, folder)
            yield address
        finally:
            for end in self.ends:
                end.kill()
            shutil.rmtree(folder, ignore_errors=True)

    def _start_node(
        self, index: int, arguments: Sequence[str], environment: Mapping[str, str], folder: Path
    ) -> None:
        command = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
        command += [f"--node-ip-address={self.ends[index].address}", "--num-cpus=1", "--num-gpus=0"]
        command += [f"--object-store-memory={_OBJECT_STORE}", *arguments]
        log = folder / f"{index}.log"
        with log.open("wb") as output:
            node = self.ends[index].start(
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        end = time.monotonic() + _RAY_WITHIN
        while _RAY_STARTED not in (text := log.read_text(encoding="utf-8", errors="replace")):
            if node.poll() is not None or time.monotonic() > end:
                last = [line for line in text.splitlines() if line.strip()][-1:]
                raise NetworkError(f"no Ray node starts at {self.ends[index].address} ({last})")
            time.sleep(0.1)


def _system_call(name: str, *arguments: int) -> None:
    if getattr(_LIBC, name)(*arguments):
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def _device(address: str) -> int:
    """Return the file of a new TUN device in the namespace of this thread."""
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(file, _TUNSETIFF, struct.pack("16sH", INTERFACE.encode(), _TUN_WITHOUT_HEADER))
    commands = (
        "link set lo up",
        f"addr add {address}/24 dev {INTERFACE}",
        f"link set {INTERFACE} up mtu {_MTU} txqueuelen 20000",
        f"route replace {_NETWORK} dev {INTERFACE} src {address} congctl cubic",  # whatever the machine's default is
    )
    for command in commands:
        subprocess.run(["ip", *command.split()], check=True, capture_output=True, text=True)
    for name, value in _TCP.items():
        Path("/proc/sys/net/ipv4", name).write_text(value, encoding="ascii")
    return file


def _numbers() -> list[str]:
    return [name for name in os.listdir("/proc") if name.isdecimal()]


def _namespace_of(process: int) -> int | None:
    with suppress(OSError):
        return os.stat(f"/proc/{process}/ns/net").st_ino
    return None
