"""What is written into the pages from the code: `python docs/generated.py` renews it, a test finds what is out of date.

A region of a page begins with `<!-- generated: NAME ARGUMENT -->` and ends with `<!-- end -->`:

    kinds gradient              the kinds of a section of a scenario file, with their options
    environment Digits-v0       the options of an environment of the library
    commands                    the commands with their arguments and options
    library                     the library's scenarios
    metrics agent               the metrics of agents, channels or episodes
    folders                     the folders of the code, with the first lines of their docstrings
    features                    the settings with their features, and the points of a step at which these are called
    api antiphon.Simulation …   the public names of classes and modules, with the first lines of their docstrings
    sections                    the sections of the page, as links
    file 01_own_data.py         a program, its output or a record (its headings two levels lower), relative to the page
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent
sys.path.insert(0, str(ROOT))

from pydantic import BaseModel

import antiphon
from antiphon.base.extensions import is_users
from antiphon.cli import COMMANDS, command
from antiphon.engine.feature_table import TABLE
from antiphon.engine.heart.feature import (
    LEARNING,
    TICK,
    Feature,
    Features,
    points_of,
)
from antiphon.telemetry.metrics import EVALUATED
from antiphon.telemetry.tab.explanations import EXPLANATIONS, OF_EPISODES
from antiphon.telemetry.verdicts import bounds
from antiphon.terminal.reference import (
    ReferenceTable,
    command_table,
    kind_option_table,
    kind_table,
    library_tables,
    option_table,
)

REGION = re.compile(
    r"(?P<begin><!-- generated: (?P<name>\w+) ?(?P<argument>[^\n]*?) -->\n).*?(?P<end><!-- end -->)",
    re.DOTALL,
)
FENCES = {".py": "python", ".txt": "text"}


def kinds(section: str, _: Path) -> Iterator[str]:
    """Yield the kinds of a section, and the options of all of them if there are any."""
    yield markdown(kind_table(section), code=(0, 2))
    if (options := kind_option_table(section)).rows:
        yield markdown(options, code=(0,))


def environment(name: str, _: Path) -> Iterator[str]:
    """Yield the options of an environment, by its id without `antiphon/`."""
    yield markdown(option_table(f"antiphon/{name}"), code=(0,))


def commands(_: str, __: Path) -> Iterator[str]:
    """Yield the commands as the command line declares them."""
    declared = (
        (name, about.summary, command(name)) for name, about in COMMANDS.items()
    )
    yield markdown(command_table(declared), code=(0, 2))


def library(_: str, __: Path) -> Iterator[str]:
    """Yield the scenarios of the library, and its populations."""
    for table in library_tables():
        yield markdown(table, code=(0, 2))


def metrics(family: str, _: Path) -> Iterator[str]:
    """Yield the metrics of a family as the Channels tab explains them, the ends of an interval beside its measure."""
    explained = {**EXPLANATIONS, "episodes": OF_EPISODES}[family]
    splits = tuple(f"{split}_" for split in EVALUATED)
    ends = {measure: bounds(measure) for measure in explained}
    inside = {end for pair in ends.values() for end in pair}
    rows = (
        (
            ", ".join(
                f"`{name}`" for name in (metric, *ends[metric]) if name in explained
            ),
            one.says,
        )
        for metric, one in explained.items()
        if metric not in inside and not metric.startswith(splits)
    )
    yield markdown(ReferenceTable(("metric", "meaning"), tuple(rows)))


def folders(_: str, __: Path) -> Iterator[str]:
    """Yield the folders of the packages, from the imports at the top down."""
    rows = []
    for package in sorted(
        path.name for path in (ROOT / "antiphon").iterdir() if path.is_symlink()
    ):
        for front in sorted((ROOT / package).rglob("__init__.py")):
            rows.append(
                (f"{front.parent.relative_to(ROOT).as_posix()}/", first_line_of(front))
            )
    yield markdown(ReferenceTable(("folder", ""), tuple(rows)), code=(0,))


def features(_: str, __: Path) -> Iterator[str]:
    """Yield the settings with the features that they need, and the points of a step with the features that are called there."""
    rows = tuple((row.setting, row.feature) for row in TABLE)
    yield markdown(ReferenceTable(("setting", "feature"), rows), code=(1,))
    kinds = {row.kind: row.feature.rpartition(".")[2] for row in TABLE}
    points = []
    for point in (*TICK, *LEARNING):
        users = ", ".join(
            name for kind, name in kinds.items() if point in points_of(kind)
        )
        installed = (
            Features().tick_points if point in TICK else Features().learning_points
        )
        several = isinstance(getattr(installed, point), tuple)
        what = summary_of(inspect.getdoc(getattr(Feature, point)))
        points.append((point, "all" if several else "one", what, users or "probes"))
    headings = ("point", "called", "what for", "features")
    yield markdown(ReferenceTable(headings, tuple(points)), code=(0,))


def first_line_of(file: Path) -> str:
    """Return the summary of a module."""
    return summary_of(ast.get_docstring(ast.parse(file.read_text(encoding="utf-8"))))


def summary_of(docstring: str | None) -> str:
    """Return the first paragraph of a docstring as one line."""
    return (docstring or "").partition("\n\n")[0].replace("\n", " ")


def api(places: str, _: Path) -> Iterator[str]:
    """Yield the public names of classes and modules, and functions, each with its arguments.

    Args:
        places: Dotted names, separated by spaces.

    Raises:
        AttributeError: There is no such name.
    """
    members = {
        name: value
        for place in places.split()
        for name, value in members_of(place).items()
    }
    rows = [
        (called(name, value), summary)
        for name, value in members.items()
        if (summary := summary_of(inspect.getdoc(value)))
    ]
    yield markdown(ReferenceTable(("name", ""), tuple(rows)), code=(0,))


def members_of(place: str) -> dict[str, Any]:
    """Return what a module has, or a class with its own methods and properties, or one function, by name."""
    found, owner = named(place)
    if inspect.ismodule(found):
        names = getattr(found, "__all__", None) or [
            name
            for name, value in vars(found).items()
            if getattr(value, "__module__", "") == place
        ]
        return {name: getattr(found, name) for name in names if name[0] != "_"}
    if not isinstance(found, type):
        return {owner: found}
    own = {
        name: inspect.getattr_static(found, name)
        for name in vars(found)
        if name[0] != "_"
    }
    return {owner: found} | {
        f"{owner}.{name}": value for name, value in own.items() if is_method(value)
    }


def named(place: str) -> tuple[Any, str]:
    """Return what a dotted name stands for, and its last word."""
    try:
        return importlib.import_module(place), place
    except ModuleNotFoundError:
        module, _, name = place.rpartition(".")
        return getattr(importlib.import_module(module), name), name


def is_method(value: Any) -> bool:
    """Whether a member of a class is a method or a property, and not a field or what pydantic made."""
    function = (
        value.fget if isinstance(value, property) else getattr(value, "__func__", value)
    )
    return inspect.isfunction(function) and not is_users(function)


def called(name: str, value: Any) -> str:
    """Return a name with its arguments, if it can be called."""
    value = getattr(value, "__func__", value)
    if not callable(value) or (
        isinstance(value, type) and issubclass(value, BaseModel | BaseException)
    ):
        return name
    try:
        parameters = inspect.signature(value).parameters.values()
    except (TypeError, ValueError):
        return name
    arguments = [str(one).partition(":")[0].partition("=")[0] for one in parameters]
    return f"{name}({', '.join(one for one in arguments if one not in ('self', 'cls') and one[0] != '_')})"


def sections(_: str, page: Path) -> Iterator[str]:
    """Yield links to the page's sections, those of the second level."""
    text = written_by_hand(page.read_text(encoding="utf-8"))
    text = re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)
    links = [
        f"[{heading}](#{anchor_of(heading)})"
        for heading in re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
    ]
    yield f"On this page: {' · '.join(links)}"


