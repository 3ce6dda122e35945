"""What documents refer to exists, and what is written into them from the code is current and complete."""

from __future__ import annotations

import re
import runpy
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from antiphon import envs
from antiphon.base.kinds import kinds_of, own_keys_of, sections
from antiphon.envs import ids
from antiphon.scenarios import library_names
from tests.cli.test_cli import VERBS
from tests.kit.commands import Commands
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


@cache
def files() -> list[str]:
    """The Python files, scripts and styles of the repository, from its root."""
    return [p.relative_to(ROOT).as_posix() for top in FOLDERS for p in (ROOT / top).rglob("*") if p.is_file()]


@pytest.mark.parametrize("name", [name for name in ids() if name.startswith("antiphon/")])
def test_every_environment_is_described(name: str) -> None:
    assert name in (ROOT / "docs/environments.md").read_text(encoding="utf-8")


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


# --- tables of the site ------------------------------------------------------------------------------------


DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def tables() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "tables.py"))


def places(tables: dict[str, Any]) -> set[tuple[str, str]]:
    """Return name and argument of all tables of the pages."""
    pages = (page.read_text(encoding="utf-8") for page in tables["pages"]())
    return {(found["name"], found["argument"]) for text in pages for found in tables["PLACE"].finditer(text)}


def test_every_kind_environment_and_command_has_a_page(tables: dict[str, Any]) -> None:
    written = places(tables)
    assert {argument for name, argument in written if name == "kinds"} == set(sections())
    pages = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    library = [name.removeprefix("antiphon/") for name in envs.ids() if name.startswith("antiphon/")]
    assert not [name for name in library if f"`{name}`" not in pages and f"antiphon/{name}" not in pages]
    assert {name for name, _ in written} == set(tables["GENERATORS"])


def test_the_tables_have_what_is_declared(tables: dict[str, Any], cli: Commands) -> None:
    def table(name: str, argument: str = "") -> str:
        return "\n".join(tables["GENERATORS"][name](argument))

    for section in sections():
        found = table("kinds", section)
        for kind in kinds_of(section):
            assert f"\n| `{kind}` |" in found
            for option, (_, meaning) in own_keys_of(section, kind).items():
                rows = [row for row in found.splitlines() if row.startswith(f"| `{option}` |")]
                assert any(
                    meaning.replace("|", r"\|") in row and (len(rows) == 1 or f"`{kind}`" in row)
                    for row in rows
                ), (kind, option)
    assert all(f"\n| `antiphon {name}" in table("commands") for name in VERBS)
    assert all(f"\n| `{name}` |" in table("library") for name in library_names())
    rows = [line for line in table("kinds", "gradient").splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {4}


def test_the_terminal_prints_the_same(cli: Commands) -> None:
    listed = cli("list kinds gradient")
    assert all(kind in listed for kind in kinds_of("gradient"))
    meaning = own_keys_of("gradient", "mlp")["hidden"][1]
    assert meaning in " ".join(listed.split())
    assert all(section in cli("list kinds") for section in sections())
    assert "patch_3" in cli("show env Digits-v0 --set patches=4")
