"""The documents are in plain English: a short list of the worst idioms stays out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "SECURITY.md", "benchmarks/README.md")),
    *sorted((ROOT / "docs").rglob("*.md")),
]
IDIOMS = re.compile(
    r"\b(a page a concept|are alike|as many have|as of `|comes to|counts \[?nowhere|for the dead|goes on|is there|likewise|nobody|of two that|"
    r"one that you hold|somebody|stands here|that of|those of|training alone|what is much|whoever)\b",
    re.IGNORECASE,
)
CODE = re.compile(r"^```.*?^```|`[^`\n]*`|<!-- generated: file .*?<!-- end -->", re.MULTILINE | re.DOTALL)
"""Code, and records of measurements, which stay as they were written."""


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_idioms_stay_out(document: Path) -> None:
    text = CODE.sub(lambda found: "\n" * found[0].count("\n"), document.read_text(encoding="utf-8"))
    found = [
        f"{number}: {line.strip()}" for number, line in enumerate(text.splitlines(), 1) if IDIOMS.search(line)
    ]
    assert not found, "\n".join(found)


def test_the_list_finds_them() -> None:
    assert IDIOMS.search("The run goes on, as nobody is there.")
    assert not IDIOMS.search("The run continues, as no process answers.")