def anchor_of(heading: str) -> str:
    """Return the anchor that code hosts and the site give a heading."""
    return re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")


def file(path: str, page: Path) -> Iterator[str]:
    """Yield a program or its output as a block of code, or a record of a measurement."""
    source = page.parent / path
    text = source.read_text(encoding="utf-8").strip("\n")
    if source.suffix in FENCES:
        yield f"```{FENCES[source.suffix]}\n{text}\n```"
    else:
        yield re.sub("^#", "###", text, flags=re.MULTILINE)


GENERATORS: dict[str, Callable[[str, Path], Iterator[str]]] = {
    one.__name__: one
    for one in (
        kinds,
        environment,
        commands,
        library,
        metrics,
        folders,
        features,
        api,
        sections,
        file,
    )
}


def markdown(table: ReferenceTable, code: tuple[int, ...] = ()) -> str:
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


def renewed(page: Path) -> str:
    """Return the text of a page with its regions as they should be.

    Raises:
        KeyError: A region's name is unknown.
        ValueError: A region has no end.
    """
    text = page.read_text(encoding="utf-8")
    if text.count("<!-- generated:") != len(list(REGION.finditer(text))):
        raise ValueError(f"{page}: a generated region has no <!-- end -->")
    return REGION.sub(lambda region: _filled(region, page), text)


def _filled(region: re.Match[str], page: Path) -> str:
    parts = GENERATORS[region["name"]](region["argument"], page)
    return "\n".join([region["begin"], *(f"{part}\n" for part in parts), region["end"]])


def written_by_hand(text: str) -> str:
    """Return the text of a page without its generated regions."""
    return REGION.sub("", text)


def pages() -> list[Path]:
    """Return the pages of docs/."""
    return sorted(path for path in DOCS.rglob("*.md") if "_build" not in path.parts)


def main() -> None:
    """Renew every page."""
    assert (
        antiphon.scenarios.library_names()
    )  # the kinds are declared where scenarios are read
    for page in pages():
        text = renewed(page)
        if text != page.read_text(encoding="utf-8"):
            page.write_text(text, encoding="utf-8")
            print(page.relative_to(ROOT))


if __name__ == "__main__":
    main()
