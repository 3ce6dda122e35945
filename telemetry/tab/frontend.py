"""Bundle of the front end's modules in one script, for a page without a server.

No external bundler is needed because the modules keep to a rule, which a test checks: imports are single lines of names from a
relative path, exports stand before a declaration, and no two modules declare the same name at their top level.
"""

from __future__ import annotations

import posixpath
import re
from graphlib import TopologicalSorter
from pathlib import Path

STATIC = Path(__file__).with_name("static")
_ENTRY = "index.js"
"""Entry module for TensorBoard alone, which has a server."""
_VENDOR = "vendor"
"""Folder of other projects' scripts, and of what is run before them."""
_IMPORT = re.compile(r'^import \{[^}\n]*\} from "(\.\.?/[\w/-]+\.js)";$', re.MULTILINE)
_EXPORT = re.compile(r"^export (?=async |function|class|const|let)", re.MULTILINE)


def bundled(folder: Path = STATIC) -> str:
    """Return all modules of a folder and its folders except `index.js` as one script, each after the modules that it imports."""
    modules = [path for path in sorted(folder.rglob("*.js")) if path.parent.name != _VENDOR]
    texts = {path.relative_to(folder).as_posix(): _read(path) for path in modules if path != folder / _ENTRY}
    needs = {
        name: [
            posixpath.normpath(posixpath.join(posixpath.dirname(name), path))
            for path in _IMPORT.findall(text)
        ]
        for name, text in texts.items()
    }
    order = TopologicalSorter(needs).static_order()
    return "\n".join(f"// --- {name}\n{_EXPORT.sub('', _IMPORT.sub('', texts[name]))}" for name in order)


def vendored(name: str, folder: Path = STATIC) -> str:
    """Return a script of the folder of other projects', unmodified."""
    return _read(folder / _VENDOR / name)


def sheet(folder: Path = STATIC) -> str:
    """Return all style sheets, other projects' first."""
    return "\n".join(
        _read(path) for path in [*sorted((folder / _VENDOR).glob("*.css")), *sorted(folder.glob("*.css"))]
    )


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8").replace("\r\n", "\n")
