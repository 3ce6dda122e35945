"""Clusters that cannot be opened, each for one line; and clusters of other machines, which are joined."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
import yaml

from antiphon.engine.ray.ray_cluster import RayCluster
from antiphon.errors import RunError
from tests.commands import Commands
from tests.engine.parts.rings import document
from tests.engine.ray.processes import PATIENCE, PROGRAM, children_of, survivors

TOKEN = "0123456789abcdef" * 4
LOOPBACK = {"RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0"}


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
        return port


@pytest.mark.long
def test_antiphon_does_not_import_ray() -> None:
    program = "import sys, antiphon, antiphon.cli, antiphon.engine.simulation; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0


def test_without_ray_the_line_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(RunError, match=r"^ray: is not installed; pip install 'antiphon\[ray\]'$"):
        RayCluster("local")


@pytest.mark.parametrize("address", ["", "here:", ":6379", "here:port", "10.0.0.1:65536"])
def test_what_is_no_address_is_one_line(address: str) -> None:
    with pytest.raises(RunError, match=r"^--ray: '.*' is not HOST:PORT; .* 10\.0\.0\.1:6379$"):
        RayCluster(address)


def test_an_address_where_nothing_answers_is_one_line() -> None:
    port = free_port()
    with pytest.raises(
        RunError, match=rf"^--ray: nothing answers at 127\.0\.0\.1:{port} \(.*refused.*\); start"
    ):
        RayCluster(f"127.0.0.1:{port}")
    with pytest.raises(RunError, match=r"^--ray: nothing answers at no-such-host\.invalid:1 "):
        RayCluster("no-such-host.invalid:1")


@contextmanager
def head(folder: Path, token: str) -> Iterator[str]:
    """Yield the address of a cluster that another process has started."""
    address = f"127.0.0.1:{free_port()}"
    ray = Path(sys.executable).with_name("ray")
    settings = (
        f"start --head --block --node-ip-address=127.0.0.1 --port={address.split(':')[1]} --num-cpus=2 "
        f"--include-dashboard=false --temp-dir={folder} --object-store-memory=100000000"
    )
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": token, **LOOPBACK}
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [ray, *settings.split()], env=environment, stdout=log, stderr=log, start_new_session=True
        )
    family = {process.pid}
    try:
        end = time.monotonic() + PATIENCE
        while "Ray runtime started" not in (folder / "log").read_text():
            assert process.poll() is None, (folder / "log").read_text()
            assert time.monotonic() < end
            time.sleep(0.1)
        yield address
    finally:
        family |= children_of(process.pid)
        process.terminate()
        process.wait(PATIENCE)
        for one in survivors(family, 10.0):
            with suppress(ProcessLookupError):
                os.kill(one, signal.SIGKILL)


@pytest.mark.ray
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed")
@pytest.mark.long
def test_a_run_on_a_cluster_that_is_there_has_the_bits_of_one_process(
    tmp_path: Path, short: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("ring.yaml").write_text(yaml.safe_dump(document(24)), encoding="utf-8")
    cli = Commands(capsys)
    cli("run ring.yaml --name one")
    command = [sys.executable, "-c", PROGRAM, "run", "ring.yaml", "--name", "several", "--parts", "2"]
    with head(short, TOKEN) as address:
        for token, code in ((TOKEN, 0), ("1" * 64, 2)):
            done = subprocess.run(
                [*command, "--ray", address, "--logdir", f"runs-{code}"],
                env={**os.environ, "RAY_AUTH_TOKEN": token, **LOOPBACK},
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                check=False,
            )
            assert done.returncode == code, done.stderr
        assert re.search(
            r"error: --ray: the cluster at \S+ and this process share no token; name", done.stderr
        )
    assert cli.json("diff runs/one runs-0/several")["same"] is True
