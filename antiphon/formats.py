"""Formats of files: the version of each that is written, the versions that are read, and migrations from older ones.

A file says its version under `format`; run.json also has those of the files beside it that cannot say it themselves
(`formats`). Loads without torch.
"""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from antiphon.errors import RunError

__all__ = ["FORMATS", "OWN", "Format", "check_format", "check_formats", "migrated", "versions"]

try:
    OWN = importlib.metadata.version("antiphon")
    """The version of this antiphon, as files have it."""
except importlib.metadata.PackageNotFoundError:
    OWN = "not installed"
Migration = Callable[[dict[str, Any]], dict[str, Any]]
"""Turns the data of a file of one version into that of the next."""


@dataclass(frozen=True)
class Format:
    """The format of a kind of file.

    Attributes:
        what: Name of the kind, in the singular.
        files: Names of its files.
        history: By version, from 1: the first antiphon that wrote it.
        migrations: By older version that is still read: what leads to the next one.
    """

    what: str
    files: str
    history: tuple[str, ...] = ("0.1.0",)
    migrations: Mapping[int, Migration] = field(default_factory=dict)

    @property
    def version(self) -> int:
        """The version that is written."""
        return len(self.history)

    @property
    def oldest(self) -> int:
        """The oldest version that is read: from each on there is a migration."""
        oldest = self.version
        while oldest - 1 in self.migrations:
            oldest -= 1
        return oldest

    @property
    def read(self) -> str:
        """The versions that are read: `1`, or `1 to 3`."""
        return str(self.version) if self.oldest == self.version else f"{self.oldest} to {self.version}"


FORMATS: Mapping[str, Format] = {
    "run": Format("run directory", "run.json, result.json, measured.json"),
    "scenario": Format("scenario of a run", "scenario.yaml"),
    "checkpoint": Format("checkpoint", "checkpoints/step-*/state.json, state.safetensors"),
    "metrics": Format("table of figures", "metrics.csv"),
    "parts": Format("table of parts", "parts.csv"),
    "channels": Format("Channels tab's data", "events.out.tfevents.*"),
    "scores": Format("scores of a study's run", "evaluations.json", history=("0.1.0", "0.1.0")),
    "representations": Format("representations of a study's run", "representations.json"),
    "seeds": Format("summary over seeds", "seeds.json"),
    "weights": Format("exported weights", "*.safetensors"),
}
"""By kind. A change that an older antiphon would read wrongly, or not at all, adds a version, with a migration from the one
before and golden files of that one (tests/golden)."""


_ELSEWHERE = ("seeds", "weights")
"""Kinds of files that are in no run directory."""


def versions() -> dict[str, int]:
    """Return the version of each kind of file that this antiphon writes in a run directory."""
    return {kind: form.version for kind, form in FORMATS.items() if kind not in _ELSEWHERE}


def check_format(kind: str, version: object, place: object, writer: object = None) -> None:
    """Refuse a version that is not read.

    Args:
        kind: Of the file.
        version: As the file has it.
        place: The file, for the error.
        writer: The antiphon that wrote it; None: it is not known.

    Raises:
        RunError: The version is newer, no longer read, or none at all; the line says what wrote it and what reads it.
    """
    form = FORMATS[kind]
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        shown = repr(version)[:20]
        raise RunError(
            f"{place}: is damaged (format {shown} is no version of a {form.what}); restore the file from a copy"
        )
    if form.oldest <= version <= form.version:
        return
    own = f"antiphon {OWN}, which reads {form.read}"
    known = isinstance(writer, str) and writer.replace(".", "").isalnum() and len(writer) < 20
    written = f", written by antiphon {writer}," if known else ""
    if version > form.version:
        fix = f"use antiphon {writer} or newer" if known and writer != OWN else "use a newer antiphon"
        raise RunError(f"{place}: {form.what}, format {version}{written} is newer than {own}; {fix}")
    fix = f"use an antiphon from {form.history[version - 1]} to {form.history[form.oldest - 1]}"
    raise RunError(f"{place}: {form.what}, format {version}{written} is older than {own}; {fix}")


def check_formats(found: object, place: object, writer: object = None) -> None:
    """Check the versions of several kinds of file (`formats` of run.json); kinds that are not known are left alone.

    Raises:
        RunError: As `check_format`.
    """
    if not isinstance(found, Mapping):
        raise RunError(f"{place}: is damaged (formats); restore the file from a copy")
    for kind, version in found.items():
        if kind in FORMATS:
            check_format(kind, version, place, writer)


def migrated(kind: str, data: dict[str, Any], version: int) -> dict[str, Any]:
    """Return the data of a file of a version that is read as that of the version that is written."""
    form = FORMATS[kind]
    for older in range(version, form.version):
        data = form.migrations[older](data)
    return data
