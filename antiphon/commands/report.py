"""The verb `report`: runs as one HTML file."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path
from typing import Any

import antiphon
from antiphon.commands.output import console, display_path, print_json, remark
from antiphon.engine.runs.directory import RunDirectory, now
from antiphon.errors import RunError
from antiphon.files import digest_of, read_bytes, read_object, write_bytes
from antiphon.formats import check_format
from antiphon.telemetry.channels.reading import read_run
from antiphon.telemetry.parts.part_figures import PartFigures
from antiphon.telemetry.parts.parts_csv import read_parts
from antiphon.telemetry.report.report import report as page_of
from antiphon.telemetry.report.run import Picture, ReportRun, grouped, read_table

__all__ = ["report"]

_LIVE = 24
"""Most runs in the live graph; of each group the first ones."""
_HASHED = ("scenario.yaml", "metrics.csv", "parts.csv", "result.json")
_PICTURES = ("rdm.png", "similarity.png", "probes.png", "weights.png", "implied.png")
_PNG = b"\x89PNG\r\n\x1a\n"
_PICTURE_BYTES = 1_500_000
"""Of a picture, at most."""
_ALL_PICTURES = 6_000_000
"""Of all pictures together."""


def report(paths: Sequence[Path], output: Path, *, json: bool) -> None:
    """Write the report of some runs atomically, and print its path.

    Raises:
        RunError: There is no run, one is damaged, or the page cannot be written.
    """
    if output.is_dir():
        raise RunError(f"-o {output}: is a folder; name a file, for example {output / 'report.html'}")
    if output.exists() and not output.is_file():
        raise RunError(f"-o {output}: is no file that can be replaced; choose another place")
    if not output.parent.is_dir():
        raise RunError(f"-o {output}: no folder {output.parent}; make it first")
    runs = _with_data(_read(_expanded(paths)))
    made = f"Made with antiphon {antiphon.__version__}, {now()}."
    text = page_of(runs, made=made)
    size = _write(output, text)
    for run in runs:
        for note in run.notes:
            remark(f"warning: {run.name}: {note}", "yellow")
    if json:
        print_json({"report": str(output), "bytes": size, "runs": [run.path for run in runs]})
        return
    count = f"{len(runs)} run{'s' * (len(runs) > 1)}"
    console().print(
        f"written      {display_path(output)} ({count}, {size / 1e6:.1f} MB)", soft_wrap=True, markup=False
    )


# --- which runs -----------------------------------------------------------------------------------------------


def _expanded(paths: Sequence[Path]) -> list[RunDirectory]:
    """Return the named runs and those in named folders, each once."""
    found: dict[Path, RunDirectory] = {}
    for path in paths:
        if (path / "run.json").exists() or not path.is_dir():
            found.setdefault(path.resolve(), RunDirectory.open(path))
            continue
        inside = list(_inside(path)) or _of_seeds(path)
        if not inside:
            raise RunError(f"{path}: no run there, nor in its folders (a run directory holds run.json)")
        for folder in inside:
            try:
                found.setdefault(folder.resolve(), RunDirectory.open(folder))
            except RunError as error:
                remark(f"warning: left out: {error}", "yellow")
    if not found:
        raise RunError(f"{paths[0]}: no run there that can be read")
    return list(found.values())


def _inside(folder: Path) -> Iterator[Path]:
    """Yield the run directories below a folder; unfinished ones begin with a dot and are skipped."""
    for place, folders, files in os.walk(folder):
        if "run.json" in files:
            folders.clear()
            yield Path(place)
        else:
            folders[:] = sorted(name for name in folders if not name.startswith("."))


def _of_seeds(folder: Path) -> list[Path]:
    """Return the runs summarised by a folder, as written by `run --seeds` beside them."""
    summary = _json(folder / "seeds.json")
    if "format" in summary:
        check_format("seeds", summary["format"], folder / "seeds.json")
    rows = summary.get("seeds")
    names = (
        [Path(str(row.get("run_dir"))).name for row in rows if isinstance(row, Mapping)]
        if isinstance(rows, list)
        else []
    )
    beside = [folder.resolve().parent / name for name in names]
    return [path for path in beside if (path / "run.json").exists()]


def _names(folders: Sequence[Path]) -> list[str]:
    """Return a unique name for each folder: its own, or where those are equal its path from the common parent."""
    names = [folder.resolve().name for folder in folders]
    if len(set(names)) == len(names):
        return names
    whole = [folder.resolve() for folder in folders]
    shared = os.path.commonpath(whole)
    return [str(path.relative_to(shared)) for path in whole]


# --- contents -------------------------------------------------------------------------------------------------


def _read(directories: Sequence[RunDirectory]) -> list[ReportRun]:
    """Read the runs without the data of their graphs; pictures up to their size limit, all runs' included."""
    names = _names([directory.path for directory in directories])
    found, left = [], _ALL_PICTURES
    for directory, name in zip(directories, names, strict=True):
        found.append(_run(directory, name, left))
        left -= sum(len(picture.content) for picture in found[-1].pictures)
    return found


