"""Examples of keys that must be there, which the line about a missing one gives."""

from __future__ import annotations

from collections.abc import Iterator

from antiphon.base.kinds import KindSpec
from antiphon.base.problems import WRITTEN
from antiphon.base.spec import Spec, written_key
from antiphon.distributed.virtual.profile import ClusterProfile
from antiphon.scenarios.population_spec import PopulationSpec
from antiphon.scenarios.study_spec import StudySpec
from tests.scenarios.made import changed, document, refused


def _sections(spec: type[Spec]) -> Iterator[type[Spec]]:
    """Yield the classes of sections below one that are no kinds."""
    for section in spec.__subclasses__():
        if not issubclass(section, KindSpec):
            yield section
            yield from _sections(section)


def test_a_key_that_must_be_there_has_an_example() -> None:
    needed = {
        written_key(section, name)
        for section in {ClusterProfile, PopulationSpec, StudySpec, *_sections(Spec)}
        if section.__module__.startswith(("antiphon.scenarios.", "antiphon.distributed."))
        for name, field in section.model_fields.items()
        if field.is_required()
    }
    assert {"cluster", "study", "vary"} <= needed
    assert needed - set(WRITTEN) == {"agents", "kind", "scenario"}, "these say what they are"
    line = "training.evaluate.period: is missing; for example period: 100"
    assert refused(changed(document(), "training.evaluate", {})) == line
