"""Arguments and options of several commands, each declared once; they load without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

_MOST = 10**15
"""Above all numbers that a line repeats."""


def text(metavar: str, about: str, *names: str) -> Any:
    """Return an option with a value; without names it is called as its parameter is."""
    return typer.Option(*names, metavar=metavar, help=about)


def real(metavar: str, about: str) -> Any:
    return typer.Option(parser=_number, metavar=metavar, help=about)


def count(metavar: str, about: str, *names: str, least: int = 1, most: int | None = None) -> Any:
    """Return an option that is a whole number within bounds."""

    def parse(text: str | int) -> int:
        bounds = f"at least {least}" if most is None else f"from {least} to {most}"
        try:
            value = int(text)
        except ValueError:
            fix = "; write " + as_digits if (as_digits := _digits(str(text))) else ""
            raise typer.BadParameter(f"must be a whole number, {bounds}, not '{text}'{fix}") from None
        if value < least or (most is not None and value > most):
            raise typer.BadParameter(f"must be {bounds}, not {value}")
        return value

    return typer.Option(*names, parser=parse, metavar=metavar, help=about)


def folder(metavar: str, about: str, *names: str) -> Any:
    """Return an option that is a folder; an empty word, such as that of an unset variable of a shell, is none."""
    return typer.Option(*names, parser=_path, metavar=metavar, help=about)


def _path(text: str | Path) -> Path:
    if not str(text):
        raise typer.BadParameter("is empty; give a path ('.' is the working directory)")
    return Path(text)


def _digits(text: str) -> str:
    """Return the digits of a whole number that is written as `1e3` or `1,000`; empty: it is none."""
    try:
        value = float(text.replace(",", ""))
    except ValueError:
        return ""
    return str(int(value)) if value.is_integer() and abs(value) < _MOST else ""


def _number(text: str | float) -> float:
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"must be a number, not '{text}'") from None


Scenario = Annotated[
    str,
    typer.Argument(
        metavar="NAME|FILE|MODULE:FUNCTION",
        help="A scenario or population of the library, a YAML file of one, or a function that returns a scenario; --set sets its parameters.",
    ),
]
Checked = Annotated[
    str,
    typer.Argument(
        metavar="NAME|FILE|MODULE:FUNCTION",
        help="A scenario, study or population of the library, a YAML file of one, or a function that returns a scenario.",
    ),
]
Run = Annotated[Path, typer.Argument(parser=_path, metavar="RUN", help="A run directory.")]
PythonObjects = Annotated[
    str | None,
    text(
        "MODULE:FUNCTION",
        "The function that built the run's scenario, if that contains Python objects.",
        "--scenario",
    ),
]
Variant = Annotated[str | None, text("V", "A variant of the scenario.", "--variant", "-v")]
Settings = Annotated[list[str] | None, text("NAME=VALUE", "Set a parameter (YAML); repeatable.", "--set")]
Steps = Annotated[int | None, count("N", "Number of training steps.")]
LogDir = Annotated[
    Path | None,
    folder(
        "PARENT",
        "Parent of run directories (default: $ANTIPHON_LOGDIR or runs). The run's is PARENT/RUN, which is `logdir` in Python.",
        "--logdir",
    ),
]
Device = Annotated[str, text("D", "cpu, cuda, cuda:1, …")]
Backend = Annotated[
    str,
    text(
        "B",
        "cohort (identical agents are stacked) or native (also stacked, with a compiled kernel where possible).",
    ),
]
Capture = Annotated[
    bool,
    typer.Option("--capture", help="On a GPU, record a period of the steps as a CUDA graph and replay it."),
]
Parts = Annotated[
    list[str] | None,
    text(
        "N|AGENT=PART|FILE",
        "Divide the agents into N parts with equal work and little traffic; or assign an agent to a part, from 0 (* matches "
        "any characters; repeatable); or a YAML file of such assignments.",
    ),
]
Ray = Annotated[
    str | None,
    text(
        "[ADDRESS]",
        "Run each part in its own process on Ray: on a cluster that is started on this machine for this "
        "run, or on the one at ADDRESS (HOST:PORT).",
    ),
]
Until = Annotated[
    int | None,
    count(
        "N",
        "The step at which a population stops, of those that its schedules span; resume goes on to their end.",
    ),
]
Cluster = Annotated[
    str | None,
    text(
        "PROFILE",
        "Train in virtual time on a simulated cluster: two-cores, datacentre-100, continents-1000 or a YAML file.",
    ),
]
CheckpointEvery = Annotated[
    int | None,
    count(
        "N",
        "Steps between checkpoints; the latest two are kept (default: ten per run, at least 100 steps apart).",
    ),
]
Checkpoint = Annotated[
    str | None,
    text("NAME", "A checkpoint of the run, such as best (training.evaluate.keep_best); default: the newest."),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")]
