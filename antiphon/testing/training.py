"""Conformance checks of what trains, runs and watches: optimisers, schedules, environments, recorders."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from antiphon.comms.backward_requests import constant
from antiphon.extensions import key_of, made, name_of
from antiphon.nets.schedules import OwnSchedule
from antiphon.nets.torch_optimisers import TorchOptimiser, load, saved
from antiphon.telemetry.figures import Figure, Recorder, RunDescription
from antiphon.testing.support import NO_OPTIONS, checked_call, made_or_refused, require, some

if TYPE_CHECKING:
    from antiphon.envs.base import TorchVectorEnv

__all__ = ["check_environment", "check_optimiser", "check_recorder", "check_schedule"]

_CALLS = ("begin", "figures", "histograms", "samples", "digests", "end", "close")


def check_optimiser(kind: Any, *, options: Mapping[str, Any] = NO_OPTIONS, lr: float = 0.01) -> None:
    """Check that an optimiser lowers a loss in place, follows its schedule and goes on from a saved state.

    Args:
        kind: A registered name, that of a class of `torch.optim`, a class or a factory.
        options: Keyword arguments beside `lr`.
        lr: The learning rate.

    Raises:
        AssertionError: A part of the contract is broken; the message names it.
    """
    name = name_of(kind)

    def fresh() -> tuple[list[Tensor], TorchOptimiser]:
        parameters = [some(3, 4).requires_grad_(), some(2).requires_grad_()]
        return parameters, made_or_refused(
            name, lambda: TorchOptimiser(parameters, kind=kind, options=options, lr=lr)
        )

    def take(parameters: list[Tensor], one: TorchOptimiser, steps: int, factor: float = 1.0) -> None:
        for _ in range(steps):
            gradients = [2 * constant(p) for p in parameters]
            given = [g.clone() for g in gradients]
            checked_call(name, one.step, gradients, factor * lr)
            kept = all(torch.equal(g, before) for g, before in zip(gradients, given, strict=True))
            require(kept, f"{name}: it changes the gradients that it is given")

    parameters, one = fresh()
    places, first = [p.data_ptr() for p in parameters], [constant(p).clone() for p in parameters]
    take(parameters, one, 50)
    require(
        [p.data_ptr() for p in parameters] == places,
        f"{name}: it replaces its parameters' memory; change them in place",
    )
    size = [sum(constant(p).square().sum().item() for p in some) for some in (first, parameters)]
    require(
        math.isfinite(size[1]) and size[1] < size[0],
        f"{name}: 50 steps at {lr:g} do not lower a sum of squares",
    )
    still, other = fresh()
    take(still, other, 3, factor=0.0)
    same = all(torch.equal(constant(p), q) for p, q in zip(still, first, strict=True))
    require(
        same,
        f"{name}: at a learning rate of 0 it moves: it does not read `lr` of its groups, and no schedule has an effect",
    )
    again, rest = fresh()
    assert one.torch is not None
    assert rest.torch is not None
    for p, q in zip(again, parameters, strict=True):
        p.data.copy_(q)
    tree = saved(one.torch)
    try:
        json.dumps(_without_tensors(tree))
    except TypeError as error:
        raise AssertionError(f"{name}: its state is not plain data and tensors ({error})") from None
    load(rest.torch, tree)
    take(parameters, one, 5)
    take(again, rest, 5)
    same = all(torch.equal(p, q) for p, q in zip(parameters, again, strict=True))
    require(
        same,
        f"{name}: it does not go on from its state_dict to the same bits; keep all that changes in `self.state`",
    )


def _without_tensors(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_tensors(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_tensors(item) for item in value]
    return None if isinstance(value, Tensor) else value


def check_schedule(kind: Any, *, options: Mapping[str, Any] = NO_OPTIONS, steps: int = 1000) -> None:
    """Check that a schedule is a function of the step alone, from steps to factors.

    Args:
        kind: A registered name, a class, or a function of the step.
        options: Keyword arguments of its factory.
        steps: Of the run.

    Raises:
        AssertionError: A part of the contract is broken; the message names it.
    """
    name = name_of(kind)
    function = made_or_refused(name, lambda: made("schedule", kind, options))
    require(callable(function), f"{name}: it made {function!r}, which cannot be called with a step")
    own = OwnSchedule(name=name, key=key_of(kind, options), function=function)
    forward = [checked_call(name, own.at_step, step, steps) for step in range(steps + 1)]
    backward = [checked_call(name, own.at_step, step, steps) for step in reversed(range(steps + 1))]
    require(any(forward), f"{name}: it is 0 at all of {steps} steps, so that nothing is learned")
    same = forward == backward[::-1]
    require(same, f"{name}: the factor of a step depends on the calls before; a resumed run would differ")
    checked_call(name, own.at_step, 10 * steps, steps)


def check_environment(factory: Callable[[], TorchVectorEnv], steps: int = 12) -> None:
    """Check that environments keep the contract of `TorchVectorEnv`: `antiphon.envs.check_vector_env`."""
    from antiphon.envs.conformance import check_vector_env

    check_vector_env(factory, steps)


def _global_random_state() -> tuple[object, ...]:
    """Torch's, and NumPy's with its place in the drawn block, which most draws move alone."""
    _, drawn, *place = np.random.get_state()
    return torch.get_rng_state().numpy().tobytes(), np.asarray(drawn).tobytes(), *place


def check_recorder(factory: Callable[[], Recorder]) -> None:
    """Check that a recorder takes whatever a run has to record, and changes nothing of it.

    Args:
        factory: Returns a new recorder, for files of its own.

    Raises:
        AssertionError: A part of the contract is broken; the message names it.
    """
    import networkx as nx

    name = name_of(factory)
    graph: nx.MultiDiGraph[str] = nx.MultiDiGraph()
    graph.add_node("a", role="readout")
    description = RunDescription(
        yaml="", hparams={"seed": 0}, graph=graph, names={"agents": ["a"], "channels": []}, scenario="check"
    )
    rows = [Figure("agent", "a", "loss", value) for value in (0.5, math.nan, math.inf)]
    result = {"exit": "finished", "agents": {"a": {"loss": 0.5}}}
    kept = copy.deepcopy((rows, result))
    drawn = _global_random_state()
    for ended in (True, False):
        recorder = made_or_refused(name, factory)
        missing = [call for call in _CALLS if not callable(getattr(recorder, call, None))]
        require(not missing, f"{name}: it has no {', '.join(missing)}; make it a subclass of Recorder")
        checked_call(name, recorder.begin, description)
        for step in (0, 10, 10_000):
            checked_call(name, recorder.figures, step, rows)
            checked_call(name, recorder.histograms, step, [("agent", "a", "weights", np.ones(3))])
            checked_call(name, recorder.samples, step, [])
            checked_call(name, recorder.digests, step, [("agent", "a", bytes(8))])
        if ended:
            checked_call(name, recorder.end, result)
        checked_call(f"{name}: close" if ended else f"{name}: close without an end", recorder.close)
        checked_call(f"{name}: a second close", recorder.close)
    require(repr((rows, result)) == repr(kept), f"{name}: it changes the rows or the result that it is given")
    require(
        _global_random_state() == drawn,
        f"{name}: it draws from the global random numbers, which changes the run",
    )
