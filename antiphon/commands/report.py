"""The command `report`: runs as one HTML file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer

import antiphon
from antiphon.base.errors import RunError, with_count
from antiphon.base.files import display_path, write_bytes
from antiphon.commands import options
from antiphon.running.directory import RunDirectory, now
from antiphon.telemetry.report import ReportRun
from antiphon.telemetry.report import report as page_of
from antiphon.telemetry.tab.reading import read_run
from antiphon.terminal.output import print_json, write_line


def report(
    paths: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN…", help="Run directories, or folders of runs (a study, a log directory)."
        ),
    ],
    output: Annotated[
        Path, options.text("FILE", "The HTML file; an existing one is replaced.", "--output", "-o")
    ] = Path("report.html"),
    json: options.Json = False,
) -> None:
    """Write the report of some runs atomically, and print its path."""
    folders = list(dict.fromkeys(folder.resolve() for path in paths for folder in _runs_in(path)))
    runs = [_run(folder, name) for folder, name in zip(folders, _names(folders), strict=True)]
    footer = f"Made with antiphon {antiphon.__version__}, {now()}."
    content = page_of(runs, footer).encode()
    write_bytes(Path(os.path.realpath(output)), content)
    if json:
        print_json({"report": str(output), "bytes": len(content), "runs": [run.name for run in runs]})
    else:
        size = f"{with_count(len(runs), 'run')}, {len(content) / 1e6:.1f} MB"
        write_line(f"written      {display_path(output)} ({size})")


def _runs_in(path: Path) -> Iterator[Path]:
    """Yield the run directories in a folder, or the folder itself where it is one; unfinished ones begin with a dot and are skipped."""
    found = False
    for parent, folders, files in os.walk(path):
        if "run.json" in files:
            folders.clear()
            found = True
            yield Path(parent)
        else:
            folders[:] = sorted(name for name in folders if not name.startswith("."))
    if not found:
        raise RunError(f"{path}: contains no run (a run directory has a run.json)")


def _names(folders: Sequence[Path]) -> list[str]:
    """Return a unique name for each folder: its own, or where those are equal its path from the common parent."""
    names = [folder.name for folder in folders]
    if len(set(names)) == len(names):
        return names
    shared = os.path.commonpath(folders)
    return [str(folder.relative_to(shared)) for folder in folders]


def _run(folder: Path, name: str) -> ReportRun:
    directory = RunDirectory.open(folder)
    return ReportRun(
        name=name,
        facts=directory.facts,
        result=directory.result or {},
        document=directory.document,
        data=read_run(folder),
    )
