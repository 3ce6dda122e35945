"""Compatibility of a saved state with a system and a scenario: whether it was saved from one of the same make."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from antiphon.base.errors import RunError
from antiphon.base.problems import show_value
from antiphon.base.spec import AUTO, channel_name
from antiphon.engine.heart.system import System
from antiphon.engine.state.state_dict import snapshot
from antiphon.nets.optimisers import MISSED
from antiphon.scenarios import Scenario

_NAMED = {
    "learners": "agents",
    "ledgers": "channels",
    "gates": "channels with a gate",
}
"""Parts of a state whose names are the same at every step, and what they name."""
_MOST_NAMES = 4
"""Names of a kind that an error lists."""
_TRAINED = {"learners": "agents", "predictors": "synthetic gradients", "inputs": "synthetic inputs"}
"""Parts of a state whose tensors have the same form at every step, and whose they are."""

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
    """Compare names, shapes and types of a saved state with those of a system; nothing is changed.

    Args:
        system: What is to take over the state.
        present: The signals of its environment at a step, [batch, …] each.
        fix: What to do where they differ.

    Raises:
        RunError: They differ; the line names the first difference.
    """
    saved_names, built_names = _names(state), _names(snapshot(system))
    for kind, names in built_names.items():
        of_each = {
            "the saved state": [name for name in saved_names[kind] if name not in names],
            "the scenario": [name for name in names if name not in saved_names[kind]],
        }
        alone = [f"{_listed(found)} in {place} alone" for place, found in of_each.items() if found]
        if alone:
            raise _incompatible(f"{kind}: {', '.join(alone)}", fix)
    for forms in zip(_forms(state, observed), _forms(snapshot(system), present), strict=True):
        for path, saved, built in differences(*forms, of=_described):
            raise _incompatible(
                f"{'.'.join(path)}: {_described(saved)} in the state, {_described(built)} in the scenario",
                fix,
            )
    for group, saved_group in zip(system.groups, state["groups"], strict=True):
        ticked = {tick["agent_name"] for call in saved_group["window"]["ticks_by_call"] for tick in call}
        if ticked - set(group.agent_names):
            name = min(ticked - set(group.agent_names))
            raise _incompatible(f"agent '{name}': its learning group is not the scenario's", fix)


def _incompatible(difference: str, fix: str) -> RunError:
    return RunError(f"{difference}; {fix}")


def _names(state: Mapping[str, Any]) -> dict[str, list[str]]:
    return {kind: list(state.get(key, ())) for key, kind in _NAMED.items()}


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more:,} more" if more > 0 else "")


def _forms(state: Mapping[str, Any], signals: Mapping[str, Tensor]) -> Iterator[dict[str, Any]]:
    """Yield what of a state has the same form at every step, besides names, of which shapes are a consequence."""
    yield {
        "signals": signals,
        **{
            kind: {name: _trained(learner) for name, learner in state[key].items()}
            for key, kind in _TRAINED.items()
        },
        "groups that learn together": len(state["groups"]),
        "episodes that end": state["episode"] is not None,
    }


def _trained(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tensors of a learner or model that it has at every step.

    Not so: the dicts of torch's optimisers, counts of missed steps, and the sizes of buffers, which a forward may replace.
    """
    moments = {
        moment: [tensor if isinstance(tensor, Tensor) else True for tensor in tensors]
        for moment, tensors in saved["optimiser"].items()
        if moment != MISSED
    }
    types = {name: str(buffer.dtype) for name, buffer in saved["buffers"].items()}
    return {"parameters": saved["parameters"], "buffers": types, "optimiser": moments}


def _described(value: Any) -> str:
    """Return the form of a value: of a tensor its shape and type."""
    if isinstance(value, Tensor):
        return f"{list(value.shape)} of {str(value.dtype).removeprefix('torch.')}"
    if isinstance(value, Mapping | list):
        return f"{len(value)} entries"
    return "nothing" if value is None else "there" if value is True else str(value)


def differences(
    first: Any, second: Any, of: Callable[[Any], Any] = lambda value: value, path: tuple[str, ...] = ()
) -> Iterator[Difference]:
    """Yield where two trees differ: in their keys, in their items (channels by name), or in what `of` makes of two leaves."""
    first_items, second_items = _by_name(first), _by_name(second)
    if all(isinstance(items, Mapping) and not _is_object(items) for items in (first_items, second_items)):
        for key in dict.fromkeys([*second_items, *first_items]):
            yield from differences(first_items.get(key), second_items.get(key), of, (*path, str(key)))
    elif of(first) != of(second):
        yield path, first, second


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


def same_bits(first: Tensor, second: Tensor) -> bool:
    """Return whether two tensors are equal to the bit: zeros differ by their sign, and nan equals itself."""
    if first.shape != second.shape or first.dtype != second.dtype:
        return False
    return torch.equal(*(tensor.contiguous().reshape(-1).view(torch.uint8) for tensor in (first, second)))


# --- scenarios -------------------------------------------------------------------------------------------

_OBJECT = "python"
"""Key of a Python object in a described scenario."""


def check_same_scenario(saved: Mapping[str, Any], present: Mapping[str, Any]) -> None:
    """Compare a saved scenario with another one, both as `described_scenario` returns them.

    Raises:
        RunError: They differ; the line names the first difference.
    """
    for difference in differences(saved, present):
        raise RunError(f"scenario: {in_words(*difference)}; give the scenario that the run was started with")


def with_saved_links(scenario: Scenario, saved: Mapping[str, Any]) -> Scenario:
    """Return a scenario with what a run in parts chose for delays and bits that are `auto`, and what came with them."""
    if not (scenario.has_automatic_delays or scenario.has_automatic_bits):
        return scenario
    links = {name: channel.get("link", {}) for name, channel in _by_name(saved.get("channels", [])).items()}
    chosen: dict[str, dict[str, Any]] = {}
    for channel in scenario.channels:
        if (saved_link := links.get(channel.name)) is not None:
            of_run = {"written_delay": saved_link.get("delay", 0), "written_bits": saved_link.get("bits")}
            chosen[channel.name] = {key: of_run[key] for key in of_run if getattr(channel.link, key) == AUTO}
    delayed = scenario.has_automatic_delays
    aligned = {name for name, agent in saved.get("agents", {}).items() if delayed and agent.get("align")}
    return scenario.with_links(chosen, aligned)


def check_objects(saved: Mapping[str, Any], present: Mapping[str, Any]) -> None:
    """Compare the Python objects of a saved scenario with those of another one, as `check_same_scenario` does.

    Raises:
        RunError: They differ in their data or types; the line names the first one.
    """
    for difference in differences(saved, present):
        if any(map(_is_object, difference[1:])):
            raise RunError(
                f"scenario: {in_words(*difference)}; give the scenario of the checkpoint, or load single agents from it "
                "with `parameters: RUN:agent`"
            )


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping) and _OBJECT in value


def in_words(path: Sequence[str], saved: Any, present: Any) -> str:
    """Return a difference between two described scenarios in one line."""
    key_path = ".".join(path)
    if _is_object(saved) and _is_object(present) and saved[_OBJECT] == present[_OBJECT]:
        return f"{key_path}: this {present[_OBJECT]} holds other data or settings than the one saved"
    words = [
        f"a Python {description[_OBJECT]}" if _is_object(description) else show_value(description)
        for description in (saved, present)
    ]
    return f"{key_path}: {words[0]} was saved, {words[1]} is given"
