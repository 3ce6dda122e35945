"""Lockstep over a slow network: two Ray nodes in two network namespaces, with latency and loss between them.

Linux, as root: the namespaces are joined by two TUN devices and a process that passes packets on, `--latency` milliseconds
later each way, and drops a share of them (`--loss`); kernels without `netem` can do this. A step of a part takes at least
`--work` milliseconds. For each lookahead and number of steps between exchanges, steps per second without latency and with it;
`kept` is their ratio. A lookahead of 1 has every step wait for the one before of the other part.

Demanded is `kept` of 0.9 for lookahead 8.
Run: `sudo python benchmarks/network.py`.
"""

from __future__ import annotations

import argparse
import fcntl
import heapq
import os
import random
import secrets
import select
import signal
import struct
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack, closing, suppress
from functools import partial
from itertools import count
from pathlib import Path

import torch

from antiphon.engine.cluster.ray_parts import RayParts
from antiphon.engine.parts.part import Part, merge_states

sys.path.insert(0, str(Path(__file__).parent))
from ring import ring

SPACES = ("antiphon-a", "antiphon-b")
HOSTS = ("10.98.0.1", "10.98.0.2")
PORT = 6379
TUN, NO_HEADER, SET_INTERFACE = 0x0001, 0x1000, 0x400454CA
"""Of <linux/if_tun.h>."""


class Working(Part):
    """A part whose steps take a time at least."""

    seconds = 0.0

    def step(self, *, watch: bool = False) -> None:
        start = time.perf_counter()
        super().step(watch=watch)
        time.sleep(max(0.0, self.seconds - (time.perf_counter() - start)))


def made(delay: int, seconds: float, index: int) -> Part:
    """Return a part of a ring of four agents."""
    torch.set_num_threads(1)
    part = Working(ring(4, delay=delay), placement(delay), index)
    part.seconds = seconds
    return part