def _run(directory: RunDirectory, name: str, picture_bytes: int) -> ReportRun:
    path = directory.path
    notes: list[str] = []
    text, document, not_recorded = "", {}, ["the whole scenario"]
    try:
        text = directory.document
        document, not_recorded = directory.values, directory.not_recorded
    except (RunError, UnicodeError) as error:
        notes.append(f"The scenario cannot be read: {error}")
    table = read_table(path / "metrics.csv")
    if table.damage:
        notes.append(f"{table.damage}.")
    parts: dict[int, list[PartFigures]] = {}
    try:
        parts = read_parts(path / "parts.csv")
    except RunError as error:
        notes.append(f"The figures of parts cannot be read: {error}")
    result = _json(path / "result.json")
    if not result and directory.facts.get("exit") == "done":
        notes.append("Its result.json is not there, or damaged.")
    return ReportRun(
        name=name,
        path=display_path(path),
        facts=directory.facts,
        result=result,
        text=text,
        document=document,
        not_recorded=not_recorded,
        measured=_json(path / "measured.json"),
        table=table,
        parts=parts[max(parts)] if parts else (),
        pictures=_pictures(path, picture_bytes, notes),
        digests={file: digest for file in _HASHED if (digest := _digest(path / file)) is not None},
        notes=notes,
    )


def _with_data(runs: Sequence[ReportRun]) -> list[ReportRun]:
    """Read the live graph's data, up to its number of runs: the first of every group, then the second, …"""
    turns = chain.from_iterable(zip_longest(*(group.runs for group in grouped(runs))))
    chosen = {run.name for run in [run for run in turns if run is not None][:_LIVE]}
    found = []
    for run in runs:
        if run.name not in chosen:
            found.append(
                replace(run, notes=[*run.notes, f"Not in the live graph, which takes {_LIVE} runs."])
            )
            continue
        try:
            found.append(replace(run, data=read_run(Path(run.path))))
        except RunError as error:
            found.append(replace(run, notes=[*run.notes, f"Not in the live graph: {error}"]))
    return found


def _pictures(folder: Path, left: int, notes: list[str]) -> list[Picture]:
    """Return the newest pictures of `evaluate --represent` in a run directory, and note those that are left out."""
    made = sorted(folder.rglob("representations.npz"), key=lambda path: path.stat().st_mtime)
    beside = [made[-1].with_name(name) for name in _PICTURES] if made else []
    pictures = []
    for path in beside:
        if not path.is_file():
            continue
        try:
            content = read_bytes(path)
        except RunError as error:
            notes.append(f"A picture is left out: {error}.")
            continue
        if not content.startswith(_PNG):
            notes.append(f"{path.name} is no picture.")
        elif len(content) > min(_PICTURE_BYTES, left):
            notes.append(f"{path.name} is left out: {len(content) / 1e6:.1f} MB.")
        else:
            left -= len(content)
            pictures.append(Picture(path.name, "image/png", content))
    return pictures


def _json(path: Path) -> dict[str, Any]:
    """Return the object in a file; an empty one where there is none, or a damaged one."""
    try:
        return read_object(path)
    except RunError:
        return {}


def _digest(path: Path) -> str | None:
    try:
        return digest_of(path)
    except RunError:
        return None


def _write(path: Path, text: str) -> int:
    """Write a page atomically, and return its size in bytes; on failure the old file is kept."""
    content = text.encode(errors="backslashreplace")
    try:
        write_bytes(Path(os.path.realpath(path)), content)
    except RunError as error:
        reason = getattr(error.__cause__, "strerror", None) or error
        raise RunError(f"-o {path}: cannot be written ({reason}); choose another place") from None
    return len(content)
