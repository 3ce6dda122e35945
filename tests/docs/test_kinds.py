"""The tables of kinds on the pages of docs/: each kind with its keys, as its class declares them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import antiphon.scenarios  # noqa: F401  (declares the sections)
from antiphon.kinds import kinds_of, own_keys_of, sections, summary_of
from antiphon.problems import show_value

DOCS = Path(__file__).parents[2] / "docs"
PAGES = {
    "gradient": "gradients.md",
    "input": "channels.md",
    "network": "agents.md",
    "fan_in": "agents.md",
    "objective": "agents.md",
    "optimiser": "scenarios.md",
    "recorders": "telemetry.md",
    "sample": "symbols.md",
    "schedule": "scenarios.md",
}


def in_words(default: Any) -> str:
    """A default value as a document has it."""
    if default == "needed":
        return "needed"
    return show_value(list(default) if isinstance(default, tuple) else default).replace("'", "")


def table(section: str) -> str:
    """The kinds of a section, then their keys; of a key that differs between kinds each default."""
    kinds = {kind: own_keys_of(section, kind) for kind in kinds_of(section)}
    lines = ["| `kind` | keys of its own | |", "|---|---|---|"]
    for kind, keys in kinds.items():
        summary = summary_of(section, kind).replace("|", "\\|")
        lines.append(f"| `{kind}` | {', '.join(f'`{key}`' for key in keys)} | {summary} |")
    if any(kinds.values()):
        lines += ["", "| key | default | meaning |", "|---|---|---|"]
    for key in dict.fromkeys(key for keys in kinds.values() for key in keys):
        defaults = dict.fromkeys(in_words(keys[key][0]) for keys in kinds.values() if key in keys)
        meaning = next(keys[key][1] for keys in kinds.values() if key in keys).replace("|", "\\|")
        lines.append(f"| `{key}` | {' or '.join(defaults)} | {meaning} |")
    return "\n".join(lines)


def test_every_section_has_a_page() -> None:
    assert {section for section in sections() if kinds_of(section)} == set(PAGES)


@pytest.mark.parametrize("section", PAGES)
def test_the_page_lists_what_the_classes_declare(section: str) -> None:
    page, found = DOCS / PAGES[section], table(section)
    assert found in page.read_text(encoding="utf-8"), f"docs/{PAGES[section]} needs this table:\n\n{found}"
