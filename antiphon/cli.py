"""The command line: its commands, and its exit codes.

A command is a function of the same name in the file of its name in `commands/`, with its options beside it. It is imported
when it is called, so that `antiphon --help` is quick; and what needs torch, when it runs.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperGroup

import antiphon
from antiphon.base.errors import (
    AntiphonError,
    EngineError,
    ScenarioWarning,
    in_one_line,
    write_error,
)


class Command(NamedTuple):
    """A command, as `antiphon --help` lists it, and examples, which can be run in the order of the commands."""

    summary: str
    examples: tuple[str, ...]


COMMANDS: Mapping[str, Command] = {
    "run": Command(
        "Train the agents of a scenario, and write a run directory.",
        (
            "antiphon run digits-mlp --steps 200 --name exp1",
            "antiphon run digits-mlp --variant locked --set width=64 --steps 200 --name exp2",
            "antiphon run digits-mlp --seeds 3 --steps 100 --name exp3 --json",
            "antiphon run digits-mlp --set delay=1 --steps 100 --cluster datacentre-100 --name exp4",
        ),
    ),
    "resume": Command(
        "Continue a run or a population from its latest checkpoint, as if it had never stopped.",
        ("antiphon resume runs/exp1", "antiphon resume runs/exp1 --steps 250"),
    ),
    "study": Command(
        "Run a study: compare variants over seeds in a table and a figure.",
        ("antiphon study corporation --variant locked --variant decoupled --seeds 2 --steps 600",),
    ),
    "population": Command(
        "Train a population, whose best members replace the worst.",
        ("antiphon population pole --steps 100 --set batch=4 --name pole",),
    ),
    "check": Command(
        "Check a scenario, study or population without running it: list all errors, or warnings if there are none.",
        (
            "antiphon check digits-mlp",
            "antiphon check digits-mlp --set width=64 --json",
            "antiphon check ring-of-many --parts 2",
        ),
    ),
    "show": Command(
        "Describe a scenario, a run or an environment.",
        (
            "antiphon show corporation --variant locked",
            "antiphon show digits-mlp --yaml",
            "antiphon show two-timescales --timeline --steps 12",
            "antiphon show env Digits-v0",
        ),
    ),
    "list": Command(
        "List the library, its studies, or the kinds of a section of scenario files.",
        ("antiphon list", "antiphon list studies", "antiphon list kinds gradient"),
    ),
    "evaluate": Command(
        "Evaluate a run on unseen data; rank channels by how much the loss rises without them.",
        (
            "antiphon evaluate runs/exp1 --split validation",
            "antiphon evaluate runs/exp1 --ablate zero --examples 200",
            "antiphon evaluate runs/exp1 --value --horizon 5 --repeats 2",
        ),
    ),
    "report": Command(
        "Write runs to one self-contained HTML file: results, training curves, rankings and the Channels tab.",
        ("antiphon report runs/exp1 runs/exp2 --output report.html",),
    ),
    "export": Command(
        "Export a run's system or its weights to a file that can be read without antiphon.",
        (
            "antiphon export runs/exp1 system.pt2",
            "antiphon export runs/exp1 weights.safetensors --agent n0",
        ),
    ),
    "tb": Command(
        "Open TensorBoard on runs, with enough samples to show every step.",
        ("antiphon tb runs",),
    ),
}


class _Commands(TyperGroup):
    """The commands, listed by their summaries; the one that is called replaces its own line."""

    def resolve_command(self, ctx: Any, args: list[str]) -> tuple[str | None, Any, list[str]]:
        name, listed, rest = super().resolve_command(ctx, args)
        return name, listed if name is None else command(name), rest

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except (
            KeyboardInterrupt
        ):  # of which no run has written a line: while torch loads, or in an evaluation
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
    examples = "\n  ".join(["\b\nExamples:", *COMMANDS[name].examples])  # \b: lines are not joined
    function = getattr(import_module(f"antiphon.commands.{name}"), "list_" if name == "list" else name)
    app.command(name, help=COMMANDS[name].summary, epilog=examples)(function)
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


for _name, _listed in COMMANDS.items():
    app.command(_name, help=_listed.summary)(lambda: None)


_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""Wrong usage of the command line: a class of click or of typer itself, by typer's version."""
_UNREAD = 128 + 13
"""The exit code where what reads the output has ended, as `head` does: that of a program which SIGPIPE ends."""


def _usage_of(error: Any) -> str:
    """Return the message of a usage error in one line, and where the options are listed."""
    command = "antiphon" if error.ctx is None else error.ctx.command_path
    return f"{' '.join(error.format_message().split()).rstrip('.')}; see {command} --help"


def _show_warning(
    shown: Callable[..., object], message: Warning | str, category: type[Warning], *place: Any, **named: Any
) -> None:
    """Print a warning about a scenario in one line, and others as Python does."""
    if issubclass(category, ScenarioWarning):
        write_error(f"warning: {message}")
    else:
        shown(message, category, *place, **named)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: The words after `antiphon`; None: the command-line arguments of this process.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    try:
        with warnings.catch_warnings():
            warnings.showwarning = partial(_show_warning, warnings.showwarning)
            code = app(args=words or ["--help"], prog_name="antiphon", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except SystemExit as exit:
        if isinstance(exit.__context__, BrokenPipeError):  # which Typer ends with 1, the code of a bug
            return _UNREAD
        return exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except _UsageError as error:
        write_error(f"error: {_usage_of(error)}")
        return 2
    except EngineError:
        raise
    except AntiphonError as error:
        write_error(f"error: {error}")
        return error.exit_code
    except OSError as error:
        from antiphon.base.files import remedy_of

        remedy = remedy_of(error)
        line = f"{error.filename or 'file'}: {error.strerror or error}" + (f"; {remedy}" if remedy else "")
        write_error(f"error: {in_one_line(line)}")
        return 2
    except (MemoryError, RuntimeError) as error:
        from antiphon.base.memory import was_refused

        if not was_refused(error):
            raise
        write_error("error: out of memory; lower training.batch, or the sizes of networks and messages")
        return 4
    return 0
