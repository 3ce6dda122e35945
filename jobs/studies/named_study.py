"""The study of what a user names: a study's document, or all variants of one scenario."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from antiphon.base.errors import ScenarioError
from antiphon.jobs.new_directories import new_directory
from antiphon.jobs.scenario_sources import check_no_run, scenario_template
from antiphon.jobs.studies.plan import StudyOptions
from antiphon.running.library import scenario_names
from antiphon.running.python_template import PythonTemplate
from antiphon.scenarios.loading import suggest_document
from antiphon.scenarios.scenario import Template
from antiphon.scenarios.study_spec import StudySpec
from antiphon.scenarios.yaml_text import find_document

if TYPE_CHECKING:
    from antiphon.jobs.studies.study import Study

_DOCUMENTS = (".yaml", ".yml")


def find_study_or_scenario(name_or_file: str, options: StudyOptions, logdir: Path | None) -> Study:
    """Return the study of a name or file: a document, or all variants of one scenario."""
    spec = find_document(StudySpec, name_or_file)
    if spec is not None:
        from antiphon.jobs.studies.study import Study  # loads torch: a wrong name is told before

        directory = logdir or new_directory(None, None, f"study-{spec.study}")
        return Study(spec=spec, directory=directory, options=options)
    names = {*StudySpec.library_names(), *scenario_names()}
    bare = (
        ":" not in name_or_file
        and Path(name_or_file).suffix not in _DOCUMENTS
        and Path(name_or_file).parent == Path()
    )
    if bare and name_or_file not in names and not Path(name_or_file).exists():
        raise ScenarioError(f"no study or scenario {name_or_file!r}{suggest_document(name_or_file, names)}")
    check_no_run(name_or_file, "study", "a study of its scenario")
    return study_of(scenario_template(name_or_file), options, logdir)


def study_of(
    template: Template | PythonTemplate, options: StudyOptions, logdir: Path | None, **keys: Any
) -> Study:
    """Return the study of one scenario, in a new folder where no `logdir` is given; for `keys`, see `Study.of_template`."""
    from antiphon.jobs.studies.study import Study  # help does not load torch

    study = Study.of_template(template, logdir or Path(), options, **keys)
    if logdir is not None:
        return study
    return replace(study, directory=new_directory(None, None, f"study-{study.name}"))
