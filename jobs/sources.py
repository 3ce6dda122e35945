"""What a user names, and where its runs go: a scenario of the library, a file, a run, `MODULE:FUNCTION` or a Python object; a study."""

from __future__ import annotations

import os
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antiphon.base.errors import RunError
from antiphon.running.directory import RunDirectory, numbered, run_folder
from antiphon.running.templates import (
    Buildable,
    PythonTemplate,
    load_python,
    scenario_names,
    template_named,
)
from antiphon.scenarios import Scenario, Template, TrainingSpec
from antiphon.scenarios.loading import MADE_IN_PYTHON
from antiphon.scenarios.study_spec import StudySpec
from antiphon.scenarios.yaml_text import find_document, read_file

if TYPE_CHECKING:
    from antiphon.jobs.studies.plan import StudyOptions
    from antiphon.jobs.studies.study import Study
    from antiphon.running.simulation import Simulation

_DIRECTORY = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")
_PYTHON = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


def scenario_template(scenario: Buildable | Template | str | Path) -> Template | PythonTemplate:
    """Return the template of a library name, a YAML file, `MODULE:FUNCTION` or a Python object.

    Of a run directory it is the resolved scenario; of a population's, that of its best run.
    """
    if isinstance(scenario, Template):
        return scenario
    if not isinstance(scenario, str | Path):
        return PythonTemplate.of(scenario)
    name = str(scenario)
    if _PYTHON.fullmatch(name):
        return load_python(name)
    folder = run_folder(name)
    if name in scenario_names() or not (folder / "scenario.yaml").is_file():
        return template_named(name)
    if (folder / "run.json").is_file():
        directory = RunDirectory.open(folder)
        from_python = given_scenario(directory, None)
        if from_python is not None:
            return PythonTemplate(base=from_python, source=name)
        directory.check_document()
    document = folder / "scenario.yaml"
    return Template.from_yaml(read_file(document), str(document))


def given_scenario(directory: RunDirectory, python: str | None) -> Scenario | None:
    """Return the scenario that `--scenario` makes of a run's values and steps; None: the option is not given.

    A run of a scenario that the library makes in Python needs no option.
    """
    if python is None:
        source = directory.source
        if source not in MADE_IN_PYTHON.values():
            return None
        python = source
    template = load_python(python)
    values = directory.facts.get("values") or {}
    accepted = {name: value for name, value in values.items() if name in template.parameters}
    steps = directory.values.get("training", {}).get("steps", TrainingSpec().steps)
    coupling = None if template.variants else directory.facts.get("variant")
    return template.resolve(coupling, accepted, steps)


def simulation_at(directory: RunDirectory, checkpoint: str | None, python: str | None) -> Simulation:
    """Return the simulation of a run's checkpoint (`find_checkpoint`), of the newest where it is None; `python`: as for `given_scenario`."""
    from antiphon.running.simulation import Simulation  # loads torch: a wrong path is told before

    scenario = given_scenario(directory, python)
    if scenario is None:
        directory.check_document()
    saved = directory.path if checkpoint is None else directory.find_checkpoint(checkpoint)
    return Simulation.load(saved, scenario, threads=directory.facts["threads"])


def logdir_root(logdir: Path | None) -> Path:
    """Return the parent of run directories: `--logdir`, else $ANTIPHON_LOGDIR, else `runs`."""
    return Path(os.path.expanduser(logdir or os.environ.get("ANTIPHON_LOGDIR") or "runs"))


def new_directory(logdir: Path | None, name: str | None, stem: str) -> Path:
    """Return the directory of a new run: that of `name`, or RunError where it is none, or `stem` with the time."""
    root = logdir_root(logdir)
    if name is not None:
        if not _DIRECTORY.fullmatch(name):
            mend = "use letters, digits, '-', '_' and '.'; logdir sets the parent directory"
            raise RunError(f"name: '{name}' cannot name a run directory; {mend}")
        return root / name
    path = root / f"{stem}-{time.strftime('%Y%m%d-%H%M%S')}"
    return next(candidate for candidate in numbered(path) if not candidate.exists())


def study_of(
    named: str | Template | PythonTemplate, options: StudyOptions, logdir: Path | None, **keys: Any
) -> Study:
    """Return the study of a name or file, or of a template: a document, or the variants of a scenario over three seeds and further keys."""
    spec, template = (find_document(StudySpec, named) if isinstance(named, str) else None), None
    if spec is None:
        template = scenario_template(named) if isinstance(named, str) else named
        name = template.name
        spec = StudySpec(study=name, description=template.description, scenario=name, **keys)
    from antiphon.jobs.studies.study import Study  # loads torch: a wrong name is told before

    directory = logdir or new_directory(None, None, f"study-{spec.study}")
    return Study(spec=spec, directory=directory, options=options, template=template)
