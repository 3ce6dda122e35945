"""The command `population`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from antiphon.base.errors import RunError, write_error
from antiphon.base.files import display_path
from antiphon.commands import options
from antiphon.commands.arguments import values_of
from antiphon.jobs.sources import new_directory
from antiphon.scenarios.population_spec import PopulationSpec
from antiphon.scenarios.yaml_text import find_document
from antiphon.terminal.output import how_to_look, show

if TYPE_CHECKING:
    from antiphon.jobs.populations.population_run import PopulationRun


def population(
    name_or_file: Annotated[
        str, typer.Argument(metavar="POPULATION", help="Name in the library, or YAML file.")
    ],
    settings: options.Settings = None,
    steps: options.Steps = None,
    seed: Annotated[
        int | None, options.count("S", "Seed of the first member (default: the file's).", least=0)
    ] = None,
    name: options.Name = None,
    logdir: options.LogDir = None,
    device: options.Device = "cpu",
    checkpoint_every: options.CheckpointEvery = None,
    json: options.Json = False,
) -> int:
    """Train a population, whose best members replace the worst."""
    if find_document(PopulationSpec, name_or_file) is None:
        raise RunError(
            f"{name_or_file}: is no population; known: {', '.join(PopulationSpec.library_names())}"
        )
    # these load torch: a wrong name is told before
    from antiphon.jobs.populations.population_run import PopulationRun
    from antiphon.populations import population_of

    spec, template = population_of(
        name_or_file, steps=steps, seed=seed, set=values_of(settings or ()) or None
    )
    path = new_directory(logdir, name, spec.population)
    how: Any = {"device": device, "command": ("antiphon", *sys.argv[1:])}
    run = PopulationRun(spec, template, path, checkpoint_every=checkpoint_every, **how)
    return train_population(run, json)


def train_population(run: PopulationRun, json: bool) -> int:
    """Train a population to its end, showing progress; print its table and return the exit code."""
    from antiphon.populations import trained

    if run.scheduler.sequential_reason is not None:
        write_error(f"the members run one after the other: {run.scheduler.sequential_reason}")
    members = trained(run, progress=True)
    show(members, json)
    if not json:
        how_to_look(run.directory)
    if members.exit_code > 128:
        path = display_path(run.directory)
        write_error(f"stopped; antiphon resume {path} continues from the latest checkpoints")
    return members.exit_code
