"""The command `tb`."""

from __future__ import annotations

import os
import sys
import threading
import webbrowser
from collections.abc import Sequence
from glob import iglob
from pathlib import Path
from typing import Annotated

import typer

from antiphon.base.errors import RunError, is_terminal
from antiphon.commands import options
from antiphon.jobs.sources import logdir_root
from antiphon.terminal.output import print_json, remark, write_line

_TAB = "#antiphon"
"""The part of TensorBoard's address that shows the Channels tab."""

_EVENTS = "**/events.out.tfevents.*"
"""What TensorBoard shows of a folder: event files, whoever wrote them."""
_SAMPLES = "scalars=10000,images=100,text=100"
"""Points that TensorBoard keeps of each curve; its default drops most pictures."""


def tb(
    path: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="A run, a study, or a folder of runs.")
    ] = None,
    port: Annotated[int | None, options.count("P", "Port (default: 6006).", least=0, most=65_535)] = None,
    json: options.Json = False,
) -> None:
    """Serve TensorBoard until Ctrl-C; with `json`, print the command instead."""
    folder = logdir_root(path)
    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder; name a run directory or a folder of runs")
    arguments = ["--logdir", str(folder), "--samples_per_plugin", _SAMPLES]
    arguments += [] if port is None else ["--port", str(port)]
    if json:
        command = [sys.executable, "-m", "tensorboard.main", *arguments]
        print_json({"logdir": str(folder), "command": command})
        return
    if not any(iglob(_EVENTS, root_dir=folder, recursive=True)):
        remark(f"{folder}: has no run yet; a run is shown from its first log entry on")
    serve(arguments)


def serve(arguments: Sequence[str]) -> None:
    """Serve TensorBoard, print the address of the Channels tab, open it where there is a screen, and wait for Ctrl-C.

    Args:
        arguments: TensorBoard's, after its name.

    Raises:
        RunError: The port is in use.
        KeyboardInterrupt: Ctrl-C.
    """
    from tensorboard.program import TensorBoard, TensorBoardServerException  # type: ignore[import-untyped]

    board = TensorBoard()
    board.configure(("tensorboard", *arguments))
    try:
        address = board.launch() + _TAB
    except TensorBoardServerException as error:
        raise RunError(f"tb: {' '.join(str(error).split())}; choose another --port") from None
    write_line(f"Channels tab  {address}")
    write_line("Ctrl-C ends TensorBoard")
    if is_terminal(sys.stdout) and (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        webbrowser.open(address)
    threading.Event().wait()
