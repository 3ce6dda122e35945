"""Damage to run directories: bits, lengths, values, names, links and special files."""

from __future__ import annotations

import csv
import hashlib
import io
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from tests.fuzz.conftest import Case

__all__ = ["damage"]

NUMBERS = (
    *(0, -1, 1, 2, 3, 7, 10**6, 2**31, 2**63, 10**30, -(10**30), 10**400, 0.5, -0.5, 1e308, -1e308, 5e-324),
    *(float("nan"), float("inf"), float("-inf"), True, False, None),
)
TEXTS = (
    *(
        "",
        " ",
        "x",
        "a b",
        "-1",
        "nan",
        "1e999",
        "\x00",
        "a\nb",
        "\x1b[2J",
        "\ud800",
        "ü",
        "𝔘",
        "x" * 300,
        "y" * 100_000,
    ),
    *(
        "../../x",
        "/etc/passwd",
        "/dev/zero",
        "os:system",
        "antiphon.cli:main",
        "cuda",
        "cuda:99",
        "meta",
        "float64",
        "int8",
    ),
    *(
        "reference",
        "virtual",
        "locked",
        "done",
        "running",
        "diverged",
        "<script>alert(1)</script>",
        "${HOME}",
        "!!python/none",
    ),
)
MOST_BYTES = 2_000_000
"""Of a file whose content is made anew."""


def damage(case: Case, run: Path) -> list[Path]:
    """Damage something in a run directory, and return which files; the log says how."""
    files = sorted(path for path in run.rglob("*") if path.is_file())
    kind = case.choices(KINDS, WEIGHTS)[0]
    weights = [_interest(path) for path in files]
    path = case.choices(files, weights)[0]
    try:
        found = kind(case, path, run)
    except (OSError, IndexError):  # what it needs has become a folder, or is gone
        return []
    case.log.append(f"{kind.__name__}: {', '.join(str(path.relative_to(run)) for path in found)}")
    return found


def _interest(path: Path) -> float:
    """Return how often a file is chosen: the few small ones that everything is read from, most of all."""
    often = {
        "run.json": 5,
        "state.json": 5,
        "scenario.yaml": 3,
        "metrics.csv": 3,
        "parts.csv": 2,
    }
    return often.get(path.name, 2.0 if path.name == "state.safetensors" else 1.0)


# --- bytes ----------------------------------------------------------------------------------------------------


def flip_bits(case: Case, path: Path, run: Path) -> list[Path]:
    """Flip a few bits of a file."""
    content = bytearray(path.read_bytes())
    for _ in range(case.choice((1, 1, 1, 2, 8, 64)) if content else 0):
        content[case.randrange(len(content))] ^= 1 << case.randrange(8)
    path.write_bytes(content)
    return [path]


def cut(case: Case, path: Path, run: Path) -> list[Path]:
    """Cut a file off, as a full disk does."""
    content = path.read_bytes()
    path.write_bytes(content[: case.choice((0, 1, len(content) - 1, case.randint(0, len(content))))])
    return [path]


def overwrite(case: Case, path: Path, run: Path) -> list[Path]:
    """Replace, insert, repeat or take away a stretch of bytes."""
    content = path.read_bytes()
    start, end = sorted(case.randint(0, len(content)) for _ in range(2))
    end = min(end, start + case.choice((1, 4, 100, 10_000)))
    new = case.choice(
        (
            b"",
            b"\0" * (end - start),
            case.randbytes(end - start),
            content[start:end] * 3,
            b"\xff\xfe",
            b"\r\n",
            b'"',
            b"[" * 100_000,
        )
    )
    path.write_bytes((content[:start] + new + content[end:])[:MOST_BYTES])
    return [path]


# --- values ---------------------------------------------------------------------------------------------------


def _value(case: Case) -> Any:
    """Return a value that is of another kind, or absurd."""
    deep: Any = 1
    for _ in range(case.choice((1, 50, 900))):
        deep = [deep] if case.random() < 0.5 else {"x": deep}
    return case.choice(
        (case.choice(NUMBERS), case.choice(TEXTS), [], {}, deep, [0] * 1000, {str(i): i for i in range(100)})
    )


