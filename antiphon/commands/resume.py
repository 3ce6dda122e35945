"""The command `resume`."""

from __future__ import annotations

from typing import Annotated

from antiphon.base.errors import RunError, write_error
from antiphon.commands import options
from antiphon.commands.arguments import parts_of, values_of
from antiphon.commands.run import train
from antiphon.distributed.settings import PartsSettings
from antiphon.jobs.sources import given_scenario
from antiphon.running.callbacks import Outcome
from antiphon.running.directory import POPULATION, RunDirectory
from antiphon.terminal.end_of_run import print_outcome


def resume(
    path: options.Run,
    python: options.PythonObjects = None,
    steps: Annotated[int | None, options.count("N", "Stop here; schedules are unchanged.")] = None,
    settings: Annotated[
        list[str] | None,
        options.text(
            "NAME.KEY=VALUE",
            "Change eye.learning_rate or such; repeatable.",
            "--set",
        ),
    ] = None,
    parts: options.Parts = None,
    ray: options.Ray = None,
    checkpoint_every: options.CheckpointEvery = None,
    json: options.Json = False,
) -> int:
    """Continue a run or a population from its latest checkpoint, as if it had never stopped."""
    if (path / POPULATION).is_file():
        if any(option is not None for option in (parts, ray, settings)):
            raise RunError(f"{path}: is a population; leave out --parts, --ray and --set")
        from antiphon.commands.population import train_population
        from antiphon.jobs.populations.population_run import PopulationRun

        return train_population(
            PopulationRun.of_directory(path, python, until=steps, checkpoint_every=checkpoint_every), json
        )
    directory = RunDirectory.open(path)
    directory.check_no_member()
    from antiphon.running.start import resume_until  # loads torch: a wrong path is told before

    agents = directory.values.get("agents", {})
    division = parts_of(parts, agents, ray, before=PartsSettings.of_facts(directory.facts))
    scenario, changes = given_scenario(directory, python), values_of(settings or ())
    resumed = resume_until(path, steps, scenario, division, checkpoint_every, changes)
    if isinstance(resumed, Outcome):
        write_error(f"{path}: is done; --steps N continues to a later step")
        return print_outcome(resumed, json)
    return train(resumed, json)
