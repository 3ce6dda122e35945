"""Documents as YAML: read with scalars as in YAML 1.2, no duplicate keys, no tags, and a line for every path; written
with one line per agent and per channel.

Keys are always words. `1e-3` is a number; `no`, `on` and `12:30` are words; `012` is twelve. `<<: *anchor` merges the keys of
an anchored mapping, or of several in a list, the first of which counts; the mapping's own keys replace them. Keys of the
document that begin with `x-` are a place for anchors, and are left out.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path as FilePath
from typing import Any, ClassVar, Self, TypeVar

import yaml
from pydantic import PrivateAttr

from antiphon.base.errors import ScenarioError
from antiphon.base.nearest_names import suggest
from antiphon.base.problems import DocumentError, Path, show_value
from antiphon.base.spec import SPELLINGS, Spec, plain

_SUFFIXES = (".yaml", ".yml")
_CORE = "tag:yaml.org,2002:"
_MOST_CHARACTERS = 2_000_000
_MOST_VALUES = 200_000
_MOST_LEVELS = 64
"""Lists and mappings around a value; libraries that read the data call themselves for each."""
_TOO_LONG = f"has more than {_MOST_VALUES} values (aliases counted)"
EXTENSION = "x-"
"""How keys of a document begin that only hold anchors, as in Compose files."""
_SHORT = 100_000
"""Characters that PyYAML's own parser reads in less than a second."""

