"""What documents refer to exists: files that they name, and rules of semantics.md that code cites."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from antiphon.envs import ids
from tests.test_layers import LAYERS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    ROOT / "benchmarks/README.md",
    *(page for page in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in page.parts),
]
FOLDERS = (*LAYERS, "benchmarks", "docs", "tests")
FILE = re.compile(r"`((?:[a-z_0-9]+/)*[a-z_0-9]+\.(?:py|js|css))`(?!\s+of\s+commit)")
PATH = re.compile(rf"(?<![\w/.:-])((?:{'|'.join(FOLDERS)})/[\w./-]*\.(?:py|ya?ml|md|json|svg|css|js))\b")
"""A path from the repository's root, in a command too; what a result was measured with may have gone: it names its commit."""


def files() -> list[str]:
    """The Python files, scripts and styles of the repository, from its root."""
    return [p.relative_to(ROOT).as_posix() for top in FOLDERS for p in (ROOT / top).rglob("*") if p.is_file()]


@pytest.mark.parametrize("name", [name for name in ids() if name.startswith("antiphon/")])
def test_every_environment_is_in_the_overview(name: str) -> None:
    overview, _, _ = (ROOT / "docs/environments.md").read_text(encoding="utf-8").partition("\n## ")
    assert f"`{name.removeprefix('antiphon/')}`" in overview


@pytest.mark.parametrize("name", [name for name in ids() if name.startswith("antiphon/")])
def test_every_environment_is_described_below_the_overview(name: str) -> None:
    _, _, below = (ROOT / "docs/environments.md").read_text(encoding="utf-8").partition("\n## ")
    assert name in below


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_file_that_a_document_names_exists(document: Path) -> None:
    known = files()
    text = document.read_text(encoding="utf-8")
    named = set(FILE.findall(text))
    assert not [name for name in named if not any(f"/{path}".endswith(f"/{name}") for path in known)]
    if document.parent.name != "results":
        assert not set(PATH.findall(text)) - set(known)


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
