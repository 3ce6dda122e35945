"""Arguments and options of several commands, each declared once; they load without torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

__all__ = [
    "Backend",
    "CheckpointEvery",
    "Device",
    "Every",
    "Json",
    "LogDir",
    "Mode",
    "OptionalScenario",
    "Parts",
    "PythonObjects",
    "Ray",
    "Run",
    "Settings",
    "Steps",
    "Variant",
    "number",
    "whole",
]


def whole(least: int, most: int | None = None) -> Callable[[str | int], int]:
    """Return a parser of whole numbers within bounds."""

    def parse(text: str | int) -> int:
        bounds = f"at least {least}" if most is None else f"from {least} to {most}"
        try:
            value = int(text)
        except ValueError:
            raise typer.BadParameter(f"must be a whole number, {bounds}, not '{text}'") from None
        if value < least or (most is not None and value > most):
            raise typer.BadParameter(f"must be {bounds}, not {value}")
        return value

    return parse


def number(text: str | float) -> float:
    """Parse a number.

    Raises:
        BadParameter: It is none.
    """
    try:
        return float(text)
    except ValueError:
        raise typer.BadParameter(f"must be a number, not '{text}'") from None


OptionalScenario = Annotated[
    str | None,
    typer.Argument(
        metavar="NAME|FILE|MODULE:FUNCTION",
        help="A library scenario, a YAML file, or a function that returns a scenario; --set sets its parameters.",
    ),
]
Run = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory.")]
PythonObjects = Annotated[
    str | None,
    typer.Option(
        "--scenario",
        metavar="MODULE:FUNCTION",
        help="The function that built the run's scenario, if that contains Python objects.",
    ),
]
Variant = Annotated[
    str | None, typer.Option("--variant", "-v", metavar="V", help="A variant of the scenario.")
]
Settings = Annotated[
    list[str] | None,
    typer.Option("--set", metavar="NAME=VALUE", help="Set a parameter (YAML); repeatable."),
]
Steps = Annotated[
    int | None, typer.Option("--steps", parser=whole(1), metavar="N", help="Number of training steps.")
]
LogDir = Annotated[
    Path | None,
    typer.Option("--logdir", metavar="DIR", help="Directory for runs (default: $ANTIPHON_LOGDIR or runs)."),
]
Device = Annotated[str, typer.Option("--device", metavar="D", help="cpu, cuda, cuda:1, …")]
Backend = Annotated[
    str,
    typer.Option(
        "--backend",
        metavar="B",
        help="cohort (identical agents are stacked), native (likewise, by a compiled kernel where it can) "
        "or reference (the specification: one agent at a time, slow).",
    ),
]
Parts = Annotated[
    list[str] | None,
    typer.Option(
        "--parts",
        metavar="N|AGENT=PART|FILE",
        help="Divide the agents into N parts of equal work and little traffic; or the part of an agent, from 0 (* stands for "
        "any characters; repeatable), or a YAML file of them.",
    ),
]
Mode = Annotated[
    str | None,
    typer.Option(
        "--mode",
        metavar="M",
        help="Of parts: lockstep (default: the bits of one process) or free (parts never wait).",
    ),
]
Every = Annotated[
    int | None,
    typer.Option(
        "--every",
        parser=whole(1),
        metavar="N",
        help="Steps between the exchanges of parts (default: half of what the cut channels allow).",
    ),
]
Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="[ADDRESS]",
        help="Each part in a process of its own, on Ray: of a cluster that is started on this machine for this run, or of "
        "the one at ADDRESS (HOST:PORT).",
    ),
]
CheckpointEvery = Annotated[
    int | None,
    typer.Option(
        "--checkpoint-every",
        parser=whole(1),
        metavar="N",
        help="Steps between checkpoints; the latest two are kept (default: ten per run).",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one line of JSON.")]
