"""Templates: documents with parameters, variants and a generator, which resolve to scenarios; and their catalogue:
the library's by name, a user's by the file's path.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any

from antiphon.errors import ScenarioError, suggest
from antiphon.scenarios.document import Scenario
from antiphon.scenarios.generators import Generated, GraphSpec, generate
from antiphon.scenarios.parameters import ParameterSpec, substitute
from antiphon.scenarios.problems import DocumentError, kind_of
from antiphon.scenarios.problems import Path as DocumentPath
from antiphon.scenarios.reader import read
from antiphon.scenarios.spec import FrozenMap, frozen_data, name_problem

__all__ = ["Template", "catalogue", "library_names", "load"]

_DECLARATIONS = ("parameters", "variants")
_SECTIONS = (
    "agent",
    "dealt_agents",
    "readout_agent",
    "first_agent",
    "channel",
    "split_channel",
    "blind_channel",
)
_KEYS = (*_DECLARATIONS, "graph", *_SECTIONS)


@dataclass(frozen=True)
class Template:
    """A document that has not been resolved yet.

    Attributes:
        name: Of the scenario.
        description: In words.
        parameters: By name.
        variants: Named sets of parameter values.
        text: The document as it was written.
        source: Name in errors: the file's.
    """

    name: str
    description: str
    parameters: Mapping[str, ParameterSpec]
    variants: Mapping[str, Mapping[str, Any]]
    text: str = field(repr=False)
    source: str
    _body: Mapping[str, Any] = field(repr=False)
    _lines: Mapping[DocumentPath, int] = field(repr=False, compare=False)

    @classmethod
    def from_yaml(cls, text: str, source: str = "scenario") -> Template:
        """Read a document.

        Args:
            text: The document.
            source: Name in errors: the file's.

        Raises:
            ScenarioError: Broken YAML, or parameters or variants that are not accepted; the line begins
                `source:line: `. Other problems are raised by `resolve`.
        """
        document = read(text, source)
        with _located(source, document.lines):
            body = dict(document.data)
            known = (*Scenario.model_fields, *_KEYS)
            for key in body:
                if key not in known:
                    raise DocumentError((key,), f"unknown key {key!r}{suggest(key, known)}")
            parameters = _parameters(body.pop("parameters", None))
            variants = _variants(body.pop("variants", None), parameters)
            problem = name_problem(body.get("scenario")) if "scenario" in body else "is missing"
            if problem is not None:
                raise DocumentError(("scenario",), problem)
            description = body.get("description", "")
            if not isinstance(description, str):
                raise DocumentError(("description",), f"must be text, not {kind_of(description)}")
        return cls(body["scenario"], description, parameters, variants, text, source, body, document.lines)

    def resolve_values(
        self, variant: str | None = None, values: Mapping[str, Any] = MappingProxyType({})
    ) -> dict[str, Any]:
        """Return the value of every parameter: its default, else the variant's, else the given one.

        Raises:
            ScenarioError: An unknown variant or parameter, or a value that it cannot have.
        """
        resolved = {name: parameter.default for name, parameter in self.parameters.items()}
        if variant is not None:
            if variant not in self.variants:
                raise DocumentError(
                    (), f"{self.name} has no variant {variant!r}{suggest(variant, self.variants)}"
                )
            resolved |= self.variants[variant]
        for name, value in values.items():
            if name not in self.parameters:
                raise DocumentError(
                    (), f"{self.name} has no parameter {name!r}{suggest(name, self.parameters)}"
                )
            problem = self.parameters[name].problem(value)
            if problem is not None:
                raise DocumentError((), f"parameter {name!r}: {problem}")
            resolved[name] = frozen_data(value, (name,))
        return resolved

    def resolve(
        self, variant: str | None = None, values: Mapping[str, Any] = MappingProxyType({})
    ) -> Scenario:
        """Resolve to the explicit scenario.

        Args:
            variant: The variant whose values replace the defaults.
            values: Values of single parameters, which override the variant's.

        Raises:
            ScenarioError: One line that names the place in the document, the value and the fix.
        """
        resolved = self.resolve_values(variant, values)
        with _located(self.source, self._lines):
            body = substitute(self._body, resolved)
            sections = {name: _sections(name, body.pop(name)) for name in _SECTIONS if name in body}
            graph = body.pop("graph", None)
            if graph is None:
                for name in sections:
                    raise DocumentError(
                        (name,), "is a part of a generated graph, but there is no graph; add one"
                    )
                return Scenario.model_validate(body)
            return self._generated(body, graph, sections)

    def _generated(self, body: dict[str, Any], graph: Any, sections: Mapping[str, Any]) -> Scenario:
        try:
            made = generate(GraphSpec.model_validate(graph), sections)
        except DocumentError as error:
            raise error.under(("graph",)) from None
        agents, channels = body.setdefault("agents", {}), body.get("channels", [])
        if not isinstance(agents, dict) or not isinstance(channels, list):
            return Scenario.model_validate(body)
        for name in agents:
            if name in made.agents:
                raise DocumentError(("agents", name), "the graph makes an agent of this name too; rename one")
        body["agents"] = {**agents, **made.agents}
        body["channels"] = [*channels, *made.channels]
        if "readout_agent" in sections:
            body.setdefault("readout", list(made.readouts))
        try:
            return Scenario.model_validate(body)
        except DocumentError as error:
            raise self._in_section(error, made, len(channels)) from None

    def _in_section(self, error: DocumentError, made: Generated, explicit: int) -> DocumentError:
        """Relocate a problem of a generated agent or channel to its source section."""
        if len(error.path) < 2:
            return error
        kind, item, *rest = error.path
        key = item - explicit if kind == "channels" and isinstance(item, int) else item
        sections = made.templates.get(key, ()) if kind in ("agents", "channels") else ()
        if not sections or (isinstance(key, int) and key < 0):
            return error
        at = next((path for path in sections if rest and (*path, rest[0]) in self._lines), sections[-1])
        return DocumentError((*at, *rest), error.message)


@contextmanager
def _located(source: str, lines: Mapping[DocumentPath, int]) -> Iterator[None]:
    try:
        yield
    except DocumentError as error:
        raise error.located(source, lines) from None


def _sections(name: str, value: Any) -> Any:
    if name != "dealt_agents":
        return _section(name, value)
    if not isinstance(value, list) or not value:
        raise DocumentError((name,), f"must be a list of agents' keys, not {kind_of(value)}")
    for index, item in enumerate(value):
        if not isinstance(item, dict):
            raise DocumentError((name, index), f"must be a mapping of keys, not {kind_of(item)}")
    return value


def _section(name: str, value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise DocumentError((name,), f"must be a mapping of keys, not {kind_of(value)}")
    return value


def _parameters(declared: Any) -> Mapping[str, ParameterSpec]:
    if declared is None:
        return FrozenMap()
    parameters: dict[str, ParameterSpec] = {}
    for name, value in _section("parameters", declared).items():
        path = ("parameters", name)
        problem = name_problem(name) or ("begins with a digit or '-'" if name[0] in "0123456789-" else None)
        if problem is not None:
            raise DocumentError(path, problem)
        try:
            parameters[name] = ParameterSpec.model_validate(value)
        except DocumentError as error:
            raise error.under(path) from None
    return FrozenMap(parameters)


def _variants(declared: Any, parameters: Mapping[str, ParameterSpec]) -> Mapping[str, Mapping[str, Any]]:
    if declared is None:
        return FrozenMap()
    variants: dict[str, Mapping[str, Any]] = {}
    for variant, values in _section("variants", declared).items():
        path: DocumentPath = ("variants", variant)
        if not isinstance(values, dict):
            raise DocumentError(path, f"must be a mapping of parameters, not {kind_of(values)}")
        for name, value in values.items():
            if name not in parameters:
                raise DocumentError((*path, name), f"no parameter {name!r}{suggest(name, parameters)}")
            problem = parameters[name].problem(value)
            if problem is not None:
                raise DocumentError((*path, name), problem)
        variants[variant] = frozen_data(values, path)
    return FrozenMap(variants)


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
