"""Output of the commands: results as tables or as one line of JSON. Results go to stdout, the rest to stderr."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from antiphon.base.files import display_path
from antiphon.base.table import Table, decimal
from antiphon.telemetry.metrics import METRICS

if TYPE_CHECKING:
    from pandas import DataFrame  # type: ignore[import-untyped]


def print_json(value: Mapping[str, Any]) -> None:
    """Print an object as one line, the last of stdout."""
    print(json.dumps(value, ensure_ascii=False, allow_nan=False), flush=True)


class Result(Protocol):
    """What a command prints: its text, or with `--json` its plain data."""

    @property
    def exit_code(self) -> int: ...
    def to_dict(self) -> Mapping[str, Any]: ...


class InFolder:
    """A result of many runs, which is written in a folder.

    Attributes:
        result: The object that the command prints with `--json`.
        directory: The folder.
        csv: The name of its table there.
    """

    csv: ClassVar[str]

    def __init__(self, result: Mapping[str, Any], directory: Path) -> None:
        self.result, self.directory = result, directory

    def __repr__(self) -> str:
        return str(self)

    @property
    def exit_code(self) -> int:
        """That of the command line: 0, 1 or 3 where runs failed or diverged, 130 or 143 where a signal stopped them."""
        return int(self.result["exit_code"])

    def to_dict(self) -> Mapping[str, Any]:
        """Return `result`."""
        return self.result

    def to_pandas(self) -> DataFrame:
        """Return the table as a DataFrame, unrounded; it needs pandas."""
        import pandas

        return pandas.read_csv(self.directory / self.csv)


def print_result(result: Result, json: bool) -> int:
    """Print a result as text, or as one line of JSON, and return the exit code."""
    if json:
        print_json(result.to_dict())
    else:
        print(result)
    return result.exit_code


def show_table(headings: Sequence[str], rows: Sequence[Sequence[str]], right: int = 0, **about: Any) -> None:
    """Print a table, of which some columns on the right are aligned on the right, and an empty line; `about`: see `Table`."""
    print(Table(headings, rows, len(headings) - right, **about), end="\n\n")


def how_to_look(directory: str | Path) -> None:
    """Print the command that opens TensorBoard."""
    print(f"TensorBoard  antiphon tb {shlex.quote(display_path(directory))}")


def written(metric: str, value: float | None) -> str:
    """Format a metric by its name: an accuracy in percent, one of an environment as what may be a count."""
    if metric == "accuracy":
        return "–" if value is None else f"{100 * value:.2f} %"
    if metric not in METRICS and value is not None and value == round(value):
        return f"{value:,.0f}"
    return decimal(value)
