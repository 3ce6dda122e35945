"""Tables of the code's declarations, which the site's pages show in place of a comment `<!-- table: NAME ARGUMENT -->`:

kinds gradient              the kinds of a section of a scenario file, with their options
environment Digits-v0       the options of an environment of the library
commands                    the commands with their arguments and options
library                     the library's scenarios
metrics agent               the metrics of agents, channels or episodes
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

import typer

import antiphon
from antiphon.base.table import Table
from antiphon.cli import app
from antiphon.envs import options_of
from antiphon.telemetry.metrics import EVALUATED, bounds
from antiphon.telemetry.tab.explanations import EXPLANATIONS, OF_EPISODES
from antiphon.terminal.reference import (
    kind_option_table,
    kind_table,
    library_tables,
)

PLACE = re.compile(r"<!-- table: (?P<name>\w+) ?(?P<argument>[^\n]*?) -->")


def command_table(commands: Iterable[tuple[str, str, Any]]) -> Table:
    """Return commands with their arguments and options.

    Args:
        commands: Name, summary, and the command as Click has it.
    """
    rows = []
    for name, summary, declared in commands:
        words, options = [f"antiphon {name}"], []
        for parameter in declared.params:
            if parameter.param_type_name == "argument":
                metavar = parameter.metavar or str(parameter.name).upper()
                words.append(
                    metavar if parameter.required else f"[{metavar.strip('[]')}]"
                )
            else:
                options.append(parameter.opts[0])
        rows.append((" ".join(words), summary, ", ".join(options)))
    return Table(("command", "", "options"), tuple(rows))


def kinds(section: str) -> Iterator[str]:
    """Yield the kinds of a section, and the options of all of them if there are any."""
    yield markdown(kind_table(section), code=(0, 2))
    if (options := kind_option_table(section)).rows:
        yield markdown(options, code=(0,))


def environment(name: str) -> Iterator[str]:
    """Yield the options of an environment, by its id without `antiphon/`."""
    table = Table(
        ("option", "meaning", "default"), tuple(options_of(f"antiphon/{name}").rows())
    )
    yield markdown(table, code=(0,))


def commands(_: str) -> Iterator[str]:
    """Yield the commands as the command line declares them."""
    declared = typer.main.get_command(app).commands
    rows = ((name, one.help, one) for name, one in declared.items())
    yield markdown(command_table(rows), code=(0, 2))


def library(_: str) -> Iterator[str]:
    """Yield the scenarios of the library, and its populations."""
    for table in library_tables():
        yield markdown(table, code=(0, 2))


def metrics(family: str) -> Iterator[str]:
    """Yield the metrics of a family as the Channels tab explains them, the ends of an interval beside its measure."""
    explained = {**EXPLANATIONS, "episodes": OF_EPISODES}[family]
    splits = tuple(f"{split}_" for split in EVALUATED)
    rows = (
        (
            ", ".join(
                f"`{name}`"
                for name in ((metric, *bounds(metric)) if one.words else (metric,))
            ),
            one.says,
        )
        for metric, one in explained.items()
        if not metric.startswith(splits)
    )
    yield markdown(Table(("metric", "meaning"), tuple(rows)))


GENERATORS: dict[str, Callable[[str], Iterator[str]]] = {
    one.__name__: one
    for one in (
        kinds,
        environment,
        commands,
        library,
        metrics,
    )
}


def markdown(table: Table, code: tuple[int, ...] = ()) -> str:
    """Return a table in Markdown.

    Args:
        table: The table.
        code: Columns whose words, separated by commas, are code; in others it is marked already.
    """
    lines = [_row(table.headings), "|---" * len(table.headings) + "|"]
    for row in table.rows:
        lines.append(
            _row([_code(cell, i) if i in code else cell for i, cell in enumerate(row)])
        )
    return "\n".join(lines)


def _code(cell: str, column: int) -> str:
    words = [cell] if column == 0 else cell.split(", ")
    return ", ".join(f"`{word}`" for word in words if word)


def _row(cells: Any) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def with_tables(text: str) -> str:
    """Return the text of a page with its tables; KeyError where a name is unknown."""
    assert (
        antiphon.scenarios.library_names()
    )  # the kinds are declared where scenarios are read
    return PLACE.sub(_filled, text)


def _filled(place: re.Match[str]) -> str:
    return "\n".join(
        f"{part}\n" for part in GENERATORS[place["name"]](place["argument"])
    )


def pages() -> list[Path]:
    """Return the pages of docs/."""
    return sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)
