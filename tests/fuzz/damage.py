"""Damage to run directories: bytes, words, names, links and special files; and files that somebody wrote by hand."""

from __future__ import annotations

import json
import os
import re
import shutil
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.fuzz.conftest import Case
from tests.fuzz.hostile import HOSTILE_VALUES, changed
from tests.fuzz.mutation import mutated
from tests.kit.resigned import resign

MOST_BYTES = 2_000_000
"""Of a file whose content is made anew."""
OFTEN = {
    "run.json": 5,
    "state.json": 4,
    "manifest.json": 3,
    "scenario.yaml": 3,
    "metrics.csv": 3,
    "result.json": 2,
}
"""How often a file is chosen: the small ones that everything is read from, most of all."""


def damage(case: Case, run: Path) -> list[Path]:
    """Damage something in a run directory, and return which files; the log says how."""
    files = sorted(path for path in run.rglob("*") if path.is_file() and not path.is_symlink())
    if not files:
        return []
    path = case.choices(files, [OFTEN.get(path.name, 1) for path in files])[0]
    kind = case.choices(KINDS, WEIGHTS)[0]
    try:
        found = kind(case, path, run)
    except (OSError, IndexError):  # what it needs has become a folder, or is gone
        return []
    case.log.append(f"{kind.__name__}: {', '.join(str(path.relative_to(run)) for path in found)}")
    return found


def forge(case: Case, run: Path) -> list[Path]:
    """Change the content of a file of a run directory that is whole, and make the digests that belong to it."""
    change = case.choice((_change_json, _change_json, _change_words))
    found = change(case, run)
    if found:
        with suppress(UnicodeEncodeError):  # half a surrogate pair: no digest can belong to it
            resign(run)
        case.log.append(f"forged: {', '.join(str(path.relative_to(run)) for path in found)}")
    return found


# --- content --------------------------------------------------------------------------------------------------


def change_bytes(case: Case, path: Path, run: Path) -> list[Path]:
    """Flip, cut, insert or take away bytes."""
    path.write_bytes(mutated(case, path.read_bytes())[:MOST_BYTES])
    return [path]


def change_word(case: Case, path: Path, run: Path) -> list[Path]:
    """Change a number or word of a text."""
    text = path.read_bytes().decode("utf-8", "surrogateescape")
    words = list(re.finditer(r"[A-Za-z0-9_.]+", text[:MOST_BYTES]))
    if not words:
        return []
    word = case.choice(words)
    new = str(case.choice((*HOSTILE_VALUES, *(each[0] for each in words[:50]))))
    case.log.append(f"{word[0]!r} at {word.start()} is {new[:60]!r}")
    text = text[: word.start()] + new + text[word.end() :]
    path.write_bytes(text.encode("utf-8", "surrogateescape"))
    return [path]


# --- forged ---------------------------------------------------------------------------------------------------


def _change_words(case: Case, run: Path) -> list[Path]:
    names = ("metrics.csv", "parts.csv", "scenario.yaml")
    path = case.choice([run / name for name in names if (run / name).exists()])
    return change_word(case, path, run)


def _change_json(case: Case, run: Path) -> list[Path]:
    """Change values of a JSON file."""
    files = [*run.glob("checkpoints/*/state.json"), run / "run.json", run / "result.json"]
    path = case.choice([path for path in files if path.exists()])
    tree = json.loads(path.read_text(encoding="utf-8"))
    for _ in range(case.choice((1, 1, 1, 2, 5))):
        tree = changed(tree, case)
    try:
        text = json.dumps(tree)
    except RecursionError:
        return []
    path.write_text(text, encoding="utf-8")
    return [path]


# --- names ----------------------------------------------------------------------------------------------------


def delete(case: Case, path: Path, run: Path) -> list[Path]:
    """Delete a file, or a folder."""
    if path.parent != run and case.random() < 0.3:
        shutil.rmtree(path.parent)
        return [path.parent]
    path.unlink()
    return [path]


def replace(case: Case, path: Path, run: Path) -> list[Path]:
    """Put a link, a FIFO or a folder into the place of a file, or a link into that of a folder."""
    if path.parent != run and case.random() < 0.3:
        folder = path.parent if case.random() < 0.5 else run / path.relative_to(run).parts[0]
        moved = run.parent / f"{run.name}-moved"
        folder.rename(moved)
        folder.symlink_to(moved)
        return [folder]
    target: Any = case.choice(
        ("/dev/zero", "/dev/random", "/etc/passwd", path.name, "nowhere", "copy", "fifo", "folder")
    )
    case.log.append(str(target))
    if target == "copy":
        moved = run.parent / f"{run.name}-moved-{path.name}"
        path.rename(moved)
        path.symlink_to(moved)
        return [path]
    path.unlink()
    if target == "fifo":
        os.mkfifo(path)
    elif target == "folder":
        path.mkdir()
    else:
        path.symlink_to(target)
    return [path]


KINDS: tuple[Callable[[Case, Path, Path], list[Path]], ...]
KINDS = (change_bytes, change_word, delete, replace)
WEIGHTS = (8, 4, 1, 2)
