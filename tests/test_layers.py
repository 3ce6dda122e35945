"""The rules of the code's shape, read from its source: who imports whom."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import pytest

pytestmark = pytest.mark.long

ROOT = Path(__file__).resolve().parents[1]
LAYERS = (
    "antiphon",
    "splitting",
    "jobs",
    "running",
    "distributed",
    "inspection",
    "engine",
    "telemetry",
    "scenarios",
    "agents",
    "comms",
    "envs",
    "nets",
    "base",
)
"""Top first: a folder may import itself and what stands after it."""
STRANGERS = {"telemetry": {"scenarios", "agents", "comms", "envs"}, "agents": {"envs"}, "comms": {"envs"}}
"""Folders below that are nevertheless not to be known."""
OF_TORCH = {"_modules", "_buffers", "_parameters", "_version", "_BatchNorm"}
"""Private names of torch's, which some files of ours use for their own too."""


@dataclass(frozen=True)
class Source:
    """One Python file: its path from the root, the folder whose rules it obeys, and the nodes of its syntax tree."""

    path: str
    folder: str
    nodes: list[ast.AST]


def read(folder: str) -> Iterator[Source]:
    """Yield the Python files under a folder of the root, links not followed."""
    for path in sorted((ROOT / folder).rglob("*.py")):
        inside = path.relative_to(ROOT)
        if not any((ROOT / parent).is_symlink() for parent in inside.parents):
            text = path.read_text(encoding="utf-8")
            yield Source(str(inside), folder, list(ast.walk(ast.parse(text, str(path)))))


@pytest.fixture(scope="module")
def library() -> list[Source]:
    """The files of the library."""
    return [source for folder in LAYERS for source in read(folder)]


def imports(nodes: Iterable[ast.AST]) -> Iterator[tuple[int, str]]:
    """Yield (line, dotted name) of everything imported by some nodes, `from a import b` as `a.b`."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            yield from ((node.lineno, f"{origin}.{alias.name}") for alias in node.names)


def module_of(path: str) -> str:
    """Return the dotted name by which a file of the library is imported."""
    parts = Path(path).with_suffix("").parts
    parts = parts if parts[0] == "antiphon" else ("antiphon", *parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def circles(sources: Iterable[Source]) -> list[list[str]]:
    """Return the sets of modules that import one another, also in functions and under `if TYPE_CHECKING`."""
    trees = {module_of(source.path): source.nodes for source in sources}
    graph: nx.DiGraph[str] = nx.DiGraph()
    for module, tree in trees.items():
        for _, name in imports(tree):
            target = name if name in trees else name.rpartition(".")[0]
            if target in trees and target != module:
                graph.add_edge(module, target)
    return sorted(sorted(found) for found in nx.strongly_connected_components(graph) if len(found) > 1)


def layer(name: str) -> str | None:
    """Return the folder that an imported name belongs to; None for other people's packages."""
    first, _, rest = name.partition(".")
    if first != "antiphon":
        return None
    second = rest.partition(".")[0]
    return second if second in LAYERS else "antiphon"


def test_imports_only_point_down(library: list[Source]) -> None:
    wrong = []
    for source in library:
        below = set(LAYERS[LAYERS.index(source.folder) :]) - STRANGERS.get(source.folder, set())
        for line, name in imports(source.nodes):
            target = layer(name)
            if target is not None and target not in below:
                wrong.append(f"{source.path}:{line}: {source.folder}/ may not import {name}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("module", "package"),
    [
        ("antiphon", "torch"),
        ("antiphon.cli", "torch"),
        ("antiphon.cli", "gymnasium"),
        ("antiphon.scenarios", "torch"),
        ("antiphon.telemetry", "torch"),
        *((f"antiphon.base.{path.stem}", "torch") for path in sorted((ROOT / "base").glob("[a-z]*.py"))),
    ],
)
def test_loading_it_does_not_load_what_is_slow_to_import(module: str, package: str) -> None:
    program = f"import sys, {module}; sys.exit({package!r} in sys.modules and '{package} was loaded')"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def test_gradients_are_cut_only_in_comms(library: list[Source]) -> None:
    wrong = [
        f"{source.path}:{node.lineno}: .{node.attr}() belongs in comms/"
        for source in library
        if source.folder != "comms"
        for node in source.nodes
        if isinstance(node, ast.Attribute) and node.attr in {"detach", "detach_"}
    ]
    assert not wrong, "\n".join(wrong)


def private_names(source: Source) -> set[str]:
    """Return the private names that a file defines: methods, functions, fields, attributes of `self`."""
    found = set()
    for node in source.nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            found.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            if isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"}:
                found.add(node.attr)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
    return {name for name in found if name.startswith("_") and not name.startswith("__")}


def test_what_is_private_is_used_by_its_own_file_alone(library: list[Source]) -> None:
    """Of our own names; a NamedTuple's public methods begin with an underscore too."""
    own = {source.path: private_names(source) for source in library}
    names = set().union(*own.values()) - {"_replace", "_asdict", "_make", "_fields"}
    wrong = [
        f"{source.path}:{node.lineno}: {ast.unparse(node)} is private to another file"
        for source in library
        for node in source.nodes
        if isinstance(node, ast.Attribute)
        and node.attr in names - own[source.path] - OF_TORCH
        and not (isinstance(node.value, ast.Name) and node.value.id in {"self", "cls"})
    ]
    assert not wrong, "\n".join(wrong)


def test_folders_do_not_import_each_other(library: list[Source]) -> None:
    """A folder that is in another is a part of it."""
    modules = {module_of(source.path): str(Path(source.path).parent) for source in library}
    seen: set[tuple[str, str]] = set()
    for source in library:
        here = str(Path(source.path).parent)
        for _, name in imports(source.nodes):
            there = modules.get(name, modules.get(name.rpartition(".")[0], here))
            if here not in {there, *map(str, Path(there).parents)} and there not in map(
                str, Path(here).parents
            ):
                seen.add((here, there))
    assert {pair for pair in seen if pair[::-1] in seen and pair < pair[::-1]} == set()


def test_no_modules_import_one_another_not_even_late(library: list[Source]) -> None:
    assert not circles(library)
