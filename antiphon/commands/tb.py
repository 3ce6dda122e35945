"""The command `tb`."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from antiphon.commands import options
from antiphon.commands.arguments import logdir_root
from antiphon.errors import RunError
from antiphon.terminal.output import print_json

__all__ = ["tb"]

_SAMPLES = "scalars=10000,images=100,histograms=1000,distributions=1000,text=100"
"""Points that TensorBoard keeps of each curve; its default drops most histograms and pictures."""


def tb(
    path: Annotated[
        Path | None, typer.Argument(metavar="[DIR]", help="A run, a study, or a folder of runs.")
    ] = None,
    port: Annotated[
        int | None,
        typer.Option("--port", parser=options.whole(0, 65_535), metavar="P", help="Port (default: 6006)."),
    ] = None,
    json: options.Json = False,
) -> None:
    """Replace this process by TensorBoard; with `json`, print the command instead.

    Raises:
        RunError: There is no such folder.
    """
    folder = logdir_root(path)
    if not folder.is_dir():
        raise RunError(f"{folder}: no such folder; name a run directory or a folder of runs")
    command = [
        sys.executable,
        "-m",
        "tensorboard.main",
        "--logdir",
        str(folder),
        "--samples_per_plugin",
        _SAMPLES,
    ]
    command += [] if port is None else ["--port", str(port)]
    if json:
        print_json({"logdir": str(folder), "command": command})
        return
    os.execv(command[0], command)
