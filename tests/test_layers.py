"""The rules of the code's shape, read from its source: who imports whom, how long a function is."""

from __future__ import annotations

import ast
import itertools
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import networkx as nx
import pytest

from antiphon.comms.couplings import COUPLINGS
from tests.kit.kinds import kinds_of

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
OF_USERS = ("api", "cli", "contracts", "docs", "doors", "fuzz", "numerics", "soak", "splitting")
"""Folders of tests that do what users do: with scenarios, commands, objects and modules of their own."""
FRONTS = {"agents", "cli", "comms", "envs", "errors", "nets", "scenarios", "telemetry", "testing", "tune"}
"""What of antiphon tests of these may import: these modules and packages, and the packages' own modules, not what is below."""
LONGEST_FUNCTION = 80
OF_TORCH = {"_modules", "_buffers", "_parameters", "_version", "_BatchNorm"}
"""Private names of torch's, which some files of ours use for their own too."""
PICKLES = {"pickle", "cPickle", "_pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}
SAFE = (
    "yaml.safe_load(text)",
    "yaml.load(text, Loader=yaml.SafeLoader)",
    "torch.load(path, weights_only=True)",
)
"""What runs no code."""
YAML_CALLS = {"unsafe_load", "unsafe_load_all", "full_load", "full_load_all"}


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


def is_public(name: str) -> bool:
    """Return whether an imported name is one of `antiphon`, of a front or of a module right below it; or not antiphon's at all."""
    first, *below = name.split(".")
    if first != "antiphon" or not below or below[0] not in {*LAYERS, *FRONTS, "commands", "terminal"}:
        return True
    return below[0] in FRONTS and len(below) <= 3


def safe_loaders(sources: Iterable[Source]) -> set[str]:
    """Return the names of the YAML loaders that build plain data only: SafeLoader and the library's subclasses."""
    safe = {"SafeLoader", "CSafeLoader"}
    for source in sources:
        for node in source.nodes:
            if isinstance(node, ast.ClassDef) and any(final_name(base) in safe for base in node.bases):
                safe.add(node.name)
    return safe


def final_name(node: ast.AST | None) -> str:
    """Return `c` of `a.b.c` or of `c`, or nothing for any other expression."""
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def unsafe_loads(source: Source, loaders: set[str]) -> Iterator[str]:
    """Yield what in a file could run code that a data file names."""
    for line, name in imports(source.nodes):
        if name.partition(".")[0] in PICKLES:
            yield f"{source.path}:{line}: {name} runs code from data"
    for node in source.nodes:
        if not isinstance(node, ast.Call):
            continue
        called = ast.unparse(node.func)
        given = {keyword.arg: keyword.value for keyword in node.keywords}
        place = f"{source.path}:{node.lineno}"
        if called in {"yaml.load", "yaml.load_all"}:
            loader = given.get("Loader", node.args[1] if len(node.args) > 1 else None)
            if final_name(loader) not in loaders:
                yield f"{place}: {called} without a subclass of SafeLoader"
        elif called.startswith("yaml.") and final_name(node.func) in YAML_CALLS:
            yield f"{place}: {called} builds any object"
        elif called == "torch.load" and ast.unparse(given.get("weights_only", ast.Constant(None))) != "True":
            yield f"{place}: torch.load without weights_only=True unpickles"
        elif called == "np.load" and "allow_pickle" in given:
            yield f"{place}: np.load with allow_pickle"
        elif called in {"eval", "exec"}:
            yield f"{place}: {called}"


def test_imports_only_point_down(library: list[Source]) -> None:
    wrong = []
    for source in library:
        below = set(LAYERS[LAYERS.index(source.folder) :]) - STRANGERS.get(source.folder, set())
        for line, name in imports(source.nodes):
            target = layer(name)
            if target is not None and target not in below:
                wrong.append(f"{source.path}:{line}: {source.folder}/ may not import {name}")
    assert not wrong, "\n".join(wrong)


def test_every_import_of_our_own_is_written_in_full(library: list[Source]) -> None:
    folders = "|".join(sorted(set(LAYERS) - {"antiphon"}))
    bare = re.compile(rf"^\s*(?:from|import)\s+(?:\.|(?:{folders})\b)", re.MULTILINE)
    files = [ROOT / source.path for source in library]
    files += [file for folder in ("tests", "benchmarks") for file in (ROOT / folder).rglob("*.py")]
    wrong = [
        f"{file.relative_to(ROOT)}: import antiphon.<folder>, not {found[0].strip()}"
        for file in files
        for found in bare.finditer(file.read_text(encoding="utf-8"))
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("module", ["antiphon", "antiphon.cli", "antiphon.scenarios", "antiphon.telemetry"])
def test_loading_it_does_not_load_torch_by_way_of_others(module: str) -> None:
    program = f"import sys, {module}; sys.exit('torch' in sys.modules and 'torch was loaded')"
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


def test_no_data_file_can_run_code(library: list[Source]) -> None:
    loaders = safe_loaders(library)
    wrong = [line for source in library for line in unsafe_loads(source, loaders)]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "text",
    [
        "import pickle",
        "from cloudpickle import loads",
        "yaml.load(text)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.load(text, yaml.FullLoader)",
        "yaml.unsafe_load(text)",
        "torch.load(path)",
        "torch.load(path, weights_only=False)",
        "np.load(path, allow_pickle=True)",
        "eval(text)",
        *SAFE,
    ],
)
def test_the_check_for_code_in_data_sees_it_and_nothing_else(text: str) -> None:
    found = list(unsafe_loads(Source("planted.py", "nets", list(ast.walk(ast.parse(text)))), {"SafeLoader"}))
    assert bool(found) == (text not in SAFE)


HOMES = {
    "objective": ("agents/objectives.py", "agents/policy_gradients.py"),
    "network": (
        "agents/feedforward.py",
        "agents/recurrent.py",
        "agents/pointer.py",
        "nets/recurrent_cells.py",
    ),
    "fan_in": ("comms/fan_in.py", "nets/attention.py"),
    "gradient": ("comms/synthetic_gradients.py", "comms/label_gradients.py"),
    "input": ("comms/synthetic_inputs.py",),
    "optimiser": ("nets/optimiser_kinds.py", "nets/native/mlp.py"),
    "schedule": ("nets/schedules.py",),
    "sample": ("comms/symbols.py",),
    "coupling": ("comms/couplings.py",),
}
"""By section with kinds, the files of its classes: no other compares the names of the kinds."""
OTHER_WORDS = {
    "inspection/ablation.py": {"mean"},
    "jobs/studies/table.py": {"mean"},
    "splitting/credit.py": {"local", "lens"},
    "splitting/split.py": {"lens"},
}
"""Comparisons with a word that is also the name of a kind: what replaces a message, a statistic, `split(gradient=...)`."""


def is_kind(name: str, section: str) -> bool:
    """Return whether a name may hold the kind of a section; `gradient`, `schedule` and others have other values too."""
    if section == "coupling":
        return name == "coupling"
    return name in ("kind", f"{section}_kind") or name == section == "fan_in"


def kinds_compared(source: Source, names: dict[str, set[str]]) -> Iterator[str]:
    """Yield the comparisons of a kind, or of a coupling, with names of kinds that have their class in another file."""
    for node in source.nodes:
        if not isinstance(node, ast.Compare):
            continue
        parts = [part for side in (node.left, *node.comparators) for part in ast.walk(side)]
        words = {part.value for part in parts if isinstance(part, ast.Constant)}
        told = {final_name(part) for part in parts} | words
        words -= OTHER_WORDS.get(source.path, set())
        sections = [
            section
            for section, known in names.items()
            if words & known and any(is_kind(name, section) for name in told)
        ]
        if sections and not any(source.path in HOMES[section] for section in sections):
            yield f"{source.path}:{node.lineno}: {ast.unparse(node)}: let the class of the {sections[0]} say it"


@pytest.fixture(scope="module")
def names_of_kinds() -> dict[str, set[str]]:
    """The names of antiphon's own kinds, by section."""
    own = {section: {*kinds_of(section)} for section in HOMES if section != "coupling"}
    return {**own, "coupling": {*COUPLINGS}}


def test_a_kind_is_asked_and_its_name_not_compared(
    library: list[Source], names_of_kinds: dict[str, set[str]]
) -> None:
    wrong = [line for source in library for line in kinds_compared(source, names_of_kinds)]
    assert not wrong, "\n".join(wrong)


OF_ANY_GRAPH = "telemetry/tab/documents.py"
"""Telemetry records graphs of any program, and imports no couplings: it has the one that an edge without any is shown with."""


def couplings_named(source: Source) -> Iterator[str]:
    """Yield the names of couplings that a file has as words: in lists, comparisons, defaults."""
    if source.path not in (*HOMES["coupling"], OF_ANY_GRAPH):
        words = (
            node for node in source.nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)
        )
        for node in words:
            if node.value in COUPLINGS:
                yield f"{source.path}:{node.lineno}: {node.value!r}: ask the class, or write its name as `Locked.name`"


