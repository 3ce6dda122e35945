"""Bundle of the front end's modules in one script, for a page without a server.

No external bundler is needed because the modules keep to a rule: imports are single lines of names from a neighbour, exports
stand before a declaration, and no two modules declare the same name at their top level. A module that breaks it is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path
from typing import NamedTuple

from antiphon.errors import EngineError

__all__ = ["STATIC", "bundled", "sheet", "vendored"]

STATIC = Path(__file__).with_name("static")
"""Folder of the front end."""
_ENTRY = "index.js"
"""Entry module for TensorBoard alone, which has a server."""
_NAME = r"[A-Za-z_$][\w$]*"
_IMPORT = re.compile(rf'import \{{ ({_NAME}(?:, {_NAME})*) \}} from "\./([\w-]+\.js)";')
_DECLARED = re.compile(
    rf"(?P<export>export )?(?P<kind>async function|function|class|const|let|var)\b\*? (?P<name>{_NAME})(?P<rest>.*)"
)
_FORBIDDEN = (
    (re.compile(r"import\b"), "an import that is not one line of names from a neighbour"),
    (re.compile(r"export\b"), "an export that is not a named declaration"),
    (re.compile(r"(?:const|let|var)\b"), "a declaration at top level that is not of one name"),
    (re.compile(r"await\b"), "an await at top level"),
)
"""Forbidden beginnings of lines that are no accepted import or declaration, with the reason."""
_INSIDE = re.compile(r"\bimport\s*[(.]")
_COMMENT = re.compile(r"\s*(?://|/\*|\*)")
_ENDS_SCRIPT = re.compile(r"</script|<!--", re.IGNORECASE)
_ENDS_STYLE = re.compile(r"</style|@import|url\(", re.IGNORECASE)


class _Module(NamedTuple):
    """One module: its text without imports and `export`, its imports and its declarations."""

    text: str
    needs: Mapping[str, tuple[str, ...]]
    """Imported names by module."""
    names: tuple[str, ...]
    """Declared at top level."""
    exported: frozenset[str]


def bundled(folder: Path = STATIC) -> str:
    """Return all modules of a folder but `index.js` as one script, each after those that it needs.

    Raises:
        EngineError: A module breaks the rule, needs what is not there, or shares a name with another.
    """
    texts = {path.name: _read(path) for path in sorted(folder.glob("*.js")) if path.name != _ENTRY}
    modules = {name: _module(name, text) for name, text in texts.items()}
    owners: dict[str, str] = {}
    for name, module in modules.items():
        for declared in module.names:
            if declared in owners:
                raise EngineError(f"{name}: declares '{declared}', as {owners[declared]} does; rename one")
            owners[declared] = name
        for needed, wanted in module.needs.items():
            if needed not in modules:
                raise EngineError(f"{name}: imports from {needed}, which is not there")
            missing = sorted(set(wanted) - modules[needed].exported)
            if missing:
                raise EngineError(f"{name}: imports '{missing[0]}', which {needed} does not export")
    try:
        order = list(
            TopologicalSorter({name: module.needs for name, module in modules.items()}).static_order()
        )
    except CycleError as error:
        raise EngineError(f"modules import each other in a circle: {' -> '.join(error.args[1])}") from None
    return "\n".join(modules[name].text for name in order)


def vendored(name: str, folder: Path = STATIC) -> str:
    """Return a script of another project, as it is.

    Raises:
        EngineError: It cannot be embedded in a page.
    """
    return _checked(name, _read(folder / "vendor" / name), _ENDS_SCRIPT)


def sheet(folder: Path = STATIC) -> str:
    """Return all style sheets, other projects' first.

    Raises:
        EngineError: One cannot be embedded in a page, or loads something.
    """
    paths = [*sorted((folder / "vendor").glob("*.css")), *sorted(folder.glob("*.css"))]
    return "\n".join(_checked(path.name, _read(path), _ENDS_STYLE) for path in paths)


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8").replace("\r\n", "\n")


def _checked(name: str, text: str, forbidden: re.Pattern[str]) -> str:
    found = forbidden.search(text)
    if found is not None:
        raise EngineError(f"{name}: holds '{found.group()}', which cannot stand inside of a page")
    return text


def _module(name: str, text: str) -> _Module:
    """Parse a module, line by line; unindented lines are at top level."""
    lines, names, exported = [f"// --- {name}"], [], set()
    needs: dict[str, tuple[str, ...]] = {}
    for number, line in enumerate(_checked(name, text, _ENDS_SCRIPT).splitlines(), 1):
        place = f"{name}:{number}"
        if _INSIDE.search(line) and not _COMMENT.match(line):
            raise EngineError(f"{place}: import() and import.meta cannot be put into one script")
        imported, declared = _IMPORT.fullmatch(line), _DECLARED.match(line)
        if imported is not None:
            wanted, needed = imported.groups()
            needs[needed] = (*needs.get(needed, ()), *wanted.split(", "))
            continue
        if declared is not None and _of_one_name(declared):
            names.append(declared["name"])
            if declared["export"]:
                exported.add(declared["name"])
            lines.append(line.removeprefix("export "))
            continue
        for pattern, what in _FORBIDDEN:
            if pattern.match(line):
                raise EngineError(f"{place}: {what}: {line[:60]}")
        lines.append(line)
    return _Module("\n".join(lines) + "\n", needs, tuple(names), frozenset(exported))


def _of_one_name(declared: re.Match[str]) -> bool:
    """Whether a declaration is of a single name; `let a, b;` is not."""
    if declared["kind"] in ("const", "let", "var"):
        return re.match(r"\s*(=|;|$)", declared["rest"]) is not None
    return True
