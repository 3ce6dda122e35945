"""The command `evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from antiphon.base.errors import RunError
from antiphon.base.files import finite
from antiphon.base.table import Table, decimal
from antiphon.commands import options
from antiphon.jobs.sources import simulation_at
from antiphon.running.directory import RunDirectory
from antiphon.telemetry.metrics import METRICS, SCORES
from antiphon.terminal.output import (
    episodes_in_words,
    percent,
    print_json,
    remark,
    scored,
    show_result,
)

if TYPE_CHECKING:
    from antiphon.engine.inference.evaluation import Evaluation
    from antiphon.running.simulation import Simulation

_ABLATED = 2000
"""Default number of examples of an ablation."""

_MEASURED_BY = {
    "examples": ("ablate", "language"),
    "channels": ("ablate", "language", "value"),
    "horizon": ("value",),
    "repeats": ("value",),
}
"""Measurements that an option is of, by the option."""


def evaluate(
    path: options.Run,
    python: options.PythonObjects = None,
    checkpoint: options.Checkpoint = None,
    split: Annotated[str, options.text("S", "test (default), validation or train.")] = "test",
    links: Annotated[str, options.text("L", "perfect (default), or as_run: lossy and noisy.")] = "perfect",
    drop: Annotated[float | None, options.text("P", "With as_run: drop probability of all links.")] = None,
    inputs: Annotated[
        bool,
        typer.Option("--inputs/--no-inputs", help="With as_run: use synthetic inputs.", show_default=False),
    ] = True,
    episodes: Annotated[
        int | None,
        options.count("K", "Whole episodes per environment (policies)."),
    ] = None,
    sampled: Annotated[
        bool,
        typer.Option("--sampled", help="Sample actions, not the most likely (policies)."),
    ] = False,
    ablate: Annotated[
        str | None,
        options.text(
            "KIND",
            "Rank channels by zero or resample.",
        ),
    ] = None,
    language: Annotated[
        bool,
        typer.Option(
            "--language",
            help="Measure the language of channels of symbols.",
        ),
    ] = False,
    value: Annotated[
        bool, typer.Option("--value", help="Measure what each learning signal is worth.")
    ] = False,
    channels: Annotated[list[str] | None, options.text("A->B", "Only these channels; repeatable.")] = None,
    examples: Annotated[int | None, options.count("N", "Of --ablate (2000) and --language (1000).")] = None,
    horizon: Annotated[int | None, options.count("H", "Training steps of --value.")] = None,
    repeats: Annotated[int | None, options.count("R", "Repeats of --value.", least=2)] = None,
    json: options.Json = False,
) -> int:
    """Score a checkpoint of a run on a split, with optional measurements; return the exit code."""
    asked = {"ablate": ablate is not None, "language": language, "value": value}
    _check_options(asked, examples=examples, channels=channels, horizon=horizon, repeats=repeats)
    directory = RunDirectory.open(path)
    # these load torch: a wrong path is told before
    from antiphon.engine.inference.rollout_links import Links
    from antiphon.inspection.ablation import ablate as ablation_of
    from antiphon.inspection.ablation import readouts_act
    from antiphon.inspection.language import language as language_of
    from antiphon.running.directory_writer import keep_measured

    links_over, only = Links(links, drop, inputs), channels or None
    of_policies: dict[str, Any] = {"episodes": episodes, "sampled": sampled}
    with simulation_at(directory, checkpoint, python) as simulation:
        evaluation = simulation.evaluate(split, links_over, **of_policies)
        result = _result(directory, path, simulation, evaluation)
        tables = [_scores(result, evaluation)]
        requested: dict[str, Callable[[], Any]] = {}
        if ablate is not None:
            how: dict[str, Any] = {"split": split, "channels": only, "links": links_over}
            how |= of_policies if readouts_act(simulation.running) else {"examples": examples or _ABLATED}
            requested["ablation"] = partial(ablation_of, simulation, ablate, **how)
        if language:
            count = {} if examples is None else {"examples": examples}
            requested["language"] = partial(language_of, simulation, split=split, channels=only, **count)
        if value:
            given = {"horizon": horizon, "repeats": repeats}
            chosen = {name: number for name, number in given.items() if number is not None}
            requested["value"] = partial(simulation.value, only, **chosen)
        for name, measure in requested.items():
            measured = measure()
            result[name] = measured.to_dict()
            if not keep_measured(
                directory, simulation.running, {measured.name: result[name]}, measured.metrics()
            ):
                remark("the run has not ended: its Channels tab will not show this (it is in measured.json)")
            tables.append(measured.table())
    if json:
        print_json(finite(result))
    for table in tables if not json else ():
        show_result(table)
    return 0


def _result(
    directory: RunDirectory, path: Path, simulation: Simulation, evaluation: Evaluation
) -> dict[str, Any]:
    """Return the scores of a run as plain data."""
    from antiphon.running.directory_writer import over

    readouts = list(evaluation.readout)
    return {
        "scenario": directory.facts["scenario"],
        "run_dir": str(path),
        "split": evaluation.split,
        "links": evaluation.links.kind,
        "drop": evaluation.links.drop,
        "inputs": evaluation.links.inputs,
        "examples": evaluation.examples,
        "scored": evaluation.scored,
        "episodes": None if evaluation.episodes is None else asdict(evaluation.episodes),
        "steps": simulation.now,
        "readout": readouts[0] if len(readouts) == 1 else readouts,
        **{metric: over(readouts, metric, evaluation.agents) for metric in METRICS},
        "agents": evaluation.agents,
    }


def _scores(result: Mapping[str, Any], evaluation: Evaluation) -> Table:
    rows = [
        [name, scored(finite(metrics), named=True), decimal(metrics.get("loss"))]
        for name, metrics in evaluation.agents.items()
    ]
    scored_on = f"{evaluation.split} split, {evaluation.examples:,} examples"
    if result["episodes"] is not None:
        scored_on = episodes_in_words(result["episodes"])
    title = f"{result['scenario']} after {result['steps']:,} steps · {scored_on}"
    links = evaluation.links
    if links.kind != "perfect":
        lost = "" if links.drop is None else f", {percent(links.drop)} lost"
        title += f" · links as in the run{lost}{'' if links.inputs else ', no synthetic inputs'}"
    means = {metric: result[metric] for metric in SCORES if finite(result[metric]) is not None}
    notes = [f"{metric:<9} {scored({metric: mean})}" for metric, mean in means.items()]
    return Table(["agent", "metric", "loss"], rows, 1, title, notes)


def _check_options(asked: Mapping[str, bool], **options_by_name: object) -> None:
    """Check that each option is of a measurement that is asked for."""
    for option, value in options_by_name.items():
        measured_by = _MEASURED_BY[option]
        if value and not any(asked[user] for user in measured_by):
            users = " or ".join(", ".join(f"--{user}" for user in measured_by).rsplit(", ", 1))
            raise RunError(f"--{option}: has no effect here; use it with {users}")
