"""Joining: the trained parts of a split model are loaded into the user's own model."""

from __future__ import annotations

import operator
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar, overload

import torch
from torch import Tensor, nn

from antiphon.base.errors import RunError
from antiphon.nets.isolation.own_context import in_own_context
from antiphon.nets.user_modules import copied, release_modes
from antiphon.running.simulation import Simulation
from antiphon.scenarios import Scenario
from antiphon.splitting.shared_parameters import separate

Model = TypeVar("Model", bound=nn.Module)
_PREFIX = "module."


@dataclass(frozen=True, eq=False)
class Origin:
    """A model as it was when it was split; copies of a part share it.

    Attributes:
        untied: Groups of parameters, as (agent, key), that the model shares and the parts do not.
    """

    model: nn.Module
    untied: Sequence[Sequence[tuple[str, str]]]

    def __deepcopy__(self, memo: dict[int, Any]) -> Origin:
        return self


@overload
def join(run: Simulation, into: None = None) -> nn.Module: ...
@overload
def join(run: Simulation, into: Model) -> Model: ...
@in_own_context
def join(run: Simulation, into: nn.Module | None = None) -> nn.Module:
    """Return a split model with its trained parameters and buffers.

    Args:
        run: A simulation of a scenario made by `antiphon.split`: running, finished or resumed.
        into: The model to load them into; None: a copy of the model that was split.

    Returns:
        A model of the original class, with every key of its state dict. Parameters that no part uses, and frozen ones, keep
        their values. With `tie="copy"`, shared parameters have become separate ones.

    Raises:
        RunError: `run` is not a simulation, its scenario was not made by `split`, a part observes normalised signals, or `into`
            is not a module or has other parameters.
    """
    if not isinstance(getattr(run, "scenario", None), Scenario):
        raise RunError(
            f"join: run is {type(run).__name__}; give an antiphon.Simulation (with several seeds, one of the `simulations`)"
        )
    if not isinstance(into, nn.Module | None):
        raise RunError(f"join: into is {type(into).__name__}; give a torch.nn.Module, or leave it out")
    origins = _origins(run)
    origin = next(iter(origins.values()))
    for name in origins:
        if run.scenario.agents[name].normalised:
            fix = "normalise in the model, or export the run"
            raise RunError(
                f"join: agent '{name}' observes normalised signals, which the model does not; {fix}"
            )
    model = into
    if model is None:
        model = copied(origin.model)
        release_modes(model)
    learners = [run.running.system.agents[name].learner for name in origins]
    numbers = {
        key.removeprefix(_PREFIX): value
        for learner in learners
        for key, value in [*learner.parameters.items(), *learner.buffers.items()]
    }
    _check(model, origin.model, numbers)
    targets = {key: target for key in numbers if (target := _tensor(model, key)) is not None}
    for key, target in targets.items():
        path, _, name = key.rpartition(".")
        if target.shape != numbers[key].shape and name not in model.get_submodule(path)._buffers:
            raise RunError(
                f"join: '{key}' is {list(numbers[key].shape)} in the run, and no buffer of that size in the model; give split a model whose forward does not replace it"
            )
    for group in origin.untied:
        for _, key in group[1:]:
            separate(model, key, model.get_parameter(key).data.clone())
    with torch.no_grad():
        for key in targets:
            target, value = operator.attrgetter(key)(model), numbers[key]
            if target.shape != value.shape:  # a buffer that a forward replaced
                path, _, name = key.rpartition(".")
                target = model.get_submodule(path)._buffers[name] = target.new_empty(value.shape)
            target.copy_(value)
    for learner in learners:
        if (state := learner.module_state) is not None:
            state.copy_to(model, _PREFIX)
    return model


def _origins(run: Simulation) -> dict[str, Origin]:
    """The origin of each agent that is a part of a split model."""
    networks = {name: agent.network for name, agent in run.scenario.agents.items()}
    candidates = {name: getattr(network, "origin", None) for name, network in networks.items()}
    origins = {name: origin for name, origin in candidates.items() if isinstance(origin, Origin)}
    if not origins:
        raise RunError(
            f"join: scenario '{run.scenario.scenario}' was not made by antiphon.split; "
            "for an agent's network, use agents[name].module"
        )
    return origins


def _tensor(model: nn.Module, key: str) -> Tensor | None:
    try:
        value = operator.attrgetter(key)(model)
    except AttributeError:
        return None  # a constant of a part
    return value if isinstance(value, Tensor) else None


def _check(model: nn.Module, origin: nn.Module, numbers: Mapping[str, Tensor]) -> None:
    """Check that a model has the tensors of the one that was split; buffers that the run's forwards replace may have any size."""
    have, want = (
        {key: list(t.shape) for key, t in [*m.named_parameters(), *m.named_buffers()]}
        for m in (model, origin)
    )
    for key, tensor in model.named_parameters():
        if tensor.is_meta:
            raise RunError(f"join: into: '{key}' is on the meta device; give a model with memory of its own")
    replaced = {
        key
        for key, _ in model.named_buffers()
        if key in want and key in numbers and list(numbers[key].shape) != want[key]
    }
    for key in [*want, *have]:
        if have.get(key) != want.get(key) and key not in replaced:
            raise RunError(
                f"join: into: '{key}' is {have.get(key, 'missing')} in {type(model).__name__} and "
                f"{want.get(key, 'missing')} in the model that was split; give a model of the same class and sizes"
            )