def test_whose_a_class_or_function_is_is_asked_at_one_place(library: list[Source]) -> None:
    """`is_users` of base/extensions.py."""
    asked = [
        source.path
        for source in library
        for node in source.nodes
        if isinstance(node, ast.Call) and ast.unparse(node).endswith(".startswith('antiphon.')")
    ]
    assert asked == ["base/extensions.py"]


def test_couplings_are_named_by_their_classes_alone(library: list[Source]) -> None:
    wrong = [line for source in library for line in couplings_named(source)]
    assert not wrong, "\n".join(wrong)
    planted = ast.parse("MINE = ('locked', 'decoupled')\nmatch coupling:\n    case 'delayed':\n        pass")
    assert len(list(couplings_named(Source("engine/planted.py", "engine", list(ast.walk(planted)))))) == 3


def aggregations_listed(source: Source, known: set[str]) -> Iterator[str]:
    """Yield the lists of nothing but aggregations, by name, outside of their files: their words alone have other senses."""
    if source.path in HOMES["fan_in"]:
        return
    for node in source.nodes:
        parts = node.keys if isinstance(node, ast.Dict) else getattr(node, "elts", ())
        names = {part.value if isinstance(part, ast.Constant) else None for part in parts}
        if len(names) > 1 and names <= known:
            yield f"{source.path}:{node.lineno}: {ast.unparse(node)}: ask the class, as of `side_by_side`"


