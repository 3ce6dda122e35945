"""The trial of one setting: it is changed alone, in runs that have it, until a run shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from antiphon.base.errors import AntiphonError
from antiphon.scenarios import Scenario
from tests.contracts.builders import STEPS
from tests.contracts.documents import DOCUMENTS, scenario_of
from tests.kit.examined import as_data
from tests.obeyed.given import GIVEN
from tests.obeyed.scenes import SCENES
from tests.obeyed.settings import Place, Setting, changed, settings_of, values_for
from tests.obeyed.shown import Shown, parameters_after, written

_SCENES = 6
"""Scenes in which a setting is tried at most."""
_VALUES = 12
"""Values that are tried in a scene."""
_LARGE = 7
"""Agents of scenes that are tried last, as they take long."""


@dataclass
class Trial:
    """What came of changing a setting.

    Attributes:
        obeyed: Where it had an effect.
        ignored: Where it had none.
        refused: The lines of refusals.
    """

    obeyed: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@cache
def _scene(name: str) -> tuple[Mapping[str, Any], Scenario]:
    document = SCENES.get(name) or as_data(scenario_of(name, steps=STEPS))
    return document, Scenario.model_validate(document)


@cache
def _shown(name: str) -> Shown:
    return parameters_after(_scene(name)[1])


@cache
def places() -> dict[Setting, list[tuple[str, Place, list[Any]]]]:
    """Return by setting where it stands in the scenes, with other values: first where a document names it, small scenes first."""
    found: dict[Setting, list[tuple[tuple[bool, int], str, Place, list[Any]]]] = {}
    for name in (*SCENES, *DOCUMENTS):
        if name.startswith("split") or any(word in name for word in ("mnist", "cifar", "diverge")):
            continue  # models, data that are not at hand, and runs that end at their first step
        document, scenario = _scene(name)
        seen: set[Setting] = set()
        for setting, place, spec, value in settings_of(scenario):
            explicit = _has(document, place)
            if setting in seen and not explicit:
                continue
            seen.add(setting)
            values = GIVEN.get(str(setting)) or values_for(spec, setting.key, value)
            rank = (not explicit, len(scenario.agents) // _LARGE)
            found.setdefault(setting, []).append((rank, name, place, values))
    return {
        setting: [one[1:] for one in sorted(found[setting], key=lambda one: one[0])]
        for setting in sorted(found)
    }


def _has(document: Any, place: Place) -> bool:
    for key in place:
        if not isinstance(document, list | Mapping) or (
            isinstance(document, Mapping) and key not in document
        ):
            return False
        document = document[key]  # type: ignore[index]
    return True


def _scenes_of(setting: Setting) -> Iterator[tuple[str, Place, list[Any]]]:
    names: set[str] = set()
    for name, place, values in places()[setting]:
        if name not in names:
            names.add(name)
            yield name, place, values
        if len(names) == _SCENES:
            return


def tried(setting: Setting) -> Trial:
    """Change a setting alone, in one scene after the other, until a value has an effect."""
    trial = Trial()
    for name, place, values in _scenes_of(setting):
        for value in values[:_VALUES]:
            what = f"{name}: {'.'.join(map(str, place))} = {value}"
            try:
                scenario = Scenario.model_validate(changed(_scene(name)[0], place, value))
                if scenario == _scene(name)[1]:
                    continue
                if _differs(name, scenario):
                    trial.obeyed.append(what)
                    return trial
                trial.ignored.append(what)
            except AntiphonError as error:
                trial.refused.append(f"{what}: {error}")
    return trial


def _differs(name: str, scenario: Scenario) -> bool:
    """Whether a run of a changed scenario differs from the scene's, or else its files do."""
    return parameters_after(scenario) != _shown(name) or written(scenario) != _written(name)


@cache
def _written(name: str) -> Shown:
    return written(_scene(name)[1])
