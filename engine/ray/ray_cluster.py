"""The Ray cluster that parts run on: one of this machine alone, started here, or one that is there already.

Ray is imported when a cluster is opened, never before.
"""

from __future__ import annotations

import atexit
import importlib
import importlib.util
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from antiphon.engine.ray import reaper
from antiphon.errors import RunError

__all__ = ["RayCluster", "check_versions", "open_cluster", "versions"]

_OBJECT_STORE = 200 * 2**20
"""Bytes of shared memory for what actors send; more is spilled to disk."""
_CONNECT = 5.0
_JOIN = 60.0
"""Seconds until an address, or the cluster there, counts as not answering."""
_PACKAGES = ("antiphon", "torch", "numpy", "ray")
_PORT = "RAY_GCS_SERVER_PORT"
"""The only port of a cluster of this machine that can be fixed."""
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",  # else lines about processes that died go to stdout
}
_LONGEST_FOLDER = 20
"""Characters: Ray's sockets are in a folder of it, and the path of a socket has at most 107."""
_TOKEN = secrets.token_hex(32)
"""Ray reads a token once in a process."""
_PROBE = """
import sys, ray
ray.init(address=sys.argv[1], log_to_driver=False, configure_logging=False)
"""


class RayCluster:
    """A connection of this process to a Ray cluster; `open_cluster` makes it.

    Args:
        address: HOST:PORT of the head; None: a cluster of this machine alone is started, with a token of its own.

    Attributes:
        address: HOST:PORT of the head.
        own: Whether the cluster was started here and ends with `close`.
        folder: For files of parts, on each machine.

    Raises:
        RunError: Ray is not installed, nothing answers at the address, it refuses the token, its nodes have other versions, or
            the cluster does not start.
    """

    def __init__(self, address: str | None) -> None:
        if importlib.util.find_spec("ray") is None:
            raise RunError("ray: is not installed; pip install 'antiphon[ray]'")
        self.own = address is None
        self._directory: Path | None = None
        self.folder = Path(tempfile.gettempdir())
        self._reaper: subprocess.Popen[bytes] | None = None
        self._closed = False
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        try:
            self.address = self._start() if address is None else self._join(address)
        except BaseException:
            self.close()
            raise

    def _start(self) -> str:
        if "ray" in sys.modules and not _loopback_alone():
            raise RunError(
                "ray: was imported before it could be told to listen on 127.0.0.1 alone, with a token; "
                "import it later, or give the address of a cluster"
            )
        _check_port_is_free()
        short = len(tempfile.gettempdir()) <= _LONGEST_FOLDER
        self._directory = self.folder = Path(
            tempfile.mkdtemp(prefix="antiphon-", dir=None if short else "/tmp")
        )
        token = self._directory / "token"
        token.touch(0o600)
        token.write_text(_TOKEN)
        os.environ.pop("RAY_AUTH_TOKEN", None)
        os.environ |= {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # as there by default, it listens on 127.0.0.1 alone
        }
        found = _init(
            "ray: no cluster could be started on this machine",
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=str(self._directory),
            object_store_memory=_OBJECT_STORE,
        )
        self._reaper = subprocess.Popen(
            [sys.executable, "-I", "-S", reaper.__file__, str(self._directory)],
            stdin=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C is not for it
        )
        return str(found["gcs_address"])

    def _join(self, address: str) -> str:
        _check_answers(address)
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        _probe(address)
        found = _init(f"--address: the Ray cluster at {address} cannot be joined", address=address)
        check_versions(versions(), self._versions_of_nodes())
        return str(found["gcs_address"])

    def _versions_of_nodes(self) -> dict[str, dict[str, str]]:
        """Return the versions that each node has, by its address."""
        ray = importlib.import_module("ray")
        strategy = importlib.import_module("ray.util.scheduling_strategies").NodeAffinitySchedulingStrategy
        names = _PACKAGES

        def found() -> dict[str, str]:  # sent as it is, for a node may have no antiphon
            import platform
            from importlib.metadata import PackageNotFoundError, version

            here = {"Python": platform.python_version()}
            for name in names:
                try:
                    here[name] = version(name)
                except PackageNotFoundError:
                    here[name] = "none"
            return here

        task = ray.remote(num_cpus=0, max_retries=0)(found)
        nodes = {node["NodeManagerAddress"]: node["NodeID"] for node in ray.nodes() if node["Alive"]}
        refs = {
            where: task.options(scheduling_strategy=strategy(node, soft=False)).remote()
            for where, node in nodes.items()
        }
        answers = {}
        for where, ref in refs.items():
            try:
                answers[where] = ray.get(ref, timeout=_JOIN)
            except Exception as error:  # noqa: BLE001  (of Ray, or whatever is wrong with that node)
                raise RunError(f"--address: node {where} does not answer ({_first_line(error)})") from None
        return answers

    def close(self) -> None:
        """Leave the cluster, and end it where it was started here; a second call does nothing."""
        if self._closed:
            return
        self._closed = True
        if "ray" in sys.modules:
            sys.modules["ray"].shutdown()
        if self._reaper is not None:
            self._reaper.communicate()
        elif self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)


