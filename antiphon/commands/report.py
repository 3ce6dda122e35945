"""The command `report`: runs as one HTML file."""

from __future__ import annotations

import csv
import json as json_text
import os
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import antiphon
from antiphon.base.errors import RunError, with_count
from antiphon.base.files import display_path, fitting, open_text, read_bytes, write_bytes
from antiphon.base.spec import channel_name
from antiphon.commands import options
from antiphon.commands.report_sections import population_section, study_section, study_variants
from antiphon.running.directory import STUDY, RunDirectory, now
from antiphon.telemetry.html_report import ReportRun
from antiphon.telemetry.html_report import report as page_of
from antiphon.telemetry.tab.documents import LINEAGE_FIGURE
from antiphon.telemetry.tab.reading import read_run
from antiphon.terminal.output import console, print_json, remark


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
    if output.is_dir():
        raise RunError(f"-o {output}: is a folder; name a file, for example {output / 'report.html'}")
    if output.exists() and not output.is_file():
        raise RunError(f"-o {output}: is not a regular file; choose another path")
    if not output.parent.is_dir():
        raise RunError(f"-o {output}: no folder {output.parent}; create it first")
    paths = [*{path.resolve(): path for path in paths}.values()]  # each once
    directories = _expanded(paths)
    names = _names([directory.path for directory in directories])
    variants = {folder: name for path in paths for folder, name in study_variants(path).items()}
    runs = [
        _run(directory, name, variants.get(directory.path.resolve(), ""))
        for directory, name in zip(directories, names, strict=True)
    ]
    footer = f"Made with antiphon {antiphon.__version__}, {now()}."
    by_directory = {directory.path.resolve(): run for directory, run in zip(directories, runs, strict=True)}
    sections = [study_section(path, by_directory) for path in paths if (path / STUDY).is_file()]
    sections += [
        population_section(path, by_directory) for path in paths if (path / LINEAGE_FIGURE).is_file()
    ]
    order = [name for section in sections for name in section.runs]  # their order is that of their tables
    runs.sort(key=lambda run: order.index(run.name) if run.name in order else len(order))
    content = page_of(runs, footer=footer, sections=sections).encode()
    write_bytes(Path(os.path.realpath(output)), content)
    for run in runs:
        for note in run.notes:
            remark(f"warning: {run.name}: {note}", "yellow")
    if json:
        print_json({"report": str(output), "bytes": len(content), "runs": [run.path for run in runs]})
        return
    size = f"{with_count(len(runs), 'run')}, {len(content) / 1e6:.1f} MB"
    console().print(f"written      {display_path(output)} ({size})", soft_wrap=True, markup=False)


def _expanded(paths: Sequence[Path]) -> list[RunDirectory]:
    """Return the named runs and those in named folders, each once."""
    by_path: dict[Path, RunDirectory] = {}
    for path in paths:
        if (path / "run.json").exists() or not path.is_dir():
            by_path.setdefault(path.resolve(), RunDirectory.open(path))
            continue
        inside = list(_inside(path)) or _of_seeds(path)
        if not inside:
            begins = f"antiphon run SCENARIO --logdir {shlex.quote(display_path(path))} writes one"
            raise RunError(f"{path}: contains no run (a run directory has a run.json); {begins}")
        for folder in inside:
            try:
                by_path.setdefault(folder.resolve(), RunDirectory.open(folder))
            except RunError as error:
                remark(f"warning: skipped: {error}", "yellow")
    if not by_path:
        raise RunError(
            f"{paths[0]}: contains no run that can be read; name others, or see the warnings above"
        )
    return list(by_path.values())


def _inside(folder: Path) -> Iterator[Path]:
    """Yield the run directories below a folder; unfinished ones begin with a dot and are skipped."""
    for parent, folders, files in os.walk(folder):
        if "run.json" in files:
            folders.clear()
            yield Path(parent)
        else:
            folders[:] = sorted(name for name in folders if not name.startswith("."))


def _of_seeds(folder: Path) -> list[Path]:
    """Return the runs that a folder of `run --seeds` sums up, which are beside it."""
    path = folder / "seeds.json"
    if not path.exists():
        return []
    with fitting(path):
        names = [Path(row["run_dir"]).name for row in json_text.loads(read_bytes(path))["seeds"]]
    beside = [folder.resolve().parent / name for name in names]
    return [path for path in beside if (path / "run.json").exists()]


def _names(folders: Sequence[Path]) -> list[str]:
    """Return a unique name for each folder: its own, or where those are equal its path from the common parent."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) == len(names):
        return names
    resolved = [folder.resolve() for folder in folders]
    shared = os.path.commonpath(resolved)
    return [str(path.relative_to(shared)) for path in resolved]


def _run(directory: RunDirectory, name: str, of_study: str) -> ReportRun:
    """Read a run; what cannot be read of it is noted."""
    contents: dict[str, Any] = {}
    notes = []
    for key, read in (
        ("result", lambda: directory.result or {}),
        ("document", lambda: directory.document),
        ("settings", lambda: dict(_leaves(directory.values, ""))),
        ("data", lambda: read_run(directory.path)),
        ("env", lambda: _environment(directory.verified("metrics.csv"))),
    ):
        try:
            contents[key] = read()
        except RunError as error:
            notes.append(str(error))
    return ReportRun(
        name=name,
        path=display_path(directory.path),
        facts=directory.facts,
        notes=notes,
        member=(directory.path.parent / LINEAGE_FIGURE).is_file(),
        of_study=of_study,
        **contents,
    )


def _leaves(value: Any, place: str) -> Iterator[tuple[str, str]]:
    """Yield the single settings of a scenario file as texts by their place, those of channels by their names."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from _leaves(inner, f"{place}.{key}" if place else str(key))
    elif place == "channels":
        for channel in value:
            name = channel_name(str(channel["from"]), str(channel["to"]), channel.get("key", 0))
            yield from _leaves(channel, name)
    else:
        yield place, json_text.dumps(value).strip('"')


def _environment(table: Path) -> dict[str, dict[int, float]]:
    """Return the environment's metrics of a metrics.csv by step; of its lines, maybe millions, only theirs are parsed."""
    by_metric: dict[str, dict[int, float]] = {}
    with fitting(table), open_text(table) as file:
        lines = (line for line in file if ",env,," in line and line.endswith("\n"))
        for step, kind, _, metric, value in csv.reader(lines):
            if kind == "env":
                by_metric.setdefault(metric, {})[int(step)] = float(value)
    return by_metric
