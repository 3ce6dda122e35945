"""The command `evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from antiphon.base.errors import RunError
from antiphon.base.files import finite
from antiphon.commands import options
from antiphon.jobs.sources import simulation_at
from antiphon.running.directory import RunDirectory
from antiphon.terminal.output import print_json

if TYPE_CHECKING:
    from antiphon.engine.inference.rollout_links import Links
    from antiphon.running.simulation import Simulation
    from antiphon.terminal.measurements import Measured


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
    split: Annotated[str, options.text("S", "Split of the data: test, validation or train.")] = "test",
    links: Annotated[
        str, options.text("L", "perfect, or as_run (lossy and noisy, as in the run).")
    ] = "perfect",
    drop: Annotated[
        float | None, options.text("P", "With --links as_run: drop probability of all links.")
    ] = None,
    inputs: Annotated[
        bool,
        typer.Option("--inputs/--no-inputs", help="With --links as_run: use synthetic inputs."),
    ] = True,
    episodes: Annotated[
        int | None,
        options.count(
            "K", "With policies: number of whole episodes per environment (default: up to 1,000 in all)."
        ),
    ] = None,
    sampled: Annotated[
        bool,
        typer.Option("--sampled", help="With policies: sample actions instead of taking the most likely."),
    ] = False,
    ablate: Annotated[
        str | None,
        options.text(
            "KIND",
            "Rank channels by the loss or return without their messages: zero, mean, resample or step.",
        ),
    ] = None,
    language: Annotated[
        bool,
        typer.Option(
            "--language",
            help="Measure channels of symbols: entropy, information about labels, topographic similarity, …",
        ),
    ] = False,
    value: Annotated[
        bool, typer.Option("--value", help="Measure the value of each channel's learning signal.")
    ] = False,
    channels: Annotated[
        list[str] | None, options.text("A->B", "Only these channels; may be repeated (default: all).")
    ] = None,
    examples: Annotated[
        int | None, options.count("N", "Examples for --ablate (default 2000) and --language (1000).")
    ] = None,
    horizon: Annotated[int | None, options.count("H", "With --value: number of training steps.")] = None,
    repeats: Annotated[int | None, options.count("R", "With --value: number of repeats.", least=2)] = None,
    json: options.Json = False,
) -> int:
    """Score a checkpoint of a run on a split, with optional measurements; return the exit code."""
    asked = {"ablate": ablate is not None, "language": language, "value": value}
    _check_options(asked, examples=examples, channels=channels, horizon=horizon, repeats=repeats)
    directory = RunDirectory.open(path)
    from antiphon.engine.inference.rollout_links import Links  # loads torch: a wrong path is told before

    over, only = Links(links, drop, inputs), channels or None
    of_messages: dict[str, Any] = {"channels": only, "examples": examples}
    of_policies: dict[str, Any] = {"episodes": episodes, "sampled": sampled}
    with simulation_at(directory, checkpoint, python) as simulation:
        from antiphon.terminal import measurements

        measurements.check_measurable(
            simulation, kind=ablate, languages=language, **of_messages, **of_policies
        )
        result = _score(directory, path, simulation, split, over, of_policies, silent=json)
        requested: list[Callable[[], Measured]] = []
        if ablate is not None:
            requested.append(
                lambda: measurements.measured_ablation(
                    simulation, ablate, split, only, over, examples, **of_policies
                )
            )
        if language:
            requested.append(lambda: measurements.measured_language(simulation, split, only, examples))
        if value:
            requested.append(lambda: measurements.measured_value(simulation, only, horizon, repeats))
        for measure in requested:
            result |= _measure(measure, directory, simulation, silent=json)
    if json:
        print_json(finite(result))
    return 0


def _score(
    directory: RunDirectory,
    path: Path,
    simulation: Simulation,
    split: str,
    over: Links,
    of_policies: Mapping[str, Any],
    *,
    silent: bool,
) -> dict[str, Any]:
    """Evaluate a checkpoint, and print its scores unless `silent`."""
    from antiphon.terminal import measurements

    evaluation = simulation.evaluate(split, over, **of_policies)
    result = measurements.result_of(directory, path, simulation, evaluation)
    if not silent:
        measurements.show_scores(result, evaluation)
    return result


def _measure(
    measure: Callable[[], Measured], directory: RunDirectory, simulation: Simulation, *, silent: bool
) -> dict[str, Any]:
    """Measure, store the result with the run, and print it unless `silent`; return it under its name."""
    from antiphon.terminal import measurements

    measured = measure()
    measurements.keep(directory, simulation, measured)
    if not silent:
        measured.show()
    return {measured.name: measured.result}


def _check_options(asked: Mapping[str, bool], **options_by_name: object) -> None:
    """Check that each option is of a measurement that is asked for."""
    for option, value in options_by_name.items():
        measured_by = _MEASURED_BY[option]
        if value and not any(asked[user] for user in measured_by):
            users = " or ".join(", ".join(f"--{user}" for user in measured_by).rsplit(", ", 1))
            raise RunError(f"--{option}: has no effect here; use it with {users}")
