"""The trial of one setting: it is changed alone, in runs that have it, until a run shows it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from antiphon.errors import AntiphonError
from antiphon.scenarios import Scenario
from tests.contracts.builders import STEPS
from tests.contracts.documents import DOCUMENTS, scenario_of
from tests.kit.examined import as_data, warned_at_the_start
from tests.obeyed.given import GIVEN
from tests.obeyed.scenes import SCENES
from tests.obeyed.settings import Place, Setting, changed, settings_of, values_for
from tests.obeyed.ways import WAYS, Shown, written

_SCENES = 6
"""Scenes in which a setting is tried at most."""
_VALUES = 12
_SILENT = 2
_LARGE = 7
"""Agents of scenes that are tried last, as they take long."""


@dataclass
class Trial:
    """What came of changing a setting.

    Attributes:
        obeyed: Where it had an effect.
        said: Where it had none, and a warning of the run names the key.
        ignored: Where it had none, without a word.
        refused: The lines of refusals.
    """

    obeyed: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)
    ignored: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)


@cache
def _scene(name: str) -> tuple[Mapping[str, Any], Scenario]:
    document = SCENES.get(name) or as_data(scenario_of(name, steps=STEPS))
    return document, Scenario.model_validate(document)


@cache
def _shown(name: str, way: str) -> Shown:
    return WAYS[way](_scene(name)[1])


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


def tried(setting: Setting, way: str = "alone", scenes: int = 3) -> Trial:
    """Change a setting alone, in some scenes: in each, values are tried until one has an effect.

    Args:
        setting: The setting.
        way: A key of `WAYS`.
        scenes: In how many scenes, of those that accept a value.
    """
    trial, accepting = Trial(), 0
    for name, place, values in _scenes_of(setting):
        silent = list[tuple[str, Scenario]]()
        for value in values[:_VALUES]:
            what = f"{name}: {'.'.join(map(str, place))} = {value}"
            try:
                scenario = Scenario.model_validate(changed(_scene(name)[0], place, value))
                if scenario == _scene(name)[1]:
                    continue
                if _differs(name, scenario, way):
                    trial.obeyed.append(what)
                    break
            except AntiphonError as error:
                trial.refused.append(f"{what}: {error}")
                continue
            silent.append((what, scenario))
            if len(silent) == _SILENT:
                break
        else:
            if not silent:
                continue
        if len(trial.obeyed) + len(trial.said) + len(trial.ignored) == accepting:
            (trial.said if _is_said(silent[0][1], place) else trial.ignored).append(silent[0][0])
        accepting += 1
        if accepting == scenes:
            break
    return trial


def _differs(name: str, scenario: Scenario, way: str) -> bool:
    """Whether a run of a changed scenario differs from the scene's, or else its files do."""
    if WAYS[way](scenario) != _shown(name, way):
        return True
    return way == "alone" and written(scenario) != _written(name)


@cache
def _written(name: str) -> Shown:
    return written(_scene(name)[1])


def _is_said(scenario: Scenario, place: Place) -> bool:
    """Whether a warning of a run says that a key, or its section, has no effect."""
    lines = [line for line in warned_at_the_start(scenario) if " is not used " in line]
    return any(str(key) in line for line in lines for key in place[2:] if isinstance(key, str))
