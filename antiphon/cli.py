"""The command line: its commands, and its exit codes.

The commands are functions in `commands.py`.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

import antiphon
from antiphon import commands
from antiphon.base.errors import AntiphonError, EngineError, in_one_line, write_error
from antiphon.base.imports import import_given


class _Commands(TyperGroup):
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
        import_given(modules)


for _function in (
    commands.run,
    commands.resume,
    commands.study,
    commands.population,
    commands.check,
    commands.show,
    commands.list_,
    commands.evaluate,
    commands.report,
    commands.export,
    commands.tb,
):
    app.command(_function.__name__.rstrip("_"))(_function)


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
