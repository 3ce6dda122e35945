"""Compatibility of a saved state with a system and a scenario: whether it was saved from one of the same make."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from antiphon.base.errors import RunError
from antiphon.base.problems import show_value
from antiphon.base.spec import AUTO, channel_name, plain
from antiphon.engine.heart.system import System
from antiphon.engine.state.state_dict import snapshot
from antiphon.scenarios import Scenario

Difference = tuple[tuple[str, ...], Any, Any]
"""The keys from the root of two trees to a place, and the two values there; None stands for what is not there."""


def check_compatible(
    system: System,
    present: Mapping[str, Tensor],
    state: Mapping[str, Any],
    observed: Mapping[str, Tensor],
    *,
    fix: str = "load the state into the scenario that it was saved from",
) -> None:
    """Raise RunError where names, shapes or types of a saved state differ from those of a system, naming the first difference.

    `present` are signals of the system's environment, `observed` those of the state's, [batch, …] each.
    """
    difference = first_difference(_form(state, observed), _form(snapshot(system), present))
    if difference is not None:
        path, *values = difference
        of_state, of_scenario = (
            value if isinstance(value, str) else "nothing" if value is None else "there" for value in values
        )
        raise RunError(f"{'.'.join(path)}: {of_state} in the state, {of_scenario} in the scenario; {fix}")


def _form(state: Mapping[str, Any], signals: Mapping[str, Tensor]) -> dict[str, Any]:
    """Return what of a state is the same at every step: names, and of tensors that do not grow the shape and type."""
    return {
        "channels": dict.fromkeys(state["wires"], True),
        "agents": {name: _form_of(learner) for name, learner in state["learners"].items()},
        "synthetic gradients": {name: _form_of(model) for name, model in state["predictors"].items()},
        "synthetic inputs": {name: _form_of(model) for name, model in state["inputs"].items()},
        "signals": {name: _shape(signal) for name, signal in signals.items()},
        "groups that learn together": str(len(state["groups"])),
        "episodes": "that end" if state["episode"] is not None else "without end",
    }


def _form_of(learner: Mapping[str, Any]) -> dict[str, Any]:
    """Return shapes of parameters and moments, and types of buffers, whose sizes a forward may change."""
    moments = {
        moment: [_shape(tensor) if isinstance(tensor, Tensor) else True for tensor in tensors]
        for moment, tensors in learner["optimiser"].items()
    }
    return {
        "parameters": {name: _shape(tensor) for name, tensor in learner["parameters"].items()},
        "buffers": {name: str(buffer.dtype) for name, buffer in learner["buffers"].items()},
        "optimiser": moments,
    }


def _shape(tensor: Tensor) -> str:
    return f"{list(tensor.shape)} of {str(tensor.dtype).removeprefix('torch.')}"


def first_difference(first: Any, second: Any, path: tuple[str, ...] = ()) -> Difference | None:
    """Return where two trees differ: in their keys, in their items (channels by name), or in two leaves; None: nowhere."""
    first_items, second_items = _by_name(first), _by_name(second)
    if isinstance(first_items, Mapping) and isinstance(second_items, Mapping):
        keys = dict.fromkeys([*second_items, *first_items])
        found = (first_difference(first_items.get(k), second_items.get(k), (*path, str(k))) for k in keys)
        return next(filter(None, found), None)
    return None if first == second else (path, first, second)


def _by_name(value: Any) -> Any:
    """Return a list by the names of channels, or the places of other items; plain numbers and words as they are."""
    if not isinstance(value, list) or all(isinstance(item, float | int | str | None) for item in value):
        return value
    items = {}
    for index, item in enumerate(value):
        channel = isinstance(item, Mapping) and {"from", "to"} <= item.keys()
        name = channel_name(str(item["from"]), str(item["to"]), item.get("key", 0)) if channel else index
        items[str(name)] = item
    return items


# --- scenarios -------------------------------------------------------------------------------------------


def described_scenario(scenario: Scenario) -> dict[str, Any]:
    """Return a scenario as plain data, with `<NAME>` in the place of each Python object: its class's name, or its own."""
    return {key: described(value) for key, value in plain(scenario).items()}


def described(value: Any) -> Any:
    """Return nested data with `<NAME>` in the place of each Python object."""
    if isinstance(value, Mapping):
        return {str(key): described(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [described(item) for item in value]
    if isinstance(value, str | int | float | None):
        return value
    return f"<{getattr(value, '__name__', type(value).__name__)}>"


def difference_in_words(saved: Mapping[str, Any], present: Mapping[str, Any]) -> str | None:
    """Return the first difference of a scenario from a saved one, both as `described_scenario` returns them; None: there is none."""
    difference = first_difference(saved, present)
    if difference is None:
        return None
    path, before, now = difference
    return f"{'.'.join(path)}: {show_value(before)} was saved, {show_value(now)} is given"


def with_saved_links(scenario: Scenario, saved: Mapping[str, Any]) -> Scenario:
    """Return a scenario with what a run in parts chose for delays and bits that are `auto`, and what came with them."""
    if not scenario.automatic:
        return scenario
    links = {name: channel.get("link", {}) for name, channel in _by_name(saved.get("channels", [])).items()}
    chosen: dict[str, dict[str, Any]] = {}
    for channel in scenario.channels:
        if (saved_link := links.get(channel.name)) is not None:
            of_run = {"written_delay": saved_link.get("delay", 0), "written_bits": saved_link.get("bits")}
            chosen[channel.name] = {key: of_run[key] for key in of_run if getattr(channel.link, key) == AUTO}
    delayed = "delay" in scenario.automatic
    aligned = {name for name, agent in saved.get("agents", {}).items() if delayed and agent.get("align")}
    return scenario.with_links(chosen, aligned)
