"""Output of the commands: results as tables or as one line of JSON. Results go to stdout, the rest to stderr."""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from antiphon.base.errors import write_error
from antiphon.base.files import display_path
from antiphon.base.table import Table, decimal
from antiphon.telemetry.metrics import METRICS, SCORES

if TYPE_CHECKING:
    from pandas import DataFrame  # type: ignore[import-untyped]

    from antiphon.checks import Findings
    from antiphon.jobs.scheduler import Outcomes
    from antiphon.running.callbacks import Outcome


def print_json(value: Mapping[str, Any]) -> None:
    """Print an object as one line, the last of stdout."""
    print(json.dumps(value, ensure_ascii=False, allow_nan=False), flush=True)


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


def print_result(result: Findings | InFolder, json: bool) -> int:
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


# --- the end of a run, or of the runs of several seeds ---------------------------------------------------

_ROWS = 10
"""Most agents or channels in a table of results; metrics.csv has all."""


def print_outcome(outcome: Outcome, json: bool) -> int:
    """Print the result of a run, and return its exit code."""
    if json:
        print_json(outcome.result)
    else:
        show_result(outcome.result)
    if outcome.error is not None:
        write_error(f"error: {outcome.error}")
    return outcome.exit_code


def show_result(result: Mapping[str, Any]) -> None:
    """Print the result of a run: agents with an objective, channels, scores of the readouts, directories."""
    ended = "" if result["exit"] == "done" else f" · {result['exit']}"
    print(f"\n{_title(result)} · seed {result['seed']} · {result['steps']:,} steps{ended}\n")
    metrics = [name for name in METRICS if any(name in agent for agent in result["agents"].values())]
    _show_measured("agent", metrics, result["agents"])
    _show_measured("channel", ["sg_loss", "cosine", "norm_ratio"], result["channels"])
    episodes = result.get("episodes")
    for metric in SCORES:
        if result.get(metric) is not None:
            on = f"{result['examples']:,} examples of test" if episodes is None else "whole episodes"
            print(f"{metric:<12} {written(metric, result[metric])}   ({on})")
    if result["env"]:
        print("environment ", ", ".join(f"{name} {written(name, v)}" for name, v in result["env"].items()))
    if result.get("reason"):
        print(f"stopped      {result['reason']}")
    print(f"run          {display_path(result['run_dir'])}")
    how_to_look(result["run_dir"])


def _title(result: Mapping[str, Any]) -> str:
    return " · ".join(filter(None, [result["scenario"], result["variant"]]))


def _show_measured(head: str, metrics: Sequence[str], owners: Mapping[str, Mapping[str, Any]]) -> None:
    """Print a table of metrics, of those that have any."""
    metrics = [name for name in metrics if any(one.get(name) is not None for one in owners.values())]
    rows = [
        [owner, *(written(name, one.get(name)) for name in metrics)]
        for owner, one in owners.items()
        if any(one.get(name) is not None for name in metrics)
    ]
    if rows:
        heads = [head, *(name.replace("_", " ") for name in metrics)]
        show_table(heads, rows, right=len(metrics), most=_ROWS, where="metrics.csv")


def show_seeds(outcomes: Outcomes, summary_dir: Path, root: Path) -> None:
    """Print the results of several seeds: each run, statistics over seeds, and the directories (`root` holds the runs')."""
    from antiphon.jobs.scheduler import metrics_of_result  # it loads torch, which help does not need

    seeds, summary = outcomes.result["seeds"], outcomes.result["summary"]
    rows = []
    for result in seeds:
        ended = "" if result["exit"] == "done" else f" ({result['exit']} after step {result['steps']:,})"
        metrics = [written(metric, metrics_of_result(result).get(metric)) for metric in summary]
        rows.append([f"{result['seed']}{ended}", display_path(result["run_dir"]), *metrics])
    for heading, keys, between in _STATISTICS if summary else ():
        cells = [
            between.join(written(metric, statistics[key]) for key in keys if statistics[key] is not None)
            or "–"
            for metric, statistics in summary.items()
        ]
        rows.append([heading, "", *cells])
    heads = ["seed", "run", *(metric.replace("_", " ") for metric in summary)]
    print()
    show_table(heads, rows, right=len(summary), title=f"{_title(seeds[0])} · {len(seeds)} seeds")
    print(f"over seeds   {display_path(summary_dir / 'seeds.json')}")
    how_to_look(root)


_STATISTICS = (
    ("mean ± deviation", ("mean", "sd"), " ± "),
    ("95 % interval", ("low", "high"), " – "),
)
"""Heading of a statistic over seeds of those that have ended, its numbers, and what stands between them."""