def _change(case: Case, tree: Any) -> str:
    """Change one place of a tree of lists and dicts, and return what was done."""
    places: list[tuple[Any, Any]] = []
    waiting = [tree]
    while waiting:
        node = waiting.pop()
        items = node.items() if isinstance(node, dict) else enumerate(node)
        for key, value in items:
            places.append((node, key))
            if isinstance(value, dict | list):
                waiting.append(value)
    node, key = case.choice(places) if places else (tree, None)
    if key is None:
        return "nothing"
    what = case.randrange(5)
    if what == 0:
        del node[key]
        return f"without {key}"
    if what == 1 and isinstance(node, dict):
        node[case.choice(TEXTS)] = node.pop(key)
        return f"{key} renamed"
    other, place = case.choice(places)
    if what == 2 and (place in other if isinstance(other, dict) else place < len(other)):
        node[key] = json.loads(json.dumps(other[place]))
        return f"{key} is what {place} is"
    if what == 3 and isinstance(node[key], int | float):
        node[key] = case.choice(
            (node[key] + 1, node[key] - 1, -node[key], node[key] * 1000, float(node[key]))
        )
    else:
        node[key] = _value(case)
    return f"{key} is {repr(node[key])[:80]}"


def change_json(case: Case, path: Path, run: Path) -> list[Path]:
    """Change values of a JSON file; the digests of a checkpoint are made anew, so that its values are believed."""
    found = [path for path in sorted(run.rglob("*.json")) if path.is_file()]
    path = case.choices(found, [_interest(path) for path in found])[0]
    try:
        tree = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError):  # it is damaged already
        return []
    try:
        for _ in range(case.choice((1, 1, 1, 2, 5))):
            case.log.append(_change(case, tree))
        json.dumps(tree)
    except RecursionError:  # too deep to be written by Python; `overwrite` makes deeper ones
        return []
    if path.name == "state.json" and case.random() < 0.8:
        sign(path, tree)
    else:
        path.write_bytes(json.dumps(tree).encode())
    return [path]


def sign(path: Path, tree: dict[str, Any]) -> None:
    """Write the manifest of a checkpoint with the digests of what is there now."""
    tree.pop("manifest_sha256", None)
    if isinstance(tree.get("sha256"), str):
        tensors = path.with_name("state.safetensors")
        tree["sha256"] = hashlib.sha256(tensors.read_bytes()).hexdigest()
    text = json.dumps(tree)
    own = hashlib.sha256(text.encode()).hexdigest()
    comma = ", " if tree else ""
    path.write_text(f'{text[:-1]}{comma}"manifest_sha256": "{own}"}}', encoding="utf-8")


