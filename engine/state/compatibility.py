"""Compatibility of a saved state with a system and a scenario: whether it was saved from one of the same make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from antiphon.engine.core.system import System
from antiphon.errors import RunError
from antiphon.scenarios.problems import show_value
from antiphon.scenarios.spec import channel_name

__all__ = ["check_compatible", "check_objects", "check_same_scenario"]

_SECTIONS = {"parameters": "parameter", "buffers": "running statistic"}


def check_compatible(
    system: System, present: Mapping[str, Tensor], state: Mapping[str, Any], observed: Mapping[str, Tensor]
) -> None:
    """Compare names and shapes of a saved state with those of a system; nothing is changed.

    Args:
        system: What is to take over the state.
        present: The signals of its environment at a step, [batch, …] each.
        state: As made by `engine.state.snapshot`.
        observed: The signals saved with it.

    Raises:
        RunError: They differ; the line names the first difference.
    """
    found = next(_differences(system, present, state, observed), None)
    if found is not None:
        raise RunError(f"{found}; load the state into the scenario that it was saved from")


def _differences(
    system: System, present: Mapping[str, Tensor], state: Mapping[str, Any], observed: Mapping[str, Tensor]
) -> Iterator[str]:
    owners = {name: agent.learner for name, agent in system.owners().items()}
    channels = system.channels
    yield from _names("agents", state["learners"], owners)
    yield from _names("channels", state["ledgers"], channels)
    yield from _names("signals of the environment", observed, present)
    for name, signal in present.items():
        yield from _shapes(f"signal '{name}'", "value", {"": observed[name]}, {"": signal})
    for name, learner in owners.items():
        yield from _learner(f"agent '{name}'", state["learners"][name], learner.state_dict())
    predictors = {name: c.predictor for name, c in channels.items() if c.predictor is not None}
    inputs = {name: c.input for name, c in channels.items() if c.input is not None}
    for kind, models in (("predictors", predictors), ("inputs", inputs)):
        yield from _names(f"channels with {kind}", state[kind], models)
        for name, model in models.items():
            held = {
                "parameters": model.parameters,
                "buffers": model.buffers,
                "optimiser": model.optimiser.state,
            }
            yield from _learner(f"channel '{name}': {kind}", state[kind][name], held)
    trails = {name: None for name, agent in system.agents.items() if agent.trail is not None}
    yield from _names("agents whose states condition a predictor", state["trails"], trails)
    clipped = {name: None for name, channel in channels.items() if channel.outliers is not None}
    yield from _names("channels with an outlier bound", state["outliers"], clipped)
    if (state["episode"] is None) != (system.episode is None):
        ours, theirs = ("ends", "never ends") if state["episode"] is None else ("never ends", "ends")
        yield f"episodes: the scenario's {ours}, the state's {theirs}"
    if len(state["units"]) != len(system.groups):
        yield (
            f"agents that learn together: the state has {len(state['units'])} groups of them, the scenario "
            f"{len(system.groups)} (couplings or ties differ)"
        )
    for group, saved in zip(system.groups, state["units"], strict=True):
        ticked = {part[0] for _, parts in saved["tape"]["ticks"] for part in parts}
        if ticked - set(group.members):
            yield f"agent '{min(ticked - set(group.members))}': it learns with others than in the scenario"


def _names(what: str, saved: Mapping[str, Any], own: Mapping[str, Any]) -> Iterator[str]:
    for name in own:
        if name not in saved:
            yield f"{what}: the scenario has '{name}', the state has not"
    for name in saved:
        if name not in own:
            yield f"{what}: the state has '{name}', the scenario has not"


def _learner(place: str, saved: Mapping[str, Any], own: Mapping[str, Any]) -> Iterator[str]:
    for section, what in _SECTIONS.items():
        yield from _names(f"{place}, {section}", saved[section], own[section])
        yield from _shapes(place, what, saved[section], own[section])
    yield from _names(f"{place}, optimiser", saved["optimiser"], own["optimiser"])
    for name, tensors in own["optimiser"].items():
        ours, theirs = len(tensors), len(saved["optimiser"][name])
        if ours != theirs:
            yield f"{place}, optimiser: {theirs} tensors of '{name}' in the state, {ours} in the scenario (`learn` differs)"


def _shapes(place: str, what: str, saved: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> Iterator[str]:
    for name, tensor in own.items():
        ours, theirs = list(tensor.shape), list(saved[name].shape)
        if ours != theirs:
            named = f"{what} {name}".rstrip()
            yield f"{place}: {named} is {theirs} in the state and {ours} in the scenario"


# --- scenarios -------------------------------------------------------------------------------------------

_OBJECT = "python"
"""Key of a Python object in a described scenario."""


def check_same_scenario(saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Compare a saved scenario with another one, both as `described_scenario` returns them; an empty one is not known.

    Raises:
        RunError: They differ; the line names the first difference.
    """
    found = next(_settings("", saved, own), None) if saved else None
    if found is not None:
        raise RunError(f"scenario: {_different(*found)}; give the scenario that it was begun with")


def check_objects(saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Compare the Python objects of a saved scenario with those of another one, as `check_same_scenario` does.

    Raises:
        RunError: They differ in their data or types; the line names the first one.
    """
    found = (each for each in _settings("", saved, own) if any(map(_is_object, each[1:])))
    difference = next(found, None)
    if difference is not None:
        raise RunError(
            f"scenario: {_different(*difference)}; give the one that it was saved with, or take single agents from it "
            "with `weights: RUN:agent`"
        )


def _settings(path: str, saved: Any, own: Any) -> Iterator[tuple[str, Any, Any]]:
    """Yield (path, saved value, own value) of everything that differs; None stands for what is not there."""
    if isinstance(saved, list) and isinstance(own, list):
        saved, own = (
            {_item_name(item, index): item for index, item in enumerate(each)} for each in (saved, own)
        )
    if isinstance(saved, Mapping) and isinstance(own, Mapping) and not (_is_object(saved) or _is_object(own)):
        for key in dict.fromkeys([*saved, *own]):
            yield from _settings(f"{path}.{key}".lstrip("."), saved.get(key), own.get(key))
    elif saved != own:
        yield path, saved, own


def _item_name(item: Any, index: int) -> str:
    """Return the name of a channel, or the place of any other item of a list."""
    if isinstance(item, Mapping) and {"from", "to"} <= item.keys():
        return channel_name(str(item["from"]), str(item["to"]), item.get("key", 0))
    return str(index)


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping) and _OBJECT in value


def _different(path: str, saved: Any, own: Any) -> str:
    if _is_object(saved) and _is_object(own) and saved[_OBJECT] == own[_OBJECT]:
        return f"{path}: this {own[_OBJECT]} holds other data or settings than the one saved"
    return f"{path}: {_in_words(saved)} was saved, {_in_words(own)} is given"


def _in_words(value: Any) -> str:
    return f"a Python {value[_OBJECT]}" if _is_object(value) else show_value(value)
