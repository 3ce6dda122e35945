"""Reference tables: kinds and the library, as `list` prints them and as the documentation has them."""

from __future__ import annotations

from typing import Any

from antiphon.base.kinds import kinds_of, own_keys_of, summary_of
from antiphon.base.problems import in_table
from antiphon.base.table import Table
from antiphon.running.templates import scenario_names, template_named
from antiphon.scenarios.population_spec import PopulationSpec


def kind_table(section: str, heading: str = "kind") -> Table:
    """Return the kinds of a section of a scenario file, such as `gradient`, with their keys."""
    rows = (
        (kind, summary_of(section, kind), ", ".join(own_keys_of(section, kind))) for kind in kinds_of(section)
    )
    return Table((heading, "", "options"), tuple(rows))


def kind_option_table(section: str) -> Table:
    """Return the options of all kinds of a section: a row for each meaning, with its kinds if there are several meanings."""
    declared: dict[str, dict[str, list[tuple[str, Any]]]] = {}
    for kind in kinds_of(section):
        for option, (default, meaning) in own_keys_of(section, kind).items():
            declared.setdefault(option, {}).setdefault(meaning, []).append((kind, default))
    rows = (
        (
            option,
            meaning if len(meanings) == 1 else f"{', '.join(f'`{kind}`' for kind, _ in users)}: {meaning}",
            " or ".join(dict.fromkeys(in_table(value) for _, value in users)),
        )
        for option, meanings in declared.items()
        for meaning, users in meanings.items()
    )
    return Table(("option", "meaning", "default"), tuple(rows))


def library_tables() -> tuple[Table, Table]:
    """Return the library's scenarios and populations, each with the first sentence of its description."""
    scenarios = (
        (name, _head(template.description), ", ".join(template.variants))
        for name, template in ((name, template_named(name)) for name in scenario_names())
    )
    members = (
        (name, _head(declared.description)) for name, declared in PopulationSpec.whole_library().items()
    )
    return (
        Table(("scenario", "", "variants"), tuple(scenarios)),
        Table(("population", ""), tuple(members)),
    )


def _head(description: str) -> str:
    return description.partition(": ")[0].partition(". ")[0].removesuffix(".")
