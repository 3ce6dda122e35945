"""What documents refer to is there: files that they name, and in the glossary the names at their one home."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.test_layers import LAYERS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "benchmarks/README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
FOLDERS = (*LAYERS, "benchmarks", "tests")
FILE = re.compile(r"`((?:[a-z_0-9]+/)*[a-z_0-9]+\.(?:py|js|css))`")
NAME = re.compile(r"`([A-Za-z_]\w*)(?:\.\w+)?`")


def files() -> list[str]:
    """The Python files, scripts and styles of the repository, from its root."""
    return [p.relative_to(ROOT).as_posix() for top in FOLDERS for p in (ROOT / top).rglob("*") if p.is_file()]


def glossary() -> list[tuple[str, str, str]]:
    """The rows of the glossary: concept, names, homes."""
    lines = (ROOT / "docs/glossary.md").read_text(encoding="utf-8").splitlines()
    rows = [line.strip("| ").split(" | ") for line in lines if line.startswith("| ")]
    return [(row[0], row[1], row[2]) for row in rows[1:] if not row[0].startswith("---")]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_a_document_names_exists(document: Path) -> None:
    known = files()
    named = set(FILE.findall(document.read_text(encoding="utf-8")))
    assert not [name for name in named if not any(f"/{path}".endswith(f"/{name}") for path in known)]


@pytest.mark.parametrize(("concept", "names", "homes"), glossary(), ids=lambda value: None)
def test_a_concept_of_the_glossary_is_at_its_home(concept: str, names: str, homes: str) -> None:
    texts = []
    for home in re.findall(r"`([\w/]+(?:\.py|/))`", homes):
        place = next(p for p in (ROOT / "engine" / home, ROOT / home) if p.exists())
        found = sorted(place.glob("*.py")) if place.is_dir() else [place]
        texts += [path.read_text(encoding="utf-8") for path in found]
    assert texts, f"{concept}: no home"
    for name in NAME.findall(names):
        assert any(re.search(rf"(?:class|def|^) *{name}\b", text, re.MULTILINE) for text in texts) or any(
            name == Path(home).stem for home in re.findall(r"`([\w/]+\.py)`", homes)
        ), f"{concept}: {name} is not at {homes}"


def test_every_rule_that_code_cites_is_in_the_semantics() -> None:
    text = (ROOT / "docs/semantics.md").read_text(encoding="utf-8")
    rules = set(re.findall(r"^(?:    - )?(\d+[a-z]?)\. ", text, re.MULTILINE))
    cited = re.compile(r"\b(?:semantics|rules?) ((?:\d+[a-z]?(?:, | and |-| to )?)+)")
    wrong = [
        f"{path}: {number}"
        for path in files()
        if path.endswith(".py") and not path.startswith("tests/docs/")
        for numbers in cited.findall((ROOT / path).read_text(encoding="utf-8"))
        for number in re.findall(r"\d+[a-z]?", numbers)
        if number not in rules
    ]
    assert len(rules) > 36
    assert not wrong, "\n".join(wrong)
