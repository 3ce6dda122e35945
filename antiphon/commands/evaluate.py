"""The command `evaluate`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from antiphon.base.errors import RunError
from antiphon.base.files import finite
from antiphon.commands import options
from antiphon.commands.arguments import given_scenario
from antiphon.running.directory import RunDirectory
from antiphon.terminal.output import print_json

if TYPE_CHECKING:
    from antiphon.terminal.measurements import Measured


def evaluate(
    path: options.Run,
    python: options.PythonObjects = None,
    checkpoint: options.Checkpoint = None,
    split: Annotated[str, options.text("S", "Split of the data: test, validation or train.")] = "test",
    links: Annotated[
        str, options.text("L", "perfect, or as_run (lossy and noisy, as in the run).")
    ] = "perfect",
    drop: Annotated[
        float | None, options.real("P", "With --links as_run: drop probability of all links.")
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
    """Score a checkpoint of a run on a split, with optional measurements; return the exit code.

    Raises:
        RunError: An option without effect on the requested measurements, nothing to measure, or no such checkpoint.
    """
    from antiphon.engine.inference.rollout_links import Links
    from antiphon.running.simulation import Simulation
    from antiphon.terminal import measurements

    asked = {"ablate": ablate is not None, "language": language, "value": value}
    _check_users("examples", examples, asked, ("ablate", "language"))
    _check_users("channels", channels, asked, ("ablate", "language", "value"))
    _check_users("horizon", horizon, asked, ("value",))
    _check_users("repeats", repeats, asked, ("value",))
    over, only, directory = Links(links, drop, inputs), channels or None, RunDirectory.open(path)
    scenario = given_scenario(directory, python)
    if scenario is None:
        directory.check_document()
    saved = directory.checkpoints.find(checkpoint)
    with Simulation.load(saved, scenario, threads=directory.facts["threads"]) as simulation:
        measurements.check_measurable(
            simulation,
            kind=ablate,
            languages=language,
            channels=only,
            examples=examples,
            episodes=episodes,
            sampled=sampled,
        )
        found = simulation.evaluate(split, over, episodes=episodes, sampled=sampled)
        if not sampled:
            measurements.keep_scores(directory, simulation, found)
        result = measurements.result_of(directory, path, simulation, found)
        if not json:
            measurements.show_scores(result, found)
        made: list[Callable[[], Measured]] = []
        if ablate is not None:
            made.append(
                lambda: measurements.measured_ablation(
                    simulation, ablate, split, only, over, examples, episodes=episodes, sampled=sampled
                )
            )
        if language:
            made.append(lambda: measurements.measured_language(simulation, split, only, examples))
        if value:
            made.append(lambda: measurements.measured_value(simulation, only, horizon, repeats))
        for measure in made:
            measured = measure()
            result[measured.name] = measured.result
            kept = measurements.keep(directory, simulation, measured)
            if not json:
                measured.show()
                if kept:
                    measurements.show_causes(directory, measured)
    if json:
        print_json(finite(result))
    return 0


def _check_users(option: str, value: object, asked: Mapping[str, bool], measured_by: Sequence[str]) -> None:
    """Check that an option is of some measurement that is asked for."""
    if value and not any(asked[user] for user in measured_by):
        wanted = " or ".join(", ".join(f"--{user}" for user in measured_by).rsplit(", ", 1))
        raise RunError(f"--{option}: has no effect here; use it with {wanted}")
