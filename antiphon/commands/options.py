"""Arguments and options of several commands, each declared once; they load without torch."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from antiphon.running.directory import EXIST


def text(metavar: str, about: str, *names: str) -> Any:
    """Return an option with a value; without names it is called as its parameter is."""
    return typer.Option(*names, metavar=metavar, help=about, show_default=False)


def count(metavar: str, about: str, *names: str, least: int = 1, most: int | None = None) -> Any:
    """Return an option that is a whole number within bounds."""
    return typer.Option(*names, min=least, max=most, metavar=metavar, help=about, show_default=False)


Scenario = Annotated[
    str, typer.Argument(metavar="SCENARIO", help="Name in the library, YAML file, or MODULE:FUNCTION.")
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]
PythonObjects = Annotated[
    str | None,
    text("MODULE:FUNCTION", "Function that built a run with Python objects.", "--scenario"),
]
Variant = Annotated[str | None, text("V", "Variant of the scenario.", "--variant", "-v")]
Settings = Annotated[list[str] | None, text("NAME=VALUE", "Set a parameter (YAML); repeatable.", "--set")]
Seed = Annotated[int, count("S", "Random seed (default: 0).", "--seed", "-s", least=0)]
Steps = Annotated[int | None, count("N", "Training steps.")]
LogDir = Annotated[Path | None, text("PARENT", "Parent of run directories (default: runs).", "--logdir")]
Device = Annotated[str, text("D", "cpu (default), cuda, cuda:1, …")]
Backend = Annotated[str, text("B", "cohort (default), or native: compiled if possible.")]
Parts = Annotated[list[str] | None, text("N|AGENT=PART", "N parts, or the part of an agent; repeatable.")]
Ray = Annotated[str | None, text("local|HOST:PORT", "Run each part in its own process on Ray.")]
Cluster = Annotated[str | None, text("PROFILE", "Train in virtual time on a simulated cluster.")]
Exist = Annotated[str, text("HOW", f"If the directory exists: {', '.join(EXIST)}.")]
Name = Annotated[str | None, text("RUN", "Name of the run (default: scenario and time).")]
CheckpointEvery = Annotated[int | None, count("N", "Steps between checkpoints.")]
Checkpoint = Annotated[str | None, text("NAME", "A checkpoint, as best (default: the newest).")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")]
