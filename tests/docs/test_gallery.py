"""The gallery's scripts run as a new user's programs, are short, and print what their page shows.

A script's claims are its own assertions. Its length is the number of physical lines that are left without blank lines, comments,
docstrings and imports: every other line counts, also each line of a call or a text that spans several.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
GALLERY = ROOT / "docs/gallery"
SCRIPTS = sorted(GALLERY.glob("*.py"))
DAILY = ("01",)
"""Scripts that `make test-all` runs; `make nightly` runs the others, which take 5 to 10 s each, and the study 90."""
MARKS = dict.fromkeys(DAILY, pytest.mark.long)
LONGEST = 40
"""Lines of a user's own code."""


def own_lines(text: str) -> int:
    """Return how many lines of a program are the user's own code."""
    others: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        imported = isinstance(node, ast.Import | ast.ImportFrom)
        if imported or (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            others.update(range(node.lineno, (node.end_lineno or node.lineno) + 1))
    lines = [line.strip() for line in text.splitlines()]
    return sum(bool(line) and line[0] != "#" and n not in others for n, line in enumerate(lines, start=1))


def without_numbers(output: str) -> str:
    """Return what a program prints with its numbers, and the widths that they give to columns, left out."""
    return " ".join(re.sub(r"─+|[-+]?\d[\d.,]*(?:e[-+]?\d+)?", "#", output).split())


def run_script(script: Path, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a script in a folder as its user would, on one thread."""
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    "script",
    [pytest.param(s, id=s.stem, marks=MARKS.get(s.stem[:2], pytest.mark.nightly)) for s in SCRIPTS],
)
def test_a_script_does_what_it_claims_and_prints_what_the_page_shows(script: Path, tmp_path: Path) -> None:
    done = run_script(script, tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""  # no warning either
    expected = script.with_suffix(".txt").read_text(encoding="utf-8")
    assert without_numbers(done.stdout) == without_numbers(expected)


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_a_script_is_short_asserts_something_and_is_on_the_page(script: Path) -> None:
    text = script.read_text(encoding="utf-8")
    assert own_lines(text) <= LONGEST
    assert any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(text)))
    page = (GALLERY / "index.md").read_text(encoding="utf-8")
    assert f"\n[{script.name}]({script.name}), [output]({script.stem}.txt)\n" in page
