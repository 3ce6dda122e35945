"""Templates of the library by name, and a user's by the path of the file."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

from antiphon.base.errors import ScenarioError, suggest
from antiphon.scenarios.scenario import Scenario, Template
from antiphon.scenarios.yaml_text import SUFFIXES, read_file

_LIBRARY = Path(__file__).with_name("library")


@cache
def library_names() -> tuple[str, ...]:
    """Return the names of the library's scenarios, sorted."""
    return tuple(sorted(path.stem for path in _LIBRARY.glob("*.yaml")))


def catalogue() -> dict[str, Template]:
    """Return the library's templates by name."""
    return {name: load(name) for name in library_names()}


MADE_IN_PYTHON = {
    "gpt": "antiphon.splitting.split_scenarios:gpt",
    "resnet": "antiphon.splitting.split_scenarios:resnet",
}
"""Functions of the scenarios of the library that no YAML file can hold, by name."""


def load(name_or_path: str | Path) -> Template:
    """Return a template of the library, or read one from a file.

    Args:
        name_or_path: A library name, or the path of a YAML file (it has a suffix or a folder).

    Raises:
        ScenarioError: The scenario or file does not exist, or cannot be read.
    """
    path = Path(os.path.expanduser(name_or_path))
    if str(name_or_path) in library_names():
        return _of_library(_LIBRARY / f"{name_or_path}.yaml")
    if path.suffix not in SUFFIXES and path.parent == Path() and not os.path.isfile(path):
        raise ScenarioError(f"no scenario {str(name_or_path)!r}{suggest(str(name_or_path), library_names())}")
    return Template.from_yaml(read_file(path), str(path))


def as_scenario(source: Scenario | Template | str | Path) -> Scenario:
    """Return the scenario of a scenario, a template (with its defaults), or a name or file (see `load`)."""
    if isinstance(source, str | Path):
        source = load(source)
    if isinstance(source, Template):
        source = source.resolve()
    if not isinstance(source, Scenario):
        line = "must be an antiphon.Scenario, a template, a library name or a YAML file"
        raise ScenarioError(f"scenario: {line}, not {type(source).__name__}")
    return source


@cache
def _of_library(path: Path) -> Template:
    """Read a template of the library, cached, as the names are: no file of the library changes while antiphon runs."""
    return Template.from_yaml(read_file(path), path.name)
