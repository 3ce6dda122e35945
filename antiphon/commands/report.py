"""The command `report`: runs as one HTML file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

import antiphon
from antiphon.base.errors import RunError, with_count
from antiphon.base.files import display_path, write_bytes
from antiphon.commands import options
from antiphon.running.directory import RunDirectory, now

if TYPE_CHECKING:
    from antiphon.telemetry.report import ReportRun


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
) -> None:
    """Write runs to one self-contained HTML file: results, training curves, rankings and the Channels tab."""
    from antiphon.telemetry.report import report as page_of  # loads TensorBoard, which help does not need

    files = [file.absolute() for path in paths for file in sorted(path.rglob("run.json"))]
    folders = [file.parent for file in dict.fromkeys(files)]
    if not folders:
        raise RunError(f"{', '.join(map(str, paths))}: contains no run (a run directory has a run.json)")
    alike = len({folder.name for folder in folders}) < len(folders)
    runs = [_run(folder, display_path(folder) if alike else folder.name) for folder in folders]
    content = page_of(runs, f"Made with antiphon {antiphon.__version__}, {now()}.").encode()
    write_bytes(output, content)
    size = f"{with_count(len(runs), 'run')}, {len(content) / 1e6:.1f} MB"
    print(f"written      {display_path(output)} ({size})")


def _run(folder: Path, name: str) -> ReportRun:
    from antiphon.telemetry.report import ReportRun
    from antiphon.telemetry.tab.reading import read_run

    directory = RunDirectory.open(folder)
    return ReportRun(
        name=name,
        facts=directory.facts,
        result=directory.result or {},
        document=directory.document,
        data=read_run(folder),
    )
