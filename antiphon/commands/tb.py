"""The command `tb`."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from antiphon.base.errors import RunError
from antiphon.commands import options
from antiphon.jobs.sources import logdir_root

_TAB = "#antiphon"
"""The part of TensorBoard's address that shows the Channels tab."""
_SAMPLES = "scalars=10000,images=100,text=100"
"""Points that TensorBoard keeps of each curve; its default drops most pictures."""


def tb(
    path: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="A run, a study, or a folder of runs.")
    ] = None,
    port: Annotated[int | None, options.count("P", "Port (default: 6006).", least=0, most=65_535)] = None,
) -> None:
    """Open TensorBoard on runs, with enough samples to show every step."""
    folder = logdir_root(path)
    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder; name a run directory or a folder of runs")
    arguments = ["--logdir", str(folder), "--samples_per_plugin", _SAMPLES]
    serve(arguments if port is None else [*arguments, "--port", str(port)])


def serve(arguments: Sequence[str]) -> None:
    """Serve TensorBoard with some arguments, print the address of the Channels tab, and wait for Ctrl-C."""
    from tensorboard.program import TensorBoard, TensorBoardServerException  # type: ignore[import-untyped]

    board = TensorBoard()
    board.configure(("tensorboard", *arguments))
    try:
        address = board.launch() + _TAB
    except TensorBoardServerException as error:
        raise RunError(f"tb: {' '.join(str(error).split())}; choose another --port") from None
    print(f"Channels tab  {address}", flush=True)
    print("Ctrl-C ends TensorBoard")
    threading.Event().wait()
