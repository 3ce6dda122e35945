"""The command line: its commands, and its exit codes.

A command is a function of the same name in the file of its name in `commands/`, with its options beside it. It is imported
when it is called, so that `antiphon --help` is quick; and what needs torch, when it runs.
"""

from __future__ import annotations

import re
import shlex
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from importlib import import_module
from typing import Annotated, Any, NamedTuple

import typer
from typer.core import TyperCommand, TyperGroup, TyperOption

import antiphon
from antiphon.base.errors import (
    AntiphonError,
    EngineError,
    ScenarioError,
    ScenarioWarning,
    in_one_line,
    replace_what_cannot_be_encoded,
    write_error,
)
from antiphon.base.imports import COMMAND, with_imports


class Command(NamedTuple):
    """A command, as `antiphon --help` lists it, and examples, which can be run in the order of the commands."""

    summary: str
    examples: tuple[str, ...]


COMMANDS: Mapping[str, Command] = {
    "run": Command(
        "Train the agents of a scenario, or a population, and write a run directory.",
        (
            "antiphon run digits-mlp --steps 200 --name exp1",
            "antiphon run digits-mlp --variant locked --set width=64 --steps 200 --name exp2",
            "antiphon run digits-mlp --seeds 3 --steps 100 --name exp3 --json",
            "antiphon run digits-mlp --set delay=1 --steps 100 --cluster datacentre-100 --name exp4",
        ),
    ),
    "resume": Command(
        "Continue a run from its latest checkpoint, as if it had never stopped, on any number of parts.",
        ("antiphon resume runs/exp1", "antiphon resume runs/exp1 --steps 250"),
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
        "Describe a scenario, a run or an environment; without a name, list the library.",
        (
            "antiphon show",
            "antiphon show corporation --variant locked",
            "antiphon show digits-mlp --yaml",
            "antiphon show two-timescales --timeline --steps 12",
        ),
    ),
    "evaluate": Command(
        "Evaluate a run on unseen data; rank channels by how much the loss rises without them.",
        (
            "antiphon evaluate runs/exp1 --split validation",
            "antiphon evaluate runs/exp1 --ablate zero --examples 200",
            "antiphon evaluate runs/exp1 --value --horizon 5 --repeats 2",
        ),
    ),
    "study": Command(
        "Run a study: compare variants over seeds in a table and a figure; without a name, list the library.",
        (
            "antiphon study",
            "antiphon study corporation --variant locked --variant decoupled --seeds 2 --steps 600",
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


class _CommandWithOptions(TyperCommand):
    """A command that refuses an option that is given twice, where the last one would be taken and the others ignored."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        try:
            _, _, occurrences = self.make_parser(ctx).parse_args(list(args))
        except _UsageError as error:
            error.ctx = ctx  # type: ignore[attr-defined]  # the parser does not say whose option it is
            raise
        for option in [
            parameter
            for parameter in occurrences
            if isinstance(parameter, TyperOption) and not parameter.multiple
        ]:
            same_flag = option.is_flag and not option.secondary_opts
            if occurrences.count(option) > 1 and not same_flag:
                name = max(option.opts, key=len)
                raise ScenarioError(f"{name}: is given {occurrences.count(option)} times; keep one")
        return super().parse_args(ctx, args)


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
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def command(name: str) -> Any:
    """Return a command with its options, from the file of its name."""
    app = typer.Typer(add_completion=False, rich_markup_mode="rich")
    examples = "\n\n".join(["Examples:", *COMMANDS[name].examples])  # an empty line is a line break there
    function = getattr(import_module(f"antiphon.commands.{name}"), name)
    app.command(name, cls=_CommandWithOptions, help=COMMANDS[name].summary, epilog=examples)(function)
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
    allowed: Annotated[
        list[str] | None,
        typer.Option(
            "--allow-import",
            metavar="PACKAGE",
            help="Let scenario files import a package or a module beside them (such as environments), and what it registers; "
            "give it before the command; repeatable.",
        ),
    ] = None,
) -> None:
    """Simulate independent networks that learn together."""
    from antiphon.base.imports import allow_import

    for package in allowed or ():
        allow_import(package)


for _name, _listed in COMMANDS.items():
    app.command(_name, help=_listed.summary)(lambda: None)


_UsageError: type[Exception] = typer.BadParameter.__mro__[1]
"""Wrong usage of the command line: a class of click or of typer itself, by typer's version."""


def _usage_of(error: Any) -> str:
    """Return the message of a usage error as `--steps: must be at least 1, not 0`, or with the help that explains it."""
    message = " ".join(error.format_message().split()).rstrip(".").replace(". Did", "; did")
    if "--allow-import" in message:
        return "--allow-import: belongs before the command: antiphon --allow-import PACKAGE run …"
    match = re.fullmatch(r"Invalid value for '(?P<place>[^']*)'(?: / '[^']*')?: (?P<problem>.*)", message)
    if match is not None:
        return f"{match['place']}: {match['problem']}"
    command = "antiphon" if error.ctx is None else error.ctx.command_path
    match = re.fullmatch(r"Option '(?P<place>[^']*)' requires an argument", message)
    if match is not None and error.ctx is not None:
        options = [parameter for parameter in error.ctx.command.params if match["place"] in parameter.opts]
        message += "".join(
            f" {parameter.metavar} ({' '.join(parameter.help.split()).rstrip('.')})" for parameter in options
        )
    match = re.match(r"No such option: (?P<option>[^\s;]+)", message)
    if match is not None and command == "antiphon":
        option = match["option"]
        spellings = [name for parameter in error.ctx.command.params for name in parameter.opts]
        near = get_close_matches(option, spellings, n=1)
        fix = f"did you mean '{near[0]}'?" if near else f"write it after a command: antiphon run … {option}"
        return f"{option}: is no option of antiphon itself; {fix}"
    if match := re.fullmatch(r"Got unexpected extra arguments?(\(s\))? \((?P<words>.*)\)", message):
        return f"{match['words']}: is not expected here; leave it out, or see {command} --help"
    return f"{message[:1].lower()}{message[1:]}; see {command} --help"


_UNREAD = 128 + 13
"""The exit code where what reads the output has ended, as `head` does: that of a program which SIGPIPE ends."""
_UNSAID = re.compile(rf"(antiphon (?:--allow-import (?!MODULE )\S+ )*){COMMAND}")
"""Where a line lacks the words of the command."""


def _completed(match: re.Match[str], words: Sequence[str]) -> str:
    """Return the command of a line with the words that it lacks, but for the imports that it allows already."""
    line = shlex.join(words)
    for package in re.findall(r"--allow-import (\S+)", match[1]):
        line = re.sub(rf"--allow-import[ =]{re.escape(package)} ", "", line)
    return match[1] + line


def _with_others(error: AntiphonError, words: Sequence[str]) -> str:
    """Return an error's line with the words of this command; of a document with further problems, with that which lists all."""
    further = getattr(error, "others", ())
    line = _UNSAID.sub(lambda match: _completed(match, words), str(error))
    document = next((word for word in words if line.startswith(f"{word}:")), None)
    if document is None or not further:
        return line
    command = with_imports(f"antiphon check {shlex.quote(document)}")
    return f"{line.removesuffix(')')}; {command} lists all)"


def _with_dashes(line: str, words: Sequence[str]) -> str:
    """Return an error's line with `--` where it begins with a setting that is given as an option."""
    setting = re.match(r"(cluster|jobs|name|ray|set|steps)(?=[ :])", line)
    given = {word.partition("=")[0] for word in words}
    return f"--{line}" if setting is not None and f"--{setting[0]}" in given else line


def _with_ray(words: Sequence[str]) -> list[str]:
    """Return words with `--ray local` for a `--ray` that no HOST:PORT follows: Typer has no option with an optional value."""
    expanded: list[str] = []
    for at, word in enumerate(words):
        alone = word == "--ray" and not re.fullmatch(r"local|.*:[0-9]+", "".join(words[at + 1 : at + 2]))
        expanded += [word, "local"] if alone else [word]
    return expanded


def _show_warning(
    shown: Callable[..., object], message: Warning | str, category: type[Warning], *place: Any, **named: Any
) -> None:
    """Print a warning about a scenario as those that a command prints itself, and others as Python does."""
    if not issubclass(category, ScenarioWarning):
        shown(message, category, *place, **named)
        return
    from antiphon.terminal.output import remark

    remark(f"warning: {message}", "yellow")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    Args:
        arguments: The words after `antiphon`; None: the command-line arguments of this process.
    """
    words = sys.argv[1:] if arguments is None else list(arguments)
    replace_what_cannot_be_encoded()
    try:
        with warnings.catch_warnings():
            warnings.showwarning = partial(_show_warning, warnings.showwarning)
            code = app(args=_with_ray(words) or ["--help"], prog_name="antiphon", standalone_mode=False)
        return code if isinstance(code, int) else 0
    except SystemExit as exit:
        if isinstance(exit.__context__, BrokenPipeError):  # which Typer ends with 1, the code of a bug
            return _UNREAD
        return exit.code if isinstance(exit.code, int) else int(exit.code is not None)
    except _UsageError as error:
        write_error(f"error: {in_one_line(_usage_of(error))}")
        return 2
    except EngineError:
        raise
    except AntiphonError as error:
        write_error(f"error: {_with_dashes(_with_others(error, words), words)}")
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
