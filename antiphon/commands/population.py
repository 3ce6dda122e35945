"""The command `population`."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from antiphon.base.errors import RunError
from antiphon.base.files import display_path
from antiphon.base.imports import with_imports
from antiphon.commands import options
from antiphon.commands.arguments import values_of
from antiphon.commands.run import place_of
from antiphon.running.library import template_of_document
from antiphon.running.observers import RunProgress
from antiphon.scenarios.population_spec import PopulationSpec
from antiphon.scenarios.yaml_text import find_document
from antiphon.terminal.output import console, how_to_look, print_json, remark, second_signal, write_line

if TYPE_CHECKING:
    from antiphon.jobs.populations.population_run import PopulationRun


def population(
    name_or_file: Annotated[
        str, typer.Argument(metavar="NAME|FILE", help="A population of the library, or a YAML file of one.")
    ],
    settings: options.Settings = None,
    steps: options.Steps = None,
    until: Annotated[
        int | None,
        options.count(
            "N", "The step at which to stop, of those that schedules span; resume goes on to their end."
        ),
    ] = None,
    seed: Annotated[
        int | None,
        options.count("S", "Seed of the first member, of the initial values and of the selection.", least=0),
    ] = None,
    name: options.Name = None,
    exist: options.Exist = "number",
    logdir: options.LogDir = None,
    device: options.Device = "cpu",
    backend: options.Backend = "cohort",
    checkpoint_every: options.CheckpointEvery = None,
    json: options.Json = False,
) -> int:
    """Train a population; return the exit code."""
    place, spec = place_of(name, logdir, exist), find_document(PopulationSpec, name_or_file)
    if spec is None:
        raise RunError(
            f"{name_or_file}: is no population; known: {', '.join(PopulationSpec.library_names())}"
        )
    changed = {"steps": steps, "seed": seed, "set": {**spec.set, **values_of(settings or ())} or None}
    spec = spec.with_keys(**{key: value for key, value in changed.items() if value is not None})
    from antiphon.jobs.populations.population_run import (
        new_population,  # loads torch: a wrong name is told before
    )

    with new_population(
        spec,
        template_of_document(spec),
        place.directory(spec.population),
        exist,
        device=device,
        backend=backend,
        checkpoint_every=checkpoint_every,
        until=until,
        command=("antiphon", *sys.argv[1:]),
    ) as run:
        return train_population(run, json)


def train_population(run: PopulationRun, json: bool) -> int:
    """Train a population to its end, showing progress; print its table and return the exit code."""
    from antiphon.jobs.populations.population_run import LINEAGE
    from antiphon.terminal.member_tables import members_table

    directory, count = run.directory, run.spec.members
    if run.scheduler.sequential_reason is not None:
        remark(f"the members run one after the other: {run.scheduler.sequential_reason}")
    again = with_imports(f"antiphon resume {display_path(directory)}")
    remedy = f"{again} continues from the latest checkpoints"
    with second_signal(remedy):
        result = run.train(RunProgress(run.until, run.scheduler.start, count))
    code: int = result["exit_code"]
    if json:
        print_json(result)
    else:
        console().print("", members_table(result), sep="\n")
        if result["best"] is not None:
            write_line(f"\nbest         {display_path(result['best']['run_dir'])}")
        write_line(f"lineage      {display_path(directory / LINEAGE)}")
        how_to_look(directory)
    if code > 128:
        remark(f"stopped; {remedy}")
    return code
