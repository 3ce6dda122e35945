"""The verb `tb`."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from antiphon.commands.arguments import logdir_root
from antiphon.commands.output import print_json
from antiphon.errors import RunError

__all__ = ["tb"]

_SAMPLES = "scalars=10000,images=100,histograms=1000,distributions=1000,text=100,custom_scalars=10000"
"""Points that TensorBoard keeps of each curve; its default drops most histograms and pictures."""


def tb(path: Path | None, *, port: int | None, json: bool) -> None:
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
