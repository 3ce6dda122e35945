"""What is written into the pages from the code is current, complete, and the same in the terminal."""

from __future__ import annotations

import re
import runpy
from pathlib import Path
from typing import Any

import pytest

import antiphon
from antiphon import envs
from tests.cli.test_cli import VERBS
from tests.kit.commands import Commands
from tests.kit.kinds import kinds_of, own_keys_of, sections

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def generated() -> dict[str, Any]:
    return runpy.run_path(str(DOCS / "generated.py"))


def regions(generated: dict[str, Any]) -> set[tuple[str, str]]:
    """Return name and argument of all regions of the pages."""
    pages = (page.read_text(encoding="utf-8") for page in generated["pages"]())
    return {
        (found["name"], found["argument"]) for text in pages for found in generated["REGION"].finditer(text)
    }


def test_the_pages_are_current(generated: dict[str, Any]) -> None:
    assert antiphon.scenarios.library_names()  # the kinds are declared where scenarios are read
    stale = [
        page.name for page in generated["pages"]() if generated["renewed"](page) != page.read_text("utf-8")
    ]
    assert not stale, f"run python docs/generated.py, which renews {', '.join(stale)}"


def test_every_kind_environment_and_command_has_a_page(generated: dict[str, Any]) -> None:
    written = regions(generated)
    assert {argument for name, argument in written if name == "kinds"} == set(sections())
    pages = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    library = [name.removeprefix("antiphon/") for name in envs.ids() if name.startswith("antiphon/")]
    assert not [name for name in library if f"`{name}`" not in pages and f"antiphon/{name}" not in pages]
    assert {name for name, _ in written} == set(generated["GENERATORS"])


def test_the_tables_have_what_is_declared(generated: dict[str, Any], cli: Commands) -> None:
    def table(name: str, argument: str = "") -> str:
        return "\n".join(generated["GENERATORS"][name](argument))

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
    assert all(f"\n| `{name}` |" in table("library") for name in cli.json("list")["scenarios"])
    rows = [line for line in table("kinds", "gradient").splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {4}


def test_the_terminal_prints_the_same(cli: Commands) -> None:
    listed = cli("list kinds gradient")
    assert all(kind in listed for kind in kinds_of("gradient"))
    meaning = own_keys_of("gradient", "mlp")["hidden"][1]
    assert meaning in " ".join(listed.split())
    assert all(section in cli("list kinds") for section in sections())
    assert cli.json("list kinds optimizer").keys() == {"optimiser"}
    assert cli("show env Digits-v0") == cli("show antiphon/Digits-v0")
    assert cli.json("show env Digits-v0 --set patches=4")["signals"]["patch_3"]["shape"] == [3, 3]
