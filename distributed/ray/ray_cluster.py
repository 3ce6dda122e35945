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
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from antiphon.base.errors import RunError, first_line

LOCAL = "local"
"""A cluster of this machine alone, started for the run."""
_OBJECT_STORE = 200 * 2**20
"""Bytes of shared memory for what actors send; more is spilled to disk."""
_CONNECT = 5.0
"""Seconds until an address counts as not answering."""
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",  # else lines about processes that died go to stdout
}
_LONGEST_FOLDER = 20
"""Characters: Ray's sockets are in a folder of it, and the path of a socket has at most 107."""
_RAY_TOKEN = secrets.token_hex(32)
"""Ray reads a token once in a process."""


class RayCluster:
    """A connection of this process to a Ray cluster; `open_cluster` makes it.

    Args:
        address: HOST:PORT of the head; `local`: a cluster of this machine alone is started, with a token of its own.

    Attributes:
        address: HOST:PORT of the head.
        is_own: Whether the cluster was started here and ends with `close`.

    Raises:
        RunError: Ray is not installed, nothing answers at the address, it refuses the token, or the cluster does
            not start.
    """

    def __init__(self, address: str) -> None:
        if importlib.util.find_spec("ray") is None:
            raise RunError("ray: is not installed; pip install 'antiphon[ray]'")
        self.is_own = address == LOCAL
        self._folder: Path | None = None
        for name, value in _QUIET.items():
            os.environ.setdefault(name, value)
        try:
            self.address = self._start() if self.is_own else self._join(address)
        except BaseException:
            self.close()
            raise

    def _start(self) -> str:
        constants = "ray._private.ray_constants"
        if "ray" in sys.modules and importlib.import_module(constants).ENABLE_RAY_CLUSTER:
            raise RunError(
                "ray: was imported before antiphon could restrict it to 127.0.0.1 with a token; "
                "import it later, or give the address of a cluster"
            )
        short = len(tempfile.gettempdir()) <= _LONGEST_FOLDER
        self._folder = Path(tempfile.mkdtemp(prefix="antiphon-", dir=None if short else "/tmp"))
        token = self._folder / "token"
        token.touch(0o600)
        token.write_text(_RAY_TOKEN)
        os.environ.pop("RAY_AUTH_TOKEN", None)
        os.environ |= {
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN_PATH": str(token),
            "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # as there by default, it listens on 127.0.0.1 alone
        }
        return _init(
            "ray: no cluster could be started on this machine",
            include_dashboard=False,
            _node_ip_address="127.0.0.1",
            _temp_dir=str(self._folder),
            object_store_memory=_OBJECT_STORE,
        )

    def _join(self, address: str) -> str:
        _check_answers(address)
        os.environ.setdefault("RAY_AUTH_MODE", "token")
        return _init(f"ray: the Ray cluster at {address} cannot be joined", address=address)

    def options(self, count: int, *, gpu: bool) -> dict[str, Any]:
        """Return Ray's options of as many processes: a cluster of others gives each a core and spreads them; with `gpu` each has one, or
        its share of those there are."""
        gpus = importlib.import_module("ray").cluster_resources().get("GPU", 0.0) if gpu else 0.0
        return {
            "num_cpus": 0 if self.is_own else 1,
            "num_gpus": min(1.0, int(1000 * gpus / count) / 1000),
            "scheduling_strategy": "DEFAULT" if self.is_own else "SPREAD",
        }

    def close(self) -> None:
        """Leave the cluster, and end it where it was started here; a second call does nothing."""
        if "ray" in sys.modules:
            sys.modules["ray"].shutdown()
        if self._folder is not None:
            shutil.rmtree(self._folder, ignore_errors=True)


_open: dict[str, Any] = {"cluster": None, "users": 0}


@contextmanager
def open_cluster(address: str) -> Iterator[RayCluster]:
    """Yield the cluster of this process, which is opened for the first that asks and closed after the last.

    Raises:
        RunError: See `RayCluster`, or the process is connected to another cluster.
    """
    cluster = _open["cluster"]
    if cluster is None:
        cluster = _open["cluster"] = RayCluster(address)
        atexit.register(cluster.close)
    elif address != (LOCAL if cluster.is_own else cluster.address):
        raise RunError(
            f"ray: this process is connected to the Ray cluster at {cluster.address}; close what uses it first"
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


def _init(failure: str, **settings: Any) -> str:
    """Connect to a cluster or start one, and return its address; signal handlers stay as they are."""
    ray = importlib.import_module("ray")
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if main else None
    quiet = {"log_to_driver": False, "configure_logging": False, "logging_level": "ERROR"}
    try:
        return str(ray.init(**quiet, **settings).address_info["gcs_address"])
    except Exception as error:  # noqa: BLE001  (Ray raises many kinds)
        raise RunError(f"{failure} ({first_line(error)})") from None
    finally:
        if main:
            signal.signal(signal.SIGTERM, handler)


def _check_answers(address: str) -> None:
    """Raise RunError unless something listens at HOST:PORT; Ray itself tries for minutes."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), _CONNECT).close()
    except (OSError, ValueError) as error:
        raise RunError(
            f"ray: nothing answers at {address!r} ({error}); start a cluster with `ray start --head`, which prints its "
            "HOST:PORT, or leave it out for one of this machine"
        ) from None