def test_aggregations_are_named_by_their_classes_alone(
    library: list[Source], names_of_kinds: dict[str, set[str]]
) -> None:
    known = names_of_kinds["fan_in"]
    wrong = [line for source in library for line in aggregations_listed(source, known)]
    assert not wrong, "\n".join(wrong)
    planted = ast.parse(
        "REDUCED = ('sum', 'mean')\nJOINED = {'concat': A, 'sum': B}\nREAD = ('last', 'mean')"
    )
    source = Source("comms/planted.py", "comms", list(ast.walk(planted)))
    assert len(list(aggregations_listed(source, known))) == 2


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("inputs.fan_in_kind == 'mean'", 1),
        ("agent.fan_in in ('sum', 'attention')", 1),
        ("goal.kind == 'ppo'", 1),
        ("one['kind'] in ('classification', 'coding')", 1),
        ("channel.coupling != 'locked'", 1),
        ("kind == 'mlp' or kind == 'conv'", 2),
        ("channel.read == 'mean'", 0),
        ("goal.kind == 'mine'", 0),
    ],
)
def test_the_check_for_names_of_kinds_sees_them(
    text: str, seen: int, names_of_kinds: dict[str, set[str]]
) -> None:
    source = Source("scenarios/planted.py", "scenarios", list(ast.walk(ast.parse(text))))
    assert len(list(kinds_compared(source, names_of_kinds))) == seen


