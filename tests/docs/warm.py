"""A process that has imported antiphon and forks once per command: a command costs milliseconds, not seconds.

Run as a program with the path of a socket, it serves; `CLIENT` is a program that has a command carried out by it: with
its words, folder, environment and open files, as if it were `antiphon` itself.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import pkgutil
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

CLIENT = """\
#!{python} -SE
import json, os, socket, sys

with socket.socket(socket.AF_UNIX) as server:
    server.connect({address!r})
    asked = {{"words": sys.argv[1:], "folder": os.getcwd(), "environ": dict(os.environ)}}
    socket.send_fds(server, [b" "], [0, 1, 2])
    server.sendall(json.dumps(asked).encode() + b"\\n")
    sys.exit(int(server.makefile().readline() or "70"))
"""
"""Exit code 70: the process that carried the command out ended without one."""


@contextmanager
def warm(folder: Path) -> Iterator[str]:
    """Serve at a socket in `folder` (its path is short) and yield the path; whatever still runs is killed at the end."""
    address = folder / "socket"
    server = subprocess.Popen(
        [sys.executable, __file__, str(address)], stdout=subprocess.PIPE, start_new_session=True
    )
    try:
        assert server.stdout is not None
        assert server.stdout.readline() == b"ready\n"
        yield str(address)
    finally:
        os.killpg(server.pid, signal.SIGKILL)
        server.communicate()


def _serve(address: str) -> None:
    sys.path.pop(0)  # this file's folder, which the command `antiphon` does not have
    import antiphon

    for module in pkgutil.walk_packages(antiphon.__path__, "antiphon."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for a command but its client
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(address)
        listener.listen()
        print("ready", flush=True)
        while True:
            client, _ = listener.accept()
            with client:
                if os.fork() == 0:
                    listener.close()
                    _carry_out(client)


def _carry_out(client: socket.socket) -> None:
    """Be the command; never returns."""
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _, files, _, _ = socket.recv_fds(client, 1, 3)
    asked: dict[str, Any] = json.loads(client.makefile().readline())
    for number, file in enumerate(files):
        os.dup2(file, number)
        os.close(file)
    os.environ.clear()
    os.environ.update(asked["environ"])
    os.chdir(asked["folder"])
    code = 1
    try:
        from antiphon.cli import main

        sys.argv = ["antiphon", *asked["words"]]
        code = main()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except Exception:  # noqa: BLE001 (a command of its own would show it likewise)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        client.sendall(f"{code}\n".encode())
        os._exit(code)


if __name__ == "__main__":
    _serve(sys.argv[1])
