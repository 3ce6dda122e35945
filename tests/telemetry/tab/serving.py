"""TensorBoard's application over a log directory, and the answers of the Channels tab's routes."""

from __future__ import annotations

import contextlib
import struct
import subprocess
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from werkzeug.test import Client, TestResponse

with warnings.catch_warnings():
    warnings.filterwarnings("ignore", "html5lib's sanitizer is deprecated")
    from tensorboard.backend import application  # type: ignore[import-untyped]
    from tensorboard.backend.event_processing import data_ingester  # type: ignore[import-untyped]
    from tensorboard.data import server_ingester  # type: ignore[import-untyped]
    from tensorboard.plugins.core import core_plugin  # type: ignore[import-untyped]
    from tensorboard.program import TensorBoard  # type: ignore[import-untyped]
    from tensorboard.util import grpc_util  # type: ignore[import-untyped]

from tests.kit.tab import ChannelsLoader


def client(logdir: Path, data: Any = None, **flags: Any) -> Client:
    """Return a client of TensorBoard's application; without `data` its slow loader has read the folder once."""
    board = TensorBoard(plugins=[core_plugin.CorePluginLoader, ChannelsLoader])
    board.configure(("", "--logdir", str(logdir), "--load_fast=false", "--reload_interval=0"), **flags)
    board.flags.reload_task = "blocking"
    if data is None:
        ingester = data_ingester.LocalDataIngester(board.flags)
        ingester.start()
        data = ingester.data_provider
    return Client(application.TensorBoardWSGIApp(board.flags, board.plugin_loaders, data))


@contextlib.contextmanager
def fast_data(logdir: Path, port_file: Path, samples: str = "antiphon=1000") -> Iterator[Any]:
    """Yield the data provider of a data server in a process of its own."""
    try:
        binary = server_ingester.get_server_binary().path
    except server_ingester.NoDataServerError as error:
        pytest.skip(f"no data server for this platform: {error}")
    command = [binary, f"--logdir={logdir}", "--port=0", f"--port-file={port_file}", "--reload=once"]
    process = subprocess.Popen([*command, f"--samples-per-plugin={samples}"])
    try:
        wait_for(lambda: port_file.exists() and port_file.read_text().endswith("\n"))
        address = f"localhost:{int(port_file.read_text())}"
        local = grpc_util.ChannelCredsType.LOCAL
        yield server_ingester.ExistingServerDataIngester(address, channel_creds_type=local).data_provider
    finally:
        process.kill()
        process.wait()


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "TensorBoard's data server has nothing to say"
        time.sleep(0.02)


def get(found: Client, path: str, **query: Any) -> TestResponse:
    return found.get(f"/data/plugin/antiphon/{path}", query_string=query)


def decoded(response: TestResponse) -> tuple[list[float], np.ndarray[Any, Any]]:
    """Decode as the browser does."""
    assert (response.status_code, response.content_type) == (200, "application/octet-stream"), response.text
    count, items = struct.unpack_from("<II", response.data)
    steps = np.frombuffer(response.data, "<f8", count, 8)
    values = np.frombuffer(response.data, "<f4", offset=8 + 8 * count)
    return steps.tolist(), values.reshape(count, items)
