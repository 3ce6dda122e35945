"""Settings of the documentation site (Sphinx): `make docs` builds it into docs/_build/html, without a network."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "docs")]

from pydantic import BaseModel

import antiphon
from tables import with_tables

project = "antiphon"
author = "The antiphon developers"
version = release = antiphon.__version__
language = "en"
html_title = f"antiphon {version}"
html_theme = "furo"
html_theme_options = {"top_of_page_buttons": []}
html_copy_source = False
html_show_copyright = False
exclude_patterns = ["_build", "pictures"]

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
myst_enable_extensions = ["colon_fence"]
myst_heading_anchors = 4
myst_links_external_new_tab = False

default_role = "code"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_default_options = {
    "members": True,
    "exclude-members": "model_config, model_post_init, bare, written, __init__",
}
suppress_warnings = [
    "ref.python"
]  # words such as `name` in docstrings that several classes have as attributes

FOR_THE_SITE = re.compile(r"<!-- (\{[\w-]+\}\n.*?)\n-->", re.DOTALL)
"""A directive that a page has in a comment, which code hosts do not show."""
PROGRAM = re.compile(
    r"^\[[\w.]+\.py\]\(([\w/.]+\.py)\)(?:, \[output\]\(([\w/.]+\.txt)\))?$",
    re.MULTILINE,
)
"""A program and its output as links, which the site shows in full."""
RECORD = re.compile(r"\[([\w-]+)\]\((\.\./\.\./benchmarks/results/[\w-]+\.md)\)")
"""A link to the record of a result, which is a download on the site."""
CODE = re.compile(r"(?<![`:])`([^`]+)`(?!`)")
EMPHASIS = re.compile(r"\*\w(?:[^*`|]*\w)?\*")


def with_directives(app: Any, name: str, source: list[str]) -> None:
    """Replace, in the text of a page, what is for code hosts by what is for the site."""
    text = with_tables(source[0])
    text = FOR_THE_SITE.sub(lambda found: f"```{found[1]}\n```", text)
    text = RECORD.sub(r"{download}`\1 <\2>`", text)
    source[0] = PROGRAM.sub(
        lambda found: "\n\n".join(
            f"```{{literalinclude}} {file}\n```" for file in found.groups() if file
        ),
        text,
    )


def as_restructured_text(
    app: Any, what: str, name: str, obj: object, options: object, lines: list[str]
) -> None:
    """Convert a docstring in place: code spans as in Markdown, and no other markup but emphasis."""
    literal: int | None = None
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if literal is not None and line.strip() and indent <= literal:
            literal = None
        if literal is None:
            parts = CODE.split(line)
            text = [
                EMPHASIS.sub(lambda found: found[0].replace("*", "\0"), part)
                for part in parts[::2]
            ]
            text = [
                re.sub(r"(?<!\\)([*|])", r"\\\1", part).replace("\0", "*")
                for part in text
            ]
            joined = text[0]
            for code, after in zip(parts[1::2], text[1:], strict=True):
                joined += (
                    "\\ " if joined[-1:].isalnum() else ""
                ) + f"``{code.strip()}``"
                joined += ("\\ " if after[:1].isalnum() else "") + after
            lines[number] = joined
            if line.rstrip().endswith("::"):
                literal = indent


def readable_signature(
    app: Any,
    what: str,
    name: str,
    obj: Any,
    options: object,
    signature: str | None,
    returns: str | None,
) -> tuple[str | None, str | None] | None:
    """Replace the signature of a pydantic model by its keys and defaults, without pydantic's types."""
    if not (isinstance(obj, type) and issubclass(obj, BaseModel)):
        return None
    keys = [
        _key(field.alias or name, field)
        for name, field in obj.model_fields.items()
        if name not in getattr(obj, "refused", ())
    ]
    return f"(*, {', '.join(keys)})" if keys else "()", None


def _key(name: str, field: Any) -> str:
    """Return a key of a signature; only plain defaults are shown."""
    if field.is_required():
        return name
    plain = isinstance(field.default, bool | int | float | str)
    return f"{name}={field.default!r}" if plain else f"{name}=…"


def setup(app: Any) -> None:
    """Connect before napoleon, which reads what is converted."""
    app.connect("source-read", with_directives)
    app.connect("autodoc-process-docstring", as_restructured_text, priority=400)
    app.connect("autodoc-process-signature", readable_signature)