def test_functions_are_short_enough_to_read(library: list[Source]) -> None:
    long = []
    for source in library:
        for node in source.nodes:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                first = (
                    node.body[0].lineno if "/commands/" in str(source.path) else node.lineno
                )  # options are data
                length = (node.end_lineno or node.lineno) - first + 1
                if length > LONGEST_FUNCTION:
                    long.append(
                        f"{source.path}:{node.lineno}: {node.name} has {length} lines, at most {LONGEST_FUNCTION}"
                    )
    assert not long, "\n".join(long)


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


@pytest.mark.parametrize(
    ("called", "files"),
    [
        ("open_writer", ["running/begin.py"]),
        ("DirectoryWriter", ["running/directory_writer.py", "running/resume.py"]),
        ("read_simulation", ["engine/live_system.py", "running/resume.py"]),
        ("Coordinator", ["running/execution.py"]),
        ("with_chosen_links", ["running/begin.py"]),
    ],
)
def test_a_run_begins_and_is_resumed_in_one_place(
    library: list[Source], called: str, files: list[str]
) -> None:
    """`begin` and `resume`: for Simulation, the command line, seeds, populations, parts and virtual time.

    A checkpoint without a run is also loaded by `Simulation.load`.
    """
    found = [
        source.path
        for source in library
        for node in source.nodes
        if isinstance(node, ast.Call) and final_name(node.func) == called
    ]
    assert sorted(found) == files


def test_tests_of_what_users_do_import_what_users_import() -> None:
    """What they need of the inside stands in `tests/kit`; tests of the inside lie in the folder that is named after it."""
    wrong = [
        f"{source.path}:{line}: {name} is not public"
        for folder in OF_USERS
        for source in read(f"tests/{folder}")
        for line, name in imports(source.nodes)
        if not is_public(name)
    ]
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("name", "public"),
    [
        ("antiphon.Simulation", True),
        ("antiphon.comms.links.Link", True),
        ("tests.kit.running.stacked", True),
        ("antiphon.engine", False),
        ("antiphon.base.errors.RunError", False),
        ("antiphon.envs.adaptors.native.Native", False),
    ],
)
def test_the_check_for_what_is_public_sees_it(name: str, public: bool) -> None:
    assert is_public(name) is public


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


_ENTRY = re.compile(r"\*{0,2}\w+(?:, \*{0,2}\w+)*(?=:)")


def entries(node: ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef, section: str) -> list[str]:
    """Return the names that a section of a docstring describes, `Args` or `Attributes`."""
    lines = (ast.get_docstring(node) or "").splitlines()
    if f"{section}:" not in lines:
        return []
    below = itertools.takewhile(lambda line: line[:1] in ("", " "), lines[lines.index(f"{section}:") + 1 :])
    found = [_ENTRY.match(line[4:]) for line in below if line.strip()]
    return [name.strip("*") for entry in found if entry for name in entry[0].split(", ")]


def arguments(function: ast.FunctionDef | ast.AsyncFunctionDef) -> set[str]:
    """Return the names of what a function takes."""
    return {node.arg for node in ast.walk(function.args) if isinstance(node, ast.arg)}


class Classes:
    """The classes of some files, and what each has, with that of its bases among them."""

    def __init__(self, sources: Iterable[Source]) -> None:
        self.by_module: dict[str, dict[str, ast.ClassDef]] = {}
        """By module: its classes by name; one in another as `Outer.Inner`."""
        self._imported: dict[str, dict[str, str]] = {}
        for source in sources:
            module = module_of(source.path)
            self._imported[module] = {name.rpartition(".")[2]: name for _, name in imports(source.nodes)}
            found = self.by_module[module] = {}
            waiting = [("", node) for node in source.nodes if isinstance(node, ast.ClassDef)]
            inner = {id(child) for _, node in waiting for child in node.body}
            for outer, node in waiting:
                if outer or id(node) not in inner:
                    found[outer + node.name] = node
                    waiting += [
                        (f"{outer}{node.name}.", child)
                        for child in node.body
                        if isinstance(child, ast.ClassDef)
                    ]

    def with_bases(self, module: str, name: str) -> Iterator[ast.ClassDef]:
        """Yield a class and those that it is made of, as far as they are among these."""
        if name not in self.by_module.get(module, {}):
            target = self._imported.get(module, {}).get(name.partition(".")[0])
            if target is not None and (inside := target.rpartition("."))[0] != module:
                yield from self.with_bases(inside[0], ".".join([inside[2], *name.split(".")[1:]]))
            return
        node = self.by_module[module][name]
        yield node
        for base in node.bases:
            written = ast.unparse(base.value if isinstance(base, ast.Subscript) else base)
            if written != name:
                yield from self.with_bases(module, written)


