"""Compatibility of a saved state with a system: whether it was saved from a system of the same make."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from torch import Tensor

from antiphon.engine.core.system import System
from antiphon.errors import RunError

__all__ = ["check_compatible"]

_SECTIONS = {"parameters": "parameter", "buffers": "running statistic"}


def check_compatible(
    system: System, present: Mapping[str, Tensor], state: Mapping[str, Any], observed: Mapping[str, Tensor]
) -> None:
    """Compare names and shapes of a saved state with those of a system; nothing is changed.

    Args:
        system: What is to take over the state.
        present: The signals of its environment at a step, [batch, …] each.
        state: As made by `engine.state.snapshot`.
        seen: The signals saved with it.

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
            f"agents that learn together: the state has {len(state['groups'])} groups of them, the scenario "
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