_open: dict[str, Any] = {"cluster": None, "users": 0}


@contextmanager
def open_cluster(address: str | None) -> Iterator[RayCluster]:
    """Yield the cluster of this process, which is opened for the first that asks and closed after the last.

    Raises:
        RunError: As of `RayCluster`, or the process is connected to another cluster.
    """
    cluster = _open["cluster"]
    if cluster is None:
        cluster = _open["cluster"] = RayCluster(address)
        atexit.register(cluster.close)
    elif address not in {None, cluster.address} or (address is None and not cluster.own):
        raise RunError(
            f"--address: this process is connected to the Ray cluster at {cluster.address}; close what uses it first"
        )
    _open["users"] += 1
    try:
        yield cluster
    finally:
        _open["users"] -= 1
        if not _open["users"]:
            _open["cluster"] = None
            atexit.unregister(cluster.close)
            cluster.close()


def versions() -> dict[str, str]:
    """Return the versions of this process that all nodes have to share, by name."""
    import platform
    from importlib.metadata import version

    return {"Python": platform.python_version(), **{name: version(name) for name in _PACKAGES}}


def check_versions(mine: Mapping[str, str], nodes: Mapping[str, Mapping[str, str]]) -> None:
    """Raise RunError where a node has other versions than this process: its numbers would be others."""
    for where, theirs in nodes.items():
        for name, version in mine.items():
            if theirs.get(name) != version:
                raise RunError(
                    f"--address: node {where} has {name} {theirs.get(name)}, this process {version}; "
                    "install the same versions on every node"
                )


def _init(failure: str, **settings: Any) -> Mapping[str, Any]:
    """Connect to a cluster or start one, and return its addresses; signal handlers stay as they are."""
    ray = importlib.import_module("ray")
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if main else None
    try:
        context = ray.init(
            log_to_driver=False,
            configure_logging=False,
            logging_level="ERROR",
            namespace="antiphon",
            **settings,
        )
    except Exception as error:  # noqa: BLE001  (Ray raises many kinds)
        raise RunError(f"{failure} ({_first_line(error)})") from None
    finally:
        if main:
            signal.signal(signal.SIGTERM, handler)
    found: Mapping[str, Any] = context.address_info
    return found


def _loopback_alone() -> bool:
    return not importlib.import_module("ray._private.ray_constants").ENABLE_RAY_CLUSTER


def _check_port_is_free() -> None:
    port = os.environ.get(_PORT, "0")
    reason = None if port.isdecimal() and int(port) < 2**16 else "is no port"
    try:
        if reason is None:
            socket.create_server(("127.0.0.1", int(port))).close()
    except OSError as error:
        reason = error.strerror
    if reason is not None:
        raise RunError(f"ray: {_PORT}={port}: {reason}; choose another port, or unset it")


def _check_answers(address: str) -> None:
    """Raise RunError unless something listens at HOST:PORT; Ray itself tries for minutes."""
    host, separator, port = address.rpartition(":")
    if not separator or not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise RunError(
            f"--address: {address!r} is not HOST:PORT; `ray start --head` prints it, for example 10.0.0.1:6379"
        )
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT).close()
    except OSError as error:
        raise RunError(
            f"--address: nothing answers at {address} ({error.strerror or error}); "
            "start a cluster there with `ray start --head`, or leave it out for one of this machine"
        ) from None


def _probe(address: str) -> None:
    """Raise RunError unless another process can join a cluster: where Ray cannot, it may end the process that tries."""
    command = [sys.executable, "-c", _PROBE, address]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_JOIN, check=False)
    except subprocess.TimeoutExpired:
        raise RunError(f"--address: no Ray cluster answers at {address} within {_JOIN:g} s") from None
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if line.strip()] or ["it ended without a word"]
        refused = "InvalidAuthToken" in done.stderr or "AuthenticationError" in done.stderr
        if refused:
            raise RunError(
                f"--address: the cluster at {address} and this process share no token; name the cluster's with "
                "RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH, or set RAY_AUTH_MODE=disabled if it has none"
            )
        raise RunError(f"--address: the Ray cluster at {address} cannot be joined ({lines[-1].strip()})")


def _first_line(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