def placement(delay: int) -> dict[str, int]:
    """Return the ring cut in two."""
    names = list(ring(4, delay=delay).agents)
    return {name: 2 * place // len(names) for place, name in enumerate(names)}


# --- the network ---------------------------------------------------------------------------------------------


def shell(command: str) -> None:
    subprocess.run(command, shell=True, check=True)


def interface(name: str, space: str, host: str) -> int:
    """Return the file of a TUN device in a namespace."""
    file = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(file, SET_INTERFACE, struct.pack("16sH", name.encode(), TUN | NO_HEADER))
    inside = f"ip netns exec {space} ip"
    shell(f"ip link set {name} netns {space} && {inside} addr add {host}/24 dev {name}")
    shell(f"{inside} link set {name} up mtu 1500 txqueuelen 5000 && {inside} link set lo up")
    return file


def pass_packets(control: Path) -> None:
    """Pass packets on for ever; `control` has the latency, in seconds, and the share that is lost, as of now."""
    files = [interface(f"antiphon{place}", SPACES[place], HOSTS[place]) for place in range(2)]
    print("up", flush=True)
    order, waiting = count(), []  # type: ignore[var-annotated]
    latency = loss = looked = 0.0
    while True:
        now = time.monotonic()
        if now > looked + 0.2:
            with suppress(ValueError):
                latency, loss = map(float, control.read_text().split())
            looked = now
        limit = max(0.0, min(waiting[0][0] - now, 0.2)) if waiting else 0.2
        for file in select.select(files, [], [], limit)[0]:
            with suppress(BlockingIOError):
                while True:
                    packet = os.read(file, 65536)
                    if random.random() >= loss:
                        to = files[1 - files.index(file)]
                        heapq.heappush(waiting, (time.monotonic() + latency, next(order), to, packet))
        while waiting and waiting[0][0] <= time.monotonic():
            *_, to, packet = heapq.heappop(waiting)
            with suppress(OSError):
                os.write(to, packet)


# --- what is measured ------------------------------------------------------------------------------------------


def measure(control: Path, given: argparse.Namespace) -> None:
    """Print a row for each lookahead; in the first namespace."""
    print(
        f"{'lookahead':>9} {'every':>5} {'without':>9} {'with':>9} {'kept':>6}   steps per second", flush=True
    )
    for lookahead, every in ((8, 1), (8, 2), (8, 4), (1, 1)):
        make = partial(made, lookahead, given.work / 1e3)
        where = f"{HOSTS[0]}:{PORT}"
        parts = RayParts(make, merge_states, placement(lookahead), every=every, address=where)
        rates = []
        with closing(parts):
            for latency, loss in ((0.0, 0.0), (given.latency / 1e3, given.loss)):
                control.write_text(f"{latency} {loss}")
                time.sleep(1.0)
                at = parts.advance(sum(one.steps_taken for one in parts.statistics()) // 2 + 20)
                start = time.perf_counter()
                parts.advance(at + given.steps)
                rates.append(given.steps / (time.perf_counter() - start))
            control.write_text("0 0")
        print(
            f"{lookahead:9} {every:5} {rates[0]:9.1f} {rates[1]:9.1f} {rates[1] / rates[0]:6.2f}", flush=True
        )


def in_namespaces(given: argparse.Namespace) -> int:
    """Set up the network and a node in each namespace, measure, and take all of it down."""
    with tempfile.TemporaryDirectory(prefix="n", dir="/tmp") as folder, ExitStack() as ends:
        control = Path(folder) / "control"
        control.write_text("0 0")
        for space in SPACES:
            shell(f"ip netns add {space}")
            ends.callback(remove, space)
        me = [sys.executable, __file__]
        passing = subprocess.Popen([*me, "--pass-packets", str(control)], stdout=subprocess.PIPE)
        ends.callback(passing.kill)
        assert passing.stdout is not None
        passing.stdout.readline()
        token = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": secrets.token_hex(32), "OMP_NUM_THREADS": "1"}
        head = ["--head", f"--port={PORT}", "--include-dashboard=false", f"--temp-dir={folder}/ray"]
        for place, options in enumerate((head, [f"--address={HOSTS[0]}:{PORT}"])):
            ray = str(Path(sys.executable).with_name("ray"))
            node = [ray, "start", "--block", f"--node-ip-address={HOSTS[place]}", "--num-cpus=1", *options]
            with Path(folder, f"node-{place}").open("w") as log:
                command = ["ip", "netns", "exec", SPACES[place], *node]
                subprocess.Popen(command, env={**os.environ, **token}, stdout=log, stderr=log)
            while "Ray runtime started" not in Path(folder, f"node-{place}").read_text():
                time.sleep(0.2)
        settings = [f"--latency={given.latency}", f"--loss={given.loss}", f"--work={given.work}"]
        command = ["ip", "netns", "exec", SPACES[0], *me, "--measure", str(control), *settings]
        command.append(f"--steps={given.steps}")
        return subprocess.run(command, env={**os.environ, **token}, check=False).returncode


def remove(space: str) -> None:
    """End what runs in a namespace, and remove it."""
    found = subprocess.run(["ip", "netns", "pids", space], capture_output=True, text=True, check=False).stdout
    for process in found.split():
        with suppress(ProcessLookupError):
            os.kill(int(process), signal.SIGKILL)
    subprocess.run(["ip", "netns", "del", space], check=False)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--latency", type=float, default=25.0, help="milliseconds each way")
    parser.add_argument("--loss", type=float, default=0.05, help="share of packets")
    parser.add_argument("--work", type=float, default=20.0, help="milliseconds of a step")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--pass-packets", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.pass_packets is not None:
        pass_packets(given.pass_packets)
    if given.measure is not None:
        measure(given.measure, given)
        return 0
    if os.geteuid():
        parser.error("namespaces are root's; run it with sudo")
    return in_namespaces(given)


if __name__ == "__main__":
    sys.exit(main())
