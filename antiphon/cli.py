"""The command line: its commands, and its exit codes.

A command is a function of the same name in the file of its name in `commands/`, with its options beside it. It is imported
when it is called, so that `antiphon --help` is quick; and what needs torch, when it runs.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import antiphon
from antiphon.base.errors import AntiphonError, EngineError, in_one_line, write_error

COMMANDS: Mapping[str, str] = {
    "run": "Train the agents of a scenario, and write a run directory.",
    "resume": "Continue a run or a population from its latest checkpoint, as if it had never stopped.",
    "study": "Run a study: compare variants over seeds in a table and a figure.",
    "population": "Train a population, whose best members replace the worst.",
    "check": "Check a scenario without running it: list the errors of its variants, or warnings if there are none.",
    "show": "Describe a scenario, a run or an environment.",
    "list": "List the library, its studies, or the kinds of a section of scenario files.",
    "evaluate": "Evaluate a run on unseen data; rank channels by how much the loss rises without them.",
    "report": "Write runs to one self-contained HTML file: results, training curves, rankings and the Channels tab.",
    "export": "Export a run's system or its weights to a file that can be read without antiphon.",
    "tb": "Open TensorBoard on runs, with enough samples to show every step.",
}
"""The commands, each with what `antiphon --help` says of it."""


class _Commands(TyperGroup):
    """The commands, listed by their summaries; the one that is called replaces its own line."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, listed, rest = super().resolve_command(ctx, args)
        return name, listed if name is None else command(name), rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:  # a second one, or one of what has no checkpoints
            write_error("stopped by Ctrl-C")
            raise


app = typer.Typer(
    cls=_Commands,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def command(name: str) -> Any:
    """Return a command with its options, from the file of its name."""
    app = typer.Typer(add_completion=False, rich_markup_mode=None)
    function = getattr(import_module(f"antiphon.commands.{name}"), "list_" if name == "list" else name)
    app.command(name, help=COMMANDS[name])(function)
    return typer.main.get_command(app)


def _version(show_version: bool) -> None:
    if show_version:
        print(f"antiphon {antiphon.__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
    modules: Annotated[
        list[str] | None,
        typer.Option(
            "--import",
            metavar="MODULE",
            help="Import a module first, installed or in this folder, for what it registers, such as environments; "
            "give it before the command; repeatable.",
        ),
    ] = None,
) -> None:
    """Simulate independent networks that learn together."""
    if modules:
        from antiphon.base.imports import import_given

        import_given(modules)


for _name, _summary in COMMANDS.items():
    app.command(_name, help=_summary)(lambda: None)


_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""Wrong usage of the command line: a class of click or of typer itself, by typer's version."""


def _usage_of(error: Any) -> str:
    """Return the message of a usage error in one line, and where the options are listed."""
    command = "antiphon" if error.ctx is None else error.ctx.command_path
    return f"{' '.join(error.format_message().split()).rstrip('.')}; see {command} --help"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: The words after `antiphon`; None: the command-line arguments of this process.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = lambda message, *_, **__: write_error(f"warning: {message}")
            code = app(args=words or ["--help"], prog_name="antiphon", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except _UsageError as error:
        write_error(f"error: {_usage_of(error)}")
        return 2
    except EngineError:
        raise
    except AntiphonError as error:
        write_error(f"error: {error}")
        return error.exit_code
    except OSError as error:
        write_error(f"error: {in_one_line(f'{error.filename}: {error.strerror or error}')}")
        return 2
    return 0