def attributes(node: ast.ClassDef) -> set[str]:
    """Return the names of the attributes that a class itself declares, defines or sets in its methods; of classes in it, none."""
    found = set()
    waiting: list[ast.AST] = [*node.body]
    for inside in waiting:
        if isinstance(inside, ast.ClassDef):
            continue
        waiting += ast.iter_child_nodes(inside)
        if isinstance(inside, ast.FunctionDef | ast.AsyncFunctionDef):
            found.add(inside.name)
        elif isinstance(inside, ast.Attribute) and isinstance(inside.ctx, ast.Store):
            found |= {inside.attr} if final_name(inside.value) in {"self", "cls"} else set()
    for inside in node.body:
        targets = inside.targets if isinstance(inside, ast.Assign) else [getattr(inside, "target", None)]
        found |= {final_name(target) for target in targets}
    return found


def taken(made_of: Iterable[ast.ClassDef]) -> set[str] | None:
    """Return the names of what a class takes, given it and its bases; None: it has no `__init__` of its own, as a dataclass."""
    inits = [
        part
        for node in made_of
        for part in node.body
        if isinstance(part, ast.FunctionDef) and part.name == "__init__"
    ]
    if not inits:
        return None
    passes_on = inits[0].args.vararg or inits[0].args.kwarg
    return set().union(*map(arguments, inits if passes_on else inits[:1]))


def names_gone(sources: Sequence[Source]) -> Iterator[str]:
    """Yield the names in docstrings of arguments and attributes that there are not."""
    classes = Classes(sources)
    for source in sources:
        for function in source.nodes:
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef):
                for name in set(entries(function, "Args")) - arguments(function):
                    yield f"{source.path}:{function.lineno}: {function.name} takes no {name}"
        module = module_of(source.path)
        for name, node in classes.by_module[module].items():
            made_of = list(classes.with_bases(module, name))
            has = set().union(*map(attributes, made_of))
            takes = taken(made_of)
            gone = {*entries(node, "Args")} - (has if takes is None else takes)
            for what in [*gone, *({*entries(node, "Attributes")} - has)]:
                yield f"{source.path}:{node.lineno}: {name} has no {what}"


def test_docstrings_name_arguments_and_attributes_that_there_are(library: list[Source]) -> None:
    wrong = list(names_gone(library))
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    ("argument", "attribute", "seen"),
    [
        ("size", "kept", 0),
        ("*rest", "of_base", 0),
        ("size, rest", "kept, shown", 0),
        ("lr", "declared", 0),
        ("sizes", "kept", 1),
        ("size", "taken", 1),
        ("size, lost", "kept, taken", 2),
        ("size", "of_inner", 1),
    ],
)
def test_the_check_of_docstrings_sees_what_is_gone(argument: str, attribute: str, seen: int) -> None:
    base = "class Base:\n    def __init__(self, lr): self.of_base = lr\n"
    text = f'''
from antiphon.nets.base import Base
class Planted(Base):
    """It is.

    Args:
        {argument}: What it is,
            long: on two lines.

    Attributes:
        {attribute}: What it holds.

    Raises:
        ValueError: Never.
    """
    declared: int
    class Inner:
        of_inner = 1
    def __init__(self, size, *rest):
        self.kept = size
    @property
    def shown(self): return self.kept
'''
    planted = [
        Source(f"nets/{name}.py", "nets", list(ast.walk(ast.parse(written))))
        for name, written in (("base", base), ("planted", text))
    ]
    assert len(list(names_gone(planted))) == seen
