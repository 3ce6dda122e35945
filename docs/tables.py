"""Tables of the documentation that are made from classes when the site is built (Sphinx directives).

```{kinds} gradient      the kinds of a section of a scenario file, with their options
```{environment} Digits  the options of an environment of the library
```{commands}            the commands with their arguments and options
```{library}             the scenarios of the library
```{modules} engine/heart agents    the files of folders, with the first lines of their docstrings
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

import antiphon.scenarios
from antiphon import envs
from antiphon.base.kinds import kinds_of, own_keys_of, summary_of
from antiphon.base.problems import show_value
from antiphon.cli import COMMANDS, command
from antiphon.running.library import templates

ROOT = Path(__file__).resolve().parents[1]


def kinds(section: str) -> list[str]:
    """Return the kinds of a section, then their options; of an option that differs between kinds each default.

    Args:
        section: Of a scenario file, such as `gradient`.
    """
    options = {kind: own_keys_of(section, kind) for kind in kinds_of(section)}
    if not options:
        raise ValueError(f"no section {section!r} has kinds")
    lines = table("kind", "", "options")
    for kind, own in options.items():
        lines.append(
            row(
                f"`{kind}`",
                summary_of(section, kind),
                ", ".join(f"`{option}`" for option in own),
            )
        )
    if any(options.values()):
        lines += ["", *table("option", "meaning", "default")]
    for option in dict.fromkeys(option for own in options.values() for option in own):
        declared = [own[option] for own in options.values() if option in own]
        defaults = dict.fromkeys(in_words(default) for default, _ in declared)
        lines.append(row(f"`{option}`", declared[0][1], " or ".join(defaults)))
    return lines


def environment(name: str) -> list[str]:
    """Return the options of an environment.

    Args:
        name: Its id without `antiphon/`.
    """
    rows = envs.options_of(f"antiphon/{name}").rows()
    return [
        *table("option", "meaning", "default"),
        *(row(f"`{key}`", *rest) for key, *rest in rows),
    ]


def commands(_: str) -> list[str]:
    """Return the commands with their arguments and options, as the command line declares them."""
    lines = table("command", "", "options")
    for name, about in COMMANDS.items():
        words, options = [f"antiphon {name}"], []
        for declared in command(name).params:
            if declared.param_type_name == "argument":
                metavar = declared.metavar or str(declared.name).upper()
                words.append(
                    metavar if declared.required else f"[{metavar.strip('[]')}]"
                )
            else:
                options.append(f"`{declared.opts[0]}`")
        lines.append(row(f"`{' '.join(words)}`", about.summary, ", ".join(options)))
    return lines


def library(_: str) -> list[str]:
    """Return the library's scenarios, each with the first sentence of its description and its variants."""
    lines = table("scenario", "", "variants")
    for name, template in templates().items():
        variants = ", ".join(f"`{variant}`" for variant in template.variants)
        about = template.description.partition(". ")[0].removesuffix(".")
        lines.append(row(f"`{name}`", about, variants))
    return lines


def modules(folders: str) -> list[str]:
    """Return the files of folders of the repository, each with the first line of its docstring.

    Args:
        folders: Paths from the root, separated by spaces.
    """
    lines: list[str] = []
    for folder in folders.split():
        files = [
            path
            for path in sorted((ROOT / folder).glob("*.py"))
            if path.name != "__init__.py"
        ]
        if not files:
            raise ValueError(f"no files in {folder}")
        lines += table(f"`{folder}/`", "")
        for path in files:
            about = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
            lines.append(row(f"`{path.name}`", about.partition("\n")[0]))
        lines.append("")
    return lines


def table(*headings: str) -> list[str]:
    """Return the head of a table in Markdown."""
    return [row(*headings), "|---" * len(headings) + "|"]


def row(*cells: str) -> str:
    """Return a row of a table in Markdown."""
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def in_words(default: Any) -> str:
    """Return a default value as a scenario file has it."""
    if default == "needed":
        return "required"
    return show_value(list(default) if isinstance(default, tuple) else default).replace(
        "'", ""
    )


DIRECTIVES: dict[str, Callable[[str], Sequence[str]]] = {
    "modules": modules,
    "kinds": kinds,
    "environment": environment,
    "commands": commands,
    "library": library,
}


class Table(SphinxDirective):
    """A table in place of the directive, parsed as the Markdown around it is."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return the table's nodes; an unknown name is an error of the build."""
        argument = self.arguments[0] if self.arguments else ""
        try:
            lines = DIRECTIVES[self.name](argument)
        except (antiphon.AntiphonError, KeyError, ValueError) as error:
            raise self.error(f"{self.name} {argument}: {error}") from None
        holder = nodes.container()
        self.state.nested_parse(StringList(list(lines)), self.content_offset, holder)
        return holder.children


def setup(app: Any) -> dict[str, bool]:
    """Add the directives."""
    for name in DIRECTIVES:
        app.add_directive(name, Table)
    return {"parallel_read_safe": True}
