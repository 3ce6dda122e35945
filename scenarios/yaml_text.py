"""Documents as YAML: read with scalars as in YAML 1.2, no duplicate keys, no tags, and a line for every path; written
with one line per agent and per channel.

Keys are always words. `1e-3` is a number; `no`, `on` and `12:30` are words; `012` is twelve. `<<: *anchor` merges the keys of
an anchored mapping.
"""

from __future__ import annotations

import io
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path as FilePath
from typing import Any, ClassVar, Self, TypeVar

import yaml

from antiphon.base.errors import ScenarioError, first_line
from antiphon.base.problems import DocumentError, Path
from antiphon.base.spec import Spec, channel_name, plain

SUFFIXES = (".yaml", ".yml")
_CORE = "tag:yaml.org,2002:"


class _Loader(getattr(yaml, "CSafeLoader", yaml.SafeLoader)):  # type: ignore[misc]
    """Safe loader with unquoted scalars as of YAML 1.2, and words as keys."""

    yaml_implicit_resolvers: dict[str, Any] = {}  # noqa: RUF012

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[str, Any]:
        self.flatten_mapping(node)
        return {str(key.value): self.construct_object(value, deep=True) for key, value in node.value}


for _kind, _pattern, _starts in (
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("bool", r"true|True|TRUE|false|False|FALSE", [*"tTfF"]),
    ("int", r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+", [*"-+0123456789"]),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        [*"-+.0123456789"],
    ),
    ("merge", "<<", ["<"]),
):
    _Loader.add_implicit_resolver(_CORE + _kind, re.compile(f"^(?:{_pattern})$"), _starts)
_Loader.add_constructor(
    _CORE + "int",
    lambda _, node: int(node.value, 0 if node.value[:2] in ("0o", "0x") else 10),
)
_Loader.add_constructor(_CORE + "map", lambda loader, node: loader.construct_mapping(node))


@dataclass(frozen=True)
class Document:
    """A document as plain data. All are equal: what was read from a file is equal to the same that was not.

    Attributes:
        lines: The line (from 1) of every path.
        source: Name in errors.
    """

    data: Mapping[str, Any] = field(compare=False)
    lines: Mapping[Path, int] = field(compare=False)
    source: str = field(compare=False)

    @contextmanager
    def located(self) -> Iterator[None]:
        """Add the lines of the file to the problems that the body raises: of generated agents those of their section."""
        try:
            yield
        except DocumentError as error:
            kind, *below = error.path or ("",)
            at = error.path
            if kind == "channels" and below and (names := self._channels()).count(str(below[0])):
                at = (kind, names.index(str(below[0])), *below[1:])
            elif kind in ("agents", "channels") and error.path[:2] not in self.lines:
                at = (str(kind).removesuffix("s"), *below[1:])
            raise error.located(self.source, self.lines, at) from None

    def _channels(self) -> list[str]:
        """The names of the channels that are written out; none where one has no ends."""
        try:
            return [channel_name(one["from"], one["to"], one.get("key", 0)) for one in self.data["channels"]]
        except (AttributeError, KeyError, TypeError):
            return []


def read(text: str, source: str, kind: str = "scenario") -> Document:
    """Read one YAML document; ScenarioError, with `source:line: `, at broken YAML, a duplicate key, a tag, a second document."""
    lines: dict[Path, int] = {}
    try:
        loader = _Loader(text)
        if (node := loader.get_single_node()) is not None:
            _note_lines(node, (), lines, set())
        data = node and loader.construct_document(node)
    except DocumentError as error:
        raise error.located(source, lines) from None
    except yaml.MarkedYAMLError as error:
        # the mistake is where the key is, not where the scan ended
        of_key = error.context == "while scanning a simple key"
        mark: Any = error.context_mark if of_key else error.problem_mark or error.context_mark
        problem = ", ".join(filter(None, (error.problem, error.context)))
        raise ScenarioError(f"{source}:{mark.line + 1}: broken YAML: {problem}") from None
    except (yaml.YAMLError, ValueError) as error:
        raise ScenarioError(f"{source}: broken YAML: {first_line(error)}") from None
    if not isinstance(data, dict):
        raise ScenarioError(f"{source}:1: a {kind} is a mapping of keys; begin with '{kind}: NAME'")
    return Document(data, lines, source)