def change_tensors(case: Case, path: Path, run: Path) -> list[Path]:
    """Change shapes, types or numbers of a checkpoint's tensors, or leave one out; the digests are made anew."""
    folder = case.choice(sorted(run.rglob("state.safetensors"))).parent
    try:
        tensors = load_file(folder / "state.safetensors")
        tree = json.loads((folder / "state.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError, SafetensorError):  # they are damaged already
        return []
    for _ in range(case.choice((1, 1, 2))):
        key = case.choice(list(tensors))
        value = tensors[key]
        changed = case.choice(
            (
                lambda t: torch.cat([t.flatten(), t.flatten()[:1]]),
                lambda t: t.flatten(),
                lambda t: t[None],
                lambda t: t.flatten()[:0],
                lambda t: t.to(torch.float64),
                lambda t: t.to(torch.int64),
                lambda t: t.to(torch.bool),
                lambda t: t.to(torch.bfloat16),
                lambda t: (
                    torch.full_like(t, float("nan")) if t.is_floating_point() else torch.full_like(t, 100)
                ),
                lambda t: torch.full_like(t, 3e38) if t.is_floating_point() else torch.full_like(t, -1),
                lambda t: torch.zeros(()),
                lambda t: torch.zeros(1, 2, 3, 4),
                lambda t: None,
            )
        )(value)
        case.log.append(
            f"tensor {key}: {tuple(value.shape)} {value.dtype} is {changed if changed is None else (tuple(changed.shape), changed.dtype)}"
        )
        if changed is None:
            del tensors[key]
        else:
            tensors[key] = changed.contiguous().clone()
    save_file(tensors, folder / "state.safetensors")
    sign(folder / "state.json", tree)
    return [folder / "state.safetensors", folder / "state.json"]


def change_table(case: Case, path: Path, run: Path) -> list[Path]:
    """Change cells and rows of a table."""
    path = case.choice(sorted(run.rglob("*.csv")))
    rows = list(csv.reader(io.StringIO(path.read_text(encoding="utf-8", errors="replace"))))
    for _ in range(case.choice((1, 1, 3))):
        if not rows:
            break
        row = case.randrange(len(rows))
        what = case.randrange(5)
        if what == 0:
            del rows[row]
        elif what == 1:
            rows.insert(case.randrange(len(rows) + 1), list(rows[row]))
        elif what == 2:
            rows[row] = rows[row][: case.randint(0, len(rows[row]))] + ["1"] * case.randint(0, 2)
        elif rows[row]:
            rows[row][case.randrange(len(rows[row]))] = str(case.choice((*NUMBERS, *TEXTS)))
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    path.write_bytes(text.getvalue().encode("utf-8", "surrogatepass"))
    return [path]


def change_scenario(case: Case, path: Path, run: Path) -> list[Path]:
    """Change numbers, words or lines of scenario.yaml."""
    path = run / "scenario.yaml"
    text = path.read_bytes().decode(errors="replace")
    words = list(re.finditer(r"[A-Za-z0-9_.]+", text))
    what = case.randrange(3)
    if what < 2 and words:
        word = case.choice(words)
        new = str(case.choice((*NUMBERS, *TEXTS[:10], *(w[0] for w in words))))
        case.log.append(f"{word[0]!r} at {word.start()} is {new[:60]!r}")
        text = text[: word.start()] + new + text[word.end() :]
    else:
        lines = text.splitlines(keepends=True)
        place = case.randrange(len(lines)) if lines else 0
        lines[place : place + 1] = case.choice(
            ([], lines[place : place + 1] * 2, ["x: &a [*a]\n"], ["\t- {\n"])
        )
        text = "".join(lines)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    return [path]


# --- names ----------------------------------------------------------------------------------------------------


def delete(case: Case, path: Path, run: Path) -> list[Path]:
    """Delete a file, or a folder."""
    if path.parent != run and case.random() < 0.3:
        shutil.rmtree(path.parent)
        return [path.parent]
    path.unlink()
    return [path]


def swap(case: Case, path: Path, run: Path) -> list[Path]:
    """Swap two files."""
    other = case.choice(sorted(p for p in run.rglob("*") if p.is_file()))
    content = path.read_bytes()
    path.write_bytes(other.read_bytes())
    other.write_bytes(content)
    return [path, other]


def copy(case: Case, path: Path, run: Path) -> list[Path]:
    """Copy a file or a checkpoint to a place where something else, or nothing, is expected."""
    folders = sorted(run.glob("checkpoints/step-*"))
    if folders and case.random() < 0.5:
        name = case.choice(
            (
                "step-000000005",
                "step-999999999",
                "step-x",
                "step-",
                "step-99999999999999999999",
                ".step-000000006.0a1b2c3d",
            )
        )
        target = run / "checkpoints" / name
        shutil.copytree(case.choice(folders), target, dirs_exist_ok=True)
    else:
        name = case.choice(
            (
                "run.json",
                "result.json",
                "measured.json",
                "parts.csv",
                "metrics.csv",
                "evaluations.json",
                "x",
                "events.out.tfevents.9999999999.x",
            )
        )
        target = run / name
        shutil.copyfile(path, target) if target != path else None
    return [target]


def replace(case: Case, path: Path, run: Path) -> list[Path]:
    """Put a link, a FIFO or a folder into the place of a file, or a link into that of a folder."""
    if path.parent != run and case.random() < 0.3:
        folder = path.parent if case.random() < 0.5 else path.relative_to(run).parts[0]
        folder = run / folder
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


KINDS: tuple[Callable[[Case, Path, Path], list[Path]], ...] = (
    *(flip_bits, cut, overwrite, change_json, change_tensors, change_table, change_scenario),
    *(delete, swap, copy, replace),
)
WEIGHTS = (4, 2, 2, 5, 2, 2, 2, 1, 1, 1, 2)
