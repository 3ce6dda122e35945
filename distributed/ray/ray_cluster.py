"""The Ray cluster that parts run on: one of this machine alone, started here, or one that is there already.

Ray is imported when a cluster is opened, never before.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from antiphon.base.errors import RunError, first_line

LOCAL = "local"
"""A cluster of this machine alone, started for the run."""
_OBJECT_STORE = 200 * 2**20
"""Bytes of shared memory for what actors send; more is spilled to disk."""
_CONNECT = 5.0
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS_SKIP_REGEX": ".*",  # else lines about processes that died go to stdout
}
_LONGEST_FOLDER = 20
"""Characters: Ray's sockets are in a folder of it, and the path of a socket has at most 107."""
_RAY_TOKEN = secrets.token_hex(32)
"""Ray reads a token once in a process."""


@contextmanager
def open_cluster(address: str) -> Iterator[None]:
    """Connect this process to a cluster, of which it has one at a time: HOST:PORT of the head, or `local`, one of this machine alone.

    RunError: Ray is not installed, or the cluster does not answer or start.
    """
    if importlib.util.find_spec("ray") is None:
        raise RunError("ray: is not installed; pip install 'antiphon[ray]'")
    for name, value in _QUIET.items():
        os.environ.setdefault(name, value)
    with ExitStack() as resources:
        if address == LOCAL:
            _start(resources)
        else:
            _check_answers(address)
            os.environ.setdefault("RAY_AUTH_MODE", "token")
            _init(f"ray: the Ray cluster at {address} cannot be joined", address=address)
        resources.callback(importlib.import_module("ray").shutdown)
        yield


def _start(resources: ExitStack) -> None:
    constants = "ray._private.ray_constants"
    if "ray" in sys.modules and importlib.import_module(constants).ENABLE_RAY_CLUSTER:
        raise RunError(
            "ray: was imported before antiphon could restrict it to 127.0.0.1 with a token; "
            "import it later, or give the address of a cluster"
        )
    where = None if len(tempfile.gettempdir()) <= _LONGEST_FOLDER else "/tmp"
    temporary = tempfile.TemporaryDirectory(prefix="antiphon-", dir=where, ignore_cleanup_errors=True)
    folder = resources.enter_context(temporary)
    token = Path(folder, "token")
    token.touch(0o600)
    token.write_text(_RAY_TOKEN)
    os.environ.pop("RAY_AUTH_TOKEN", None)
    os.environ |= {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER": "0",  # as there by default, it listens on 127.0.0.1 alone
    }
    _init(
        "ray: no cluster could be started on this machine",
        include_dashboard=False,
        _node_ip_address="127.0.0.1",
        _temp_dir=folder,
        object_store_memory=_OBJECT_STORE,
    )


def _init(failure: str, **settings: Any) -> None:
    """Connect to a cluster or start one; signal handlers stay as they are."""
    ray = importlib.import_module("ray")
    main = threading.current_thread() is threading.main_thread()
    handler = signal.getsignal(signal.SIGTERM) if main else None
    quiet = {"log_to_driver": False, "configure_logging": False, "logging_level": "ERROR"}
    try:
        ray.init(**quiet, **settings)
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