def _note_lines(node: yaml.Node, path: Path, lines: dict[Path, int], seen: set[yaml.Node]) -> None:
    """Note the line of every path below a node, of an anchored one where it is first, and refuse what is no plain data."""
    lines.setdefault(path, node.start_mark.line + 1)
    if node.tag.removeprefix(_CORE) not in ("map", "seq", "str", "null", "bool", "int", "float"):
        raise DocumentError(path, f"tag {node.tag!r}: tags are not supported; write plain data")
    if node in seen:
        return
    seen.add(node)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise DocumentError(path, "a key is a word, not a list or mapping; write KEY: VALUE")
            at = (*path, str(key.value))
            first, lines[at] = lines.get(at), key.start_mark.line + 1
            if first is not None:
                raise DocumentError(at, f"is given twice, first in line {first}; keep one")
            _note_lines(value, at, lines, seen)
    elif isinstance(node, yaml.SequenceNode):
        for index, item in enumerate(node.value):
            _note_lines(item, (*path, index), lines, seen)


class DocumentSpec(Spec):
    """Base of what is a document of its own, which begins with the first field and its name."""

    library: ClassVar[FilePath]
    """The folder of antiphon's own documents of the kind."""

    @classmethod
    def library_names(cls) -> tuple[str, ...]:
        """Return the names of antiphon's own documents of the kind, sorted."""
        return tuple(sorted(path.stem for path in cls.library.glob("*.yaml")))

    @classmethod
    def of_library(cls, name: str) -> Self:
        """Return one of antiphon's own documents of the kind."""
        return cls.from_yaml(read_file(cls.library / f"{name}.yaml"), f"{name}.yaml")

    @classmethod
    def whole_library(cls) -> dict[str, Self]:
        """Return all of antiphon's own documents of the kind, by name."""
        return {name: cls.of_library(name) for name in cls.library_names()}

    @classmethod
    def from_yaml(cls, text: str, source: str) -> Self:
        """Read a document; ScenarioError, whose line begins `source:line: `, where something is not accepted."""
        document = read(text, source, next(iter(cls.model_fields)))
        with document.located():
            return cls.model_validate(document.data)

    @classmethod
    def of(cls, **keys: Any) -> Self:
        """Return the document of some keys; ScenarioError where one is not accepted."""
        try:
            return cls(**keys)
        except DocumentError as error:
            raise error.of(f"{next(iter(cls.model_fields))}: ") from None

    def with_keys(self, **keys: Any) -> Self:
        """Return it with other values of some keys; ScenarioError where one is not accepted."""
        return self.of(**{**plain(self), **keys})


Found = TypeVar("Found", bound=DocumentSpec)


def find_document(kind: type[Found], name_or_path: str | FilePath) -> Found | None:
    """Return a study or population of the library, or read one from a file; None where it is neither.

    The first field of its kind is the key that the file begins with.
    """
    if str(name_or_path) in kind.library_names():
        return kind.of_library(str(name_or_path))
    path = FilePath(os.path.expanduser(name_or_path))
    if path.suffix not in SUFFIXES or not path.is_file():
        return None
    text = read_file(path)
    if not re.search(rf"^{next(iter(kind.model_fields))}\s*:", text, re.MULTILINE):
        return None
    spec: Found = kind.from_yaml(text, str(path))
    scenario: str = vars(spec)["scenario"]
    if not scenario.endswith(SUFFIXES):
        return spec
    return spec.model_copy(update={"scenario": str(path.parent / scenario)})


def read_file(path: FilePath) -> str:
    """Return the text of a document's file; ScenarioError where there is none that can be read, in UTF-8."""
    try:
        return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise ScenarioError(f"{path}: no such file; give the path of a file") from None
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or a null character in the name
        raise ScenarioError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from None


_LINE_ENDS = frozenset("\r\x85\u2028\u2029\ufeff")
_SECTIONS = ("agents", "channels", "training", "telemetry")


class _Dumper(yaml.SafeDumper):
    """YAML dumper that quotes ambiguous words of YAML 1.1 and 1.2; no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.Node:
        """Escape characters that readers take for line ends, in double quotes."""
        style = '"' if _LINE_ENDS & set(text) else None
        return self.represent_scalar(f"{_CORE}str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)
_Dumper.yaml_implicit_resolvers = {
    start: [
        *yaml.SafeDumper.yaml_implicit_resolvers.get(start, ()),
        *_Loader.yaml_implicit_resolvers.get(start, ()),
    ]
    for start in {*yaml.SafeDumper.yaml_implicit_resolvers, *_Loader.yaml_implicit_resolvers}
}


def write(data: Mapping[str, Any]) -> str:
    """Write a document (plain data): sections in blocks, each agent, channel and value on a line."""
    root: Any = _Dumper(io.StringIO(), sort_keys=False, default_flow_style=True).represent_data(data)
    root.flow_style = False
    for key, value in root.value:
        value.flow_style = not (key.value in _SECTIONS and value.value)
    return str(yaml.serialize(root, Dumper=_Dumper, width=160, allow_unicode=True))
