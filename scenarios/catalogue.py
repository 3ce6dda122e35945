"""Catalogue of templates: the library's by name, a user's by the file's path."""

from __future__ import annotations

from functools import cache
from pathlib import Path

from antiphon.errors import ScenarioError, suggest
from antiphon.scenarios.template import Template

__all__ = ["catalogue", "library_names", "load"]

_LIBRARY = Path(__file__).with_name("library")
_SUFFIXES = (".yaml", ".yml")


def library_names() -> tuple[str, ...]:
    """Return the names of the library's scenarios, sorted."""
    return tuple(sorted(path.stem for path in _LIBRARY.glob("*.yaml")))


def catalogue() -> dict[str, Template]:
    """Return the library's templates by name."""
    return {name: load(name) for name in library_names()}


def load(name_or_path: str | Path) -> Template:
    """Return a template of the library, or read one from a file.

    Args:
        name_or_path: A library name, or the path of a YAML file (it has a suffix or a folder).

    Raises:
        ScenarioError: No such scenario or file, or one that cannot be read.
    """
    path = Path(name_or_path)
    if isinstance(name_or_path, str) and name_or_path in library_names():
        return _of_library(_LIBRARY / f"{name_or_path}.yaml")
    if path.suffix not in _SUFFIXES and path.parent == Path() and not path.is_file():
        known = suggest(str(name_or_path), library_names())
        raise ScenarioError(f"no scenario {str(name_or_path)!r}{known}")
    return Template.from_yaml(_text_of(path), str(path))


@cache
def _of_library(path: Path) -> Template:
    """Read a template of the library, cached: neither it nor its file changes while antiphon runs."""
    return Template.from_yaml(_text_of(path), path.name)


def _text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ScenarioError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ScenarioError(f"{path}: is a folder, not a scenario file") from None
    except UnicodeDecodeError:
        raise ScenarioError(f"{path}: not a text file in UTF-8") from None
    except OSError as error:
        raise ScenarioError(f"{path}: cannot be read ({error.strerror})") from None
