"""Digests of a run directory made anew, as by somebody who changes its files by hand."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path
from typing import Any

from antiphon.base.manifests import (
    FORMAT,
    GrowingFile,
    checkpoints,
    entry_of,
    read_checked,
    write_checked,
    write_manifest,
)
from antiphon.errors import RunError


def rewrite_state(folder: Path, text: str) -> None:
    """Write another state.json into a checkpoint, with a digest of its own."""
    (folder / "manifest.json").unlink()
    (folder / "state.json").write_text(text)
    write_manifest(folder)


def rewrite_facts(run: Path, **facts: Any) -> None:
    """Write other facts into run.json, with a digest of its own; those of the other files stay. `...` takes one out."""
    known = read_checked(run / "run.json") | facts
    write_checked(run / "run.json", {key: value for key, value in known.items() if value is not ...})


def rewrite_lineage(population: Path, lineage: list[dict[str, Any]]) -> None:
    """Write another lineage into population.json, with a digest of its own."""
    place = population / "population.json"
    write_checked(place, read_checked(place) | {"lineage": lineage})


def resign(run: Path, **facts: Any) -> None:
    """Renew all digests of a run directory, or make its manifest; `facts` are changed in run.json, `...` takes one out."""
    for folder in checkpoints(run):
        (folder / "manifest.json").unlink(missing_ok=True)
        write_manifest(folder)
    path = run / "run.json"
    before = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    before.pop("sha256", None)
    known = {"format": FORMAT, "files": {"scenario.yaml": {}}, "checkpoints": {}, **before, **facts}
    with suppress(AttributeError, KeyError, TypeError, RunError):  # they are no entries any more
        for name in known["files"]:
            if (run / name).exists():
                known["files"][name] = entry_of(run / name)
        for entries in known["checkpoints"].values():
            for name, entry in entries.items():
                if (run / name).exists():
                    entries[name] = GrowingFile(run / name).entry(entry["bytes"])
    write_checked(path, {key: value for key, value in known.items() if value is not ...})
