"""Arguments and options of several commands, each declared once; they load without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from antiphon.running.directory import EXIST


def text(metavar: str, about: str, *names: str) -> Any:
    """Return an option with a value; without names it is called as its parameter is."""
    return typer.Option(*names, metavar=metavar, help=about)


def count(metavar: str, about: str, *names: str, least: int = 1, most: int | None = None) -> Any:
    """Return an option that is a whole number within bounds."""
    return typer.Option(*names, min=least, max=most, metavar=metavar, help=about)


Scenario = Annotated[
    str,
    typer.Argument(
        metavar="NAME|FILE|MODULE:FUNCTION",
        help="A scenario of the library, a YAML file, or a function that returns a scenario; --set sets its parameters.",
    ),
]
Checked = Annotated[
    str,
    typer.Argument(
        metavar="NAME|FILE|MODULE:FUNCTION",
        help="A scenario, study or population of the library, a YAML file of one, or a function that returns a scenario.",
    ),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]
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
Seed = Annotated[int, count("S", "Random seed.", "--seed", "-s", least=0)]
Steps = Annotated[int | None, count("N", "Number of training steps.")]
LogDir = Annotated[
    Path | None,
    text(
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
Parts = Annotated[
    list[str] | None,
    text(
        "N|AGENT=PART",
        "Divide the agents into N parts with equal work and little traffic; or assign an agent to a part, from 0 (* matches "
        "any characters; repeatable).",
    ),
]
Ray = Annotated[
    str | None,
    text(
        "local|HOST:PORT",
        "Run each part in its own process on Ray: on a cluster that is started on this machine for this run, or on another one.",
    ),
]
Cluster = Annotated[
    str | None,
    text(
        "PROFILE",
        "Train in virtual time on a simulated cluster: two-cores, datacentre-100, continents-1000 or a YAML file.",
    ),
]
Exist = Annotated[
    str,
    text(
        "|".join(EXIST),
        "If the run exists: write to RUN-2 (default), resume it (or print its result), or remove it.",
    ),
]
Name = Annotated[str | None, text("RUN", "Name of the run (default: scenario and time).")]
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
