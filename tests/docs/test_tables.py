"""Tables that are made when the site is built: each kind, environment and command is on a page, with what its class declares."""

from __future__ import annotations

import re
import runpy
from pathlib import Path

import pytest

import antiphon
from antiphon import envs
from antiphon.base.kinds import kinds_of, own_keys_of, sections
from antiphon.cli import COMMANDS
from antiphon.running.library import scenario_names

DOCS = Path(__file__).parents[2] / "docs"
FENCE = re.compile(r"^```\{(kinds|environment|commands|library|modules)\}(.*)\n```$", re.MULTILINE)
USED = {
    (name, argument.strip())
    for page in DOCS.rglob("*.md")
    for name, argument in FENCE.findall(page.read_text(encoding="utf-8"))
}


@pytest.fixture(scope="module")
def tables() -> dict[str, object]:
    pytest.importorskip("sphinx")
    return runpy.run_path(str(DOCS / "tables.py"))["DIRECTIVES"]  # type: ignore[no-any-return]


def test_every_kind_environment_and_command_has_a_page() -> None:
    assert antiphon.scenarios.library_names()  # the kinds are declared where scenarios are read
    assert {argument for name, argument in USED if name == "kinds"} == {
        section for section in sections() if kinds_of(section)
    }
    pages = "".join(page.read_text(encoding="utf-8") for page in DOCS.glob("*.md"))
    library = [name.removeprefix("antiphon/") for name in envs.ids() if name.startswith("antiphon/")]
    assert not [name for name in library if f"`{name}`" not in pages and f"antiphon/{name}" not in pages]
    assert {("commands", ""), ("library", "")} <= USED


@pytest.mark.long
def test_a_table_has_what_is_declared(tables) -> None:  # type: ignore[no-untyped-def]
    for name, argument in sorted(USED):
        lines = tables[name](argument)
        width = lines[0].count("|")
        assert all(line == "" or len(re.findall(r"(?<!\\)\|", line)) in (width, 4) for line in lines)
        for kind in kinds_of(argument) if name == "kinds" else ():
            assert any(line.startswith(f"| `{kind}` |") for line in lines)
            for option in own_keys_of(argument, kind):
                assert any(line.startswith(f"| `{option}` |") for line in lines)
    assert all(
        any(line.startswith(f"| `antiphon {name}") for line in tables["commands"]("")) for name in COMMANDS
    )
    assert all(
        any(line.startswith(f"| `{name}` |") for line in tables["library"]("")) for name in scenario_names()
    )


def test_an_unknown_name_is_refused(tables) -> None:  # type: ignore[no-untyped-def]
    for name, argument in (("kinds", "gradeint"), ("environment", "Digit-v0"), ("modules", "engine/haert")):
        with pytest.raises((KeyError, ValueError, antiphon.ScenarioError)):
            tables[name](argument)