_SCALARS: tuple[tuple[str, str, str], ...] = (
    ("null", r"^(?:~|null|Null|NULL|)$", "~nN\0"),
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^(?:[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+)$", "-+0123456789"),
    (
        "float",
        r"^(?:[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))$",
        "-+.0123456789",
    ),
)


def _plain_scalar_tags() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """Return YAML 1.2's rules for unquoted scalars in PyYAML's form: by first character, tag and pattern."""
    rules: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for kind, pattern, starts in _SCALARS:
        for start in starts:
            rules.setdefault("" if start == "\0" else start, []).append((_CORE + kind, re.compile(pattern)))
    return rules


class _Bounded:
    """Mixin of loaders: unquoted scalars as of YAML 1.2, and bounds of the depth and number of nodes."""

    yaml_implicit_resolvers = _plain_scalar_tags()
    _depth = _nodes = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Compose one node; an error where the document is too deep or too long to be one of antiphon's."""
        loader: Any = self
        self._depth += 1
        self._nodes += 1
        if self._depth > _MOST_LEVELS:
            message = f"nested too deeply, more than {_MOST_LEVELS} levels"
            raise yaml.composer.ComposerError(problem=message, problem_mark=loader.peek_event().start_mark)
        if self._nodes > 2 * _MOST_VALUES:  # keys are nodes, but no values
            raise DocumentError((), _TOO_LONG)
        node: yaml.Node | None = yaml.composer.Composer.compose_node(loader, parent, index)
        self._depth -= 1
        return node


class _Loader(_Bounded, yaml.SafeLoader):
    """Loader with PyYAML's own parser."""


if yaml.__with_libyaml__:

    class _FastLoader(_Bounded, yaml.composer.Composer, yaml.CSafeLoader):
        """Loader with libyaml's parser, whose own composer has no bounds."""

        def __init__(self, text: str) -> None:
            yaml.composer.Composer.__init__(self)
            yaml.CSafeLoader.__init__(self, text)


def loaders() -> tuple[type[Any], ...]:
    """Return the loaders that are there, the fastest first."""
    return (_FastLoader, _Loader) if yaml.__with_libyaml__ else (_Loader,)


def _compose(text: str) -> Any:
    """Compose the only document of a text: by libyaml where it is there, but short texts that it refuses anew by PyYAML's
    parser, whose messages and lines are the same everywhere.
    """
    *fast, slow = loaders()
    for loader in fast:
        try:
            return loader(text).get_single_node()
        except (yaml.YAMLError, ValueError):
            if len(text) > _SHORT:
                raise
    return slow(text).get_single_node()


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
    text: str = field(default="", compare=False)


def read(text: str, source: str, kind: str = "scenario") -> Document:
    """Read one YAML document, which begins with `kind: NAME` where it is not empty.

    Raises:
        ScenarioError: Broken YAML, a duplicate key, a tag, more than one document; with `source:line: `. A text of more
            than 2,000,000 characters is refused unread, and so is a Python file.
    """
    if len(text) > _MOST_CHARACTERS:
        raise ScenarioError(f"{source}: {_too_large(len(text), 'characters')}")
    if source.endswith(".py"):
        fix = f"name its function that returns a scenario, {FilePath(source).stem}:FUNCTION"
        raise ScenarioError(f"{source}: is Python, not YAML; {fix}")
    return _read(text, source, kind)


class DocumentSpec(Spec):
    """Base of what is a document of its own, which begins with the first field and its name."""

    library: ClassVar[FilePath]
    """The folder of antiphon's own documents of the kind."""

    _document_read: Document = PrivateAttr(default_factory=lambda: Document({}, {}, ""))

    @property
    def text(self) -> str:
        return self._document_read.text

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
        """Read a document.

        Raises:
            ScenarioError: Something that is not accepted; the line begins `source:line: `.
        """
        document = read(text, source, next(iter(cls.model_fields)))
        try:
            spec = cls.model_validate(document.data)
        except DocumentError as error:
            raise error.located(document.source, document.lines) from None
        spec._document_read = document
        return spec

    def with_lines_of(self, original: Self) -> Self:
        """Return it with the lines of another one's file, but for keys whose values differ."""
        values, original_values, document = plain(self), plain(original), original._document_read
        differ = {
            (key,)
            for key in values.keys() | original_values.keys()
            if values.get(key) != original_values.get(key)
        }
        copy, unchanged = (
            self.model_copy(),
            {p: line for p, line in document.lines.items() if p[:1] not in differ},
        )
        copy._document_read = replace(document, lines=unchanged)
        return copy

    def located(self, problem: DocumentError) -> DocumentError:
        """Return a problem of one of its keys with the line of its file; of keys that are from elsewhere, with its kind."""
        document = self._document_read
        if problem.path[:1] in document.lines:
            return problem.located(document.source, document.lines)
        return problem.located(next(iter(type(self).model_fields)), {})


Found = TypeVar("Found", bound=DocumentSpec)


def find_document(kind: type[Found], name_or_path: str | FilePath) -> Found | None:
    """Return a study or population of the library, or read one from a file; None where it is neither.

    Args:
        kind: The document's; its first field is the key that the file begins with.
        name_or_path: A name of the library, or the path of a YAML file.

    Raises:
        ScenarioError: The document is not valid.
    """
    if str(name_or_path) in kind.library_names():
        return kind.of_library(str(name_or_path))
    path = FilePath(os.path.expanduser(name_or_path))
    if not path.is_file() or not _begins_with(next(iter(kind.model_fields)), path):
        return None
    spec: Found = kind.from_yaml(read_file(path), str(path))
    scenario: str = vars(spec)["scenario"]
    if not scenario.endswith(_SUFFIXES):
        return spec
    return spec.model_copy(update={"scenario": str(path.parent / scenario)})


def _begins_with(key: str, path: FilePath) -> bool:
    """Whether a file holds such a document, and no scenario, which has an env; its reader raises other problems of the file."""
    try:
        text = read_file(path)
    except ScenarioError:
        return False
    if key not in text:
        return False
    try:
        keys = {name.value for name, _ in getattr(_compose(text), "value", ())}
    except (yaml.YAMLError, DocumentError, TypeError, ValueError):  # broken, or no mapping
        keys = {line.partition(":")[0] for line in text.splitlines() if ":" in line}
    return key in keys and "env" not in keys


def _read(text: str, source: str, kind: str) -> Document:
    try:
        node: yaml.Node | None = _compose(text)
    except DocumentError as error:
        raise error.located(source, {}) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        if error.context == _OF_A_KEY:  # its end is found a line too late
            mark = error.context_mark
        line = f":{mark.line + 1}" if mark else ""
        parts = [phrase for phrase in (error.problem, error.context) if phrase]
        fix = next((fix for word, fix in _FIXES.items() if word in parts[0]), "")
        raise ScenarioError(
            f"{source}{line}: broken YAML: {' '.join(', '.join(parts).split())}{fix}"
        ) from None
    except yaml.reader.ReaderError as error:
        number = text.count("\n", 0, error.position) + 1
        raise ScenarioError(f"{source}:{number}: broken YAML: invalid character; leave it out") from None
    except ValueError:
        raise ScenarioError(f"{source}: broken YAML: character out of range; leave it out") from None
    if node is None:
        raise ScenarioError(f"{source}: is empty; begin with '{kind}: NAME'")
    builder = _NodeConverter()
    try:
        data = builder.build(node, (), ())
    except DocumentError as error:
        raise error.located(source, builder.lines) from None
    if not isinstance(data, dict):
        raise ScenarioError(
            f"{source}:1: a {kind} is a mapping of keys, not {show_value(data)}; begin with '{kind}: NAME'"
        )
    lines = builder.lines
    if not SPELLINGS.keys().isdisjoint(key for path in lines for key in path):
        lines |= {tuple(SPELLINGS.get(str(key), key) for key in path): line for path, line in lines.items()}
    data = {key: value for key, value in data.items() if not key.startswith(EXTENSION)}
    return Document(data, lines, source, text)


def read_file(path: FilePath) -> str:
    """Return the text of a document's file.

    Raises:
        ScenarioError: The file is missing, is not a regular file, is not UTF-8, or has more than 2,000,000 bytes.
    """
    try:
        status = path.stat()
        problem = _no_document(path, status)
        if problem is None:
            return path.read_text(encoding="utf-8")
    except FileNotFoundError:
        problem = f"no such file{_beside(path)}"
    except UnicodeDecodeError:
        problem = "not a text file in UTF-8; save it as one"
    except (OSError, ValueError) as error:  # ValueError: a null character in the name
        problem = f"cannot be read ({getattr(error, 'strerror', None) or error})"
    raise ScenarioError(f"{path}: {problem}")


def _beside(path: FilePath) -> str:
    """Return "; …" with the nearest of the YAML files in the folder of one that is missing, or what to give."""
    files = path.parent.glob("*.y*ml") if path.parent.is_dir() else ()
    return suggest(path.name, (file.name for file in files)) or "; give the path of a file"


def _no_document(path: FilePath, status: os.stat_result) -> str | None:
    """Return why a file is not opened; None: it is."""
    if stat.S_ISDIR(status.st_mode):
        if (path / "run.json").is_file():
            return "is a run; Simulation.resume continues it, Simulation.load opens it, its scenario.yaml begins a new one"
        return "is a folder, neither a file nor a run (a run directory holds run.json)"
    if not stat.S_ISREG(status.st_mode):
        return "is not a regular file; copy its content into one"
    return _too_large(status.st_size, "bytes") if status.st_size > _MOST_CHARACTERS else None


def _too_large(count: int, unit: str) -> str:
    return f"has {count:,} {unit}, more than {_MOST_CHARACTERS:,}; let a graph generate identical agents"


_OF_A_KEY = "while scanning a simple key"
_FIXES = {
    "'\\t'": "; indent with spaces",
    "mapping values are not allowed": "; begin a new line for a key, or put text with a colon in quotes",
    "expected ',' or": "; put commas between items, and close what is opened",
    "unexpected end of stream": "; close the quotes",
    "could not find expected ':'": "; write a colon after this key",
    "undefined alias": "; write &NAME where its value is, above",
}
"""What to write instead, by words of the YAML parser's."""


class _NodeConverter:
    """Converter of composed nodes to plain data and the line of every path."""

    def __init__(self) -> None:
        self.lines: dict[Path, int] = {}

    def build(self, node: yaml.Node, path: Path, above: tuple[yaml.Node, ...]) -> Any:
        self.lines.setdefault(path, node.start_mark.line + 1)
        if len(self.lines) > _MOST_VALUES:
            raise DocumentError((), _TOO_LONG)
        if len(above) > _MOST_LEVELS:
            raise DocumentError(
                path[:2], f"nested too deeply, more than {_MOST_LEVELS} levels (aliases counted); write fewer"
            )
        if node in above:
            raise DocumentError(path, "is an alias that contains itself; write the value out")
        if isinstance(node, yaml.MappingNode) and node.tag == _CORE + "map":
            return self._mapping(node, path, (*above, node))
        if isinstance(node, yaml.SequenceNode) and node.tag == _CORE + "seq":
            items = enumerate(node.value)
            return [self.build(item, (*path, index), (*above, node)) for index, item in items]
        if isinstance(node, yaml.ScalarNode):
            return _scalar(node, path)
        raise DocumentError(path, f"tag {node.tag!r}: tags are not supported; write plain data")

    def _mapping(self, node: yaml.MappingNode, path: Path, above: tuple[yaml.Node, ...]) -> dict[str, Any]:
        data: dict[str, Any] = {}
        merging: list[tuple[yaml.Node, Path]] = []
        for key_node, value_node in node.value:
            key, line = _key(key_node, path), key_node.start_mark.line + 1
            key_path = (*path, key)
            if key in data or (merging and _merges(key_node)):
                first, self.lines[key_path] = self.lines[key_path], line
                raise DocumentError(key_path, f"is given twice, first in line {first}; keep one")
            self.lines[key_path] = line
            if _merges(key_node):
                merging.append((value_node, key_path))
            else:
                data[key] = self.build(value_node, key_path, above)
        for value_node, key_path in merging:
            for key_node, item in _merged(value_node, key_path, above, set()):
                key = _key(key_node, path)
                if key not in data:
                    self.lines[(*path, key)] = key_node.start_mark.line + 1
                    data[key] = self.build(item, (*path, key), above)
        return data


def _key(node: yaml.Node, path: Path) -> str:
    if not isinstance(node, yaml.ScalarNode):
        raise DocumentError(path, "a key is a word, not a list or mapping; write KEY: VALUE")
    return str(node.value)


def _merges(key: yaml.Node) -> bool:
    """Return whether a key is YAML's merge key; in quotes it is a word."""
    return isinstance(key, yaml.ScalarNode) and key.value == "<<" and not key.style


def _merged(
    node: yaml.Node, path: Path, above: tuple[yaml.Node, ...], seen: set[int]
) -> Iterator[tuple[yaml.Node, yaml.Node]]:
    """Yield the keys and values that a merge key adds to its mapping, those that count first."""
    for mapping in node.value if isinstance(node, yaml.SequenceNode) else [node]:
        if not isinstance(mapping, yaml.MappingNode):
            raise DocumentError(path, "merges a mapping, or a list of mappings; write <<: *anchor")
        if mapping in above:
            raise DocumentError(path, "is an alias that contains itself; write the value out")
        if id(mapping) in seen:  # its keys are there already
            continue
        seen.add(id(mapping))
        yield from (pair for pair in mapping.value if not _merges(pair[0]))
        for key, value in mapping.value:
            if _merges(key):
                yield from _merged(value, path, above, seen)


def _scalar(node: yaml.ScalarNode, path: Path) -> Any:
    text = str(node.value)
    kind = node.tag.removeprefix(_CORE)
    try:
        if kind == "str":
            return text
        if kind == "null" and (not text or text.lower() in ("~", "null")):
            return None
        if kind == "bool":
            return {"true": True, "false": False}[text.lower()]
        if kind == "int":
            return int(text, 0) if text[:2] in ("0o", "0x") else int(text)
        if kind == "float":
            return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    except (KeyError, ValueError):
        raise DocumentError(
            path, f"{show_value(text)} is not a YAML {kind}; write another value, or put it in quotes"
        ) from None
    raise DocumentError(path, f"tag {node.tag!r}: tags are not supported; write plain data")


_WIDTH = 160
_LINE_ENDS = frozenset("\r\x85\u2028\u2029\ufeff")
_SECTIONS = ("agents", "channels", "training", "telemetry")


class _Dumper(yaml.SafeDumper):
    """YAML dumper that quotes ambiguous words of YAML 1.1 and 1.2; no aliases."""

    def ignore_aliases(self, data: Any) -> bool:
        return True

    def represent_text(self, text: str) -> yaml.Node:
        """Escape characters that readers take for line ends, in double quotes."""
        style = '"' if _LINE_ENDS & set(text) else None
        return self.represent_scalar("tag:yaml.org,2002:str", text, style=style)


_Dumper.add_representer(str, _Dumper.represent_text)
_Dumper.yaml_implicit_resolvers = {
    start: [
        *yaml.SafeDumper.yaml_implicit_resolvers.get(start, ()),
        *_Bounded.yaml_implicit_resolvers.get(start, ()),
    ]
    for start in {*yaml.SafeDumper.yaml_implicit_resolvers, *_Bounded.yaml_implicit_resolvers}
}


def write(data: Mapping[str, Any]) -> str:
    """Write a document (plain data): sections in blocks, each agent, channel and value on a line."""
    stream = io.StringIO()
    dumper = _Dumper(stream, width=_WIDTH, allow_unicode=True, sort_keys=False, default_flow_style=True)
    dumper.open()
    root: Any = dumper.represent_data(data)
    root.flow_style = False
    for key, value in root.value:
        value.flow_style = not (key.value in _SECTIONS and value.value)
    dumper.serialize(root)
    dumper.close()
    return stream.getvalue()
