"""The command `export`: a checkpoint of a run as a file that is read without antiphon: its system or its weights."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from antiphon.base.files import display_path
from antiphon.commands import options
from antiphon.jobs.sources import simulation_at
from antiphon.running.directory import RunDirectory


def export(
    path: options.Run,
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", help="The suffix selects the format: .pt2 or .safetensors."),
    ],
    python: options.PythonObjects = None,
    checkpoint: options.Checkpoint = None,
    agents: Annotated[
        list[str] | None,
        options.text(
            "NAME",
            "Agent to export: its outputs (default: readouts) or weights (default: all); may be repeated.",
            "--agent",
        ),
    ] = None,
) -> None:
    """Export a run's system or its weights to a file that can be read without antiphon."""
    with simulation_at(RunDirectory.open(path), checkpoint, python) as simulation:
        written = simulation.export(file, agents or None)
    print(f"written      {display_path(written)} ({written.stat().st_size:,} bytes)")
