"""Conformance checks of the extension points, to be run on one's own class, in a test or at a prompt.

Each check takes what a scenario takes (a registered name, a class, an object) and raises AssertionError with one line
that names the first thing that is broken. What passes runs on both backends and goes on from a checkpoint.
"""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from antiphon.agents.aggregation import Aggregated
from antiphon.agents.module import ModuleNetwork
from antiphon.agents.network import OBJECTIVE, Head, Network
from antiphon.agents.objectives import objective_of
from antiphon.comms.model import ContextSpec
from antiphon.comms.modules import input_of, predictor_of
from antiphon.comms.synthetic_gradients import Example
from antiphon.errors import ScenarioError
from antiphon.extensions import Catalogue, key_of, made, name_of
from antiphon.nets.modules import IncomparableError, described
from antiphon.nets.schedules import OwnSchedule, Rate
from antiphon.nets.torch_optimisers import TorchOptimiser, load, saved
from antiphon.telemetry.figures import Figure, Recorder, RunDescription

if TYPE_CHECKING:
    from antiphon.envs.base import TorchVectorEnv

__all__ = [
    "check_aggregation",
    "check_environment",
    "check_input",
    "check_network",
    "check_objective",
    "check_optimiser",
    "check_predictor",
    "check_recorder",
    "check_schedule",
]

_BATCH = 6
_NONE: Mapping[str, Any] = MappingProxyType({})


def check_objective(
    kind: Any, *, options: Mapping[str, Any] = _NONE, classes: int | None = 3, target: tuple[int, ...] = ()
) -> None:
    """Check that an objective returns a loss per sample that an agent can follow, and a metric where it has one.

    Args:
        kind: A registered name, a class, a function, or any object that can be called.
        options: Keyword arguments of its factory.
        classes: Of a categorical target; None: floats.
        target: Shape of one sample of the target.

    Raises:
        AssertionError: A part of the contract is broken; the message names it.
    """
    name = name_of(kind)
    objective = _made(name, lambda: objective_of(kind, options))
    size = objective.size(target, classes)
    _require(
        isinstance(size, int) and size > 0,
        f"{name}: size({target}, {classes}) is {size}, not a number of outputs",
    )
    for dtype in (torch.float64, torch.float32):
        output = _some(_BATCH, size or 1, dtype=dtype)
        aim = _some(_BATCH, *target, dtype=dtype)
        if classes is not None:
            aim = torch.arange(_BATCH).remainder(classes).view(-1, *[1] * len(target)).expand(_BATCH, *target)
        losses = _called(name, objective.loss, output.requires_grad_(), aim)
        _require(
            losses.dtype == dtype, f"{name}: the loss of {dtype} outputs is {losses.dtype}; keep the type"
        )
        _require(bool(losses.isfinite().all()), f"{name}: the loss of ordinary outputs is not finite")
        _require(
            losses.requires_grad, f"{name}: the loss has no graph; do not detach, round or take the argmax"
        )
        gradient = torch.autograd.grad(losses.sum(), output)[0]
        _require(bool(gradient.isfinite().all()), f"{name}: the gradient of the loss is not finite")
        _require(bool(gradient.any()), f"{name}: the gradient of the loss is zero everywhere")
        far = _called(name, objective.loss, 30 * output.detach(), aim)
        _require(
            bool(far.isfinite().all()),
            f"{name}: the loss of outputs of size 30 is not finite; use log_softmax and the like",
        )
        scores = _called(f"{name}: score", objective.score, output.detach(), aim)
        _require(bool(scores.isfinite().all()), f"{name}: the metric '{objective.metric}' is not finite")


def check_predictor(
    kind: Any, *, options: Mapping[str, Any] = _NONE, message: int = 4, context: int = 3
) -> None:
    """Check that a predictor of gradients can be trained, stacked, forked and resumed.

    Args:
        kind: A registered name, a factory called with `inputs` and `outputs`, or a module.
        options: More keyword arguments of the factory.
        message: Components of a message.
        context: Components of the context.

    Raises:
        AssertionError: A part of the contract is broken; the message names it.
    """
    specs = (ContextSpec("context", (context,)),)
    settings = {"dtype": torch.float64, "optimiser": {"kind": "adam"}, "rate": Rate(base=0.01, horizon=1)}
    model = _made(
        name_of(kind),
        lambda: predictor_of(
            kind, options, (message,), specs, generator=torch.Generator().manual_seed(0), **settings
        ),
    )
    sent, seen = _some(_BATCH, message), _some(_BATCH, context)
    truth = sent @ _some(message, message) + 0.5
    example = Example(sent, seen, truth, loss=truth.sum(1))
    _check_model(
        name_of(kind), model, lambda: model.predict(example), lambda: model.gradients([example]), sent.shape
    )


def check_input(kind: Any, *, options: Mapping[str, Any] = _NONE, message: int = 4, context: int = 3) -> None:
    """Check that a predictor of messages can be trained, stacked, forked and resumed; arguments as of `check_predictor`."""
    specs = (ContextSpec("context", (context,)),)
    settings = {"dtype": torch.float64, "optimiser": {"kind": "adam"}, "rate": Rate(base=0.01, horizon=1)}
    model = _made(
        name_of(kind),
        lambda: input_of(
            kind, options, message, specs, generator=torch.Generator().manual_seed(0), **settings
        ),
    )
    seen = _some(_BATCH, context)
    truth = seen @ _some(context, message) + 0.5
    _check_model(
        name_of(kind),
        model,
        lambda: model.predict(seen, _BATCH),
        lambda: model.gradients([(seen, truth, None)]),
        truth.shape,
    )


def _check_model(
    name: str,
    model: Any,
    predict: Callable[[], Tensor],
    learn: Callable[[], tuple[Tensor, list[Tensor]]],
    shape: torch.Size,
) -> None:
    module = getattr(model, "module", None)
    before = _description(module)
    first, second = (_called(name, predict) for _ in range(2))
    _require(first.shape == shape, f"{name}: it predicts {list(first.shape)}, not {list(shape)}")
    _require(first.dtype == torch.float64, f"{name}: of float64 it makes {first.dtype}; keep the type")
    _require(torch.equal(first, second), f"{name}: called twice, it gives different predictions")
    losses = []
    for _ in range(150):
        loss, gradients = _called(name, learn)
        finite = all(bool(t.isfinite().all()) for t in (loss, *gradients))
        _require(finite, f"{name}: its loss or the gradient of its parameters is not finite")
        losses.append(loss.item())
        model.step(gradients, 0)
    _require(bool(model.trainable), f"{name}: it has no parameters, so that nothing is learned")
    _require(
        losses[-1] < 0.9 * losses[0],
        f"{name}: 150 steps do not lower its loss ({losses[0]:.3g} to {losses[-1]:.3g})",
    )
    _require(
        _description(module) == before, f"{name}: it changes attributes of its own as it runs; use buffers"
    )


def check_aggregation(
    kind: Any, *, options: Mapping[str, Any] = _NONE, senders: int = 3, size: int = 4
) -> None:
    """Check that an aggregation joins messages, whichever of them are present.

    Args:
        kind: A registered name, a class called with `size` and `senders`, a function or a module.
        options: More keyword arguments of the class.
        senders: How many messages it joins.
        size: Components of each.

    Raises:
        AssertionError: A part of the contract is broken; the message names it.
    """
    name = name_of(kind)
    network = _made(
        name,
        lambda: Aggregated(
            kind,
            options,
            observed=0,
            senders=senders,
            size=size,
            seed=0,
            inner=lambda shape: _Identity(shape, ()),
        ),
    )
    before = _description(network.module)
    for dtype in (torch.float64, torch.float32):
        parameters = {k: p.to(dtype) for k, p in network.parameters(torch.Generator()).items()}
        buffers = {k: b.to(dtype) if b.is_floating_point() else b for k, b in network.buffers().items()}
        messages = _some(_BATCH, senders, size, dtype=dtype)
        for present in (
            torch.ones(_BATCH, senders),
            torch.eye(_BATCH, senders),
            torch.zeros(_BATCH, senders),
        ):
            there = present.to(dtype)
            inputs = (messages * there.unsqueeze(2)).flatten(1).requires_grad_()
            x = torch.cat([inputs, there], 1)
            first, second = (
                _called(name, lambda: network(parameters, buffers, x, training=False)[0][OBJECTIVE])
                for _ in range(2)
            )
            some = f"with {int(present.sum())} of {present.numel()} messages present"
            _require(
                first.dtype == dtype, f"{name}: of {dtype} messages it makes {first.dtype}; keep the type"
            )
            _require(bool(first.isfinite().all()), f"{name}: {some} it is not finite")
            _require(torch.equal(first, second), f"{name}: called twice, it gives different numbers")
            if not bool(present.all()):
                continue
            _require(
                first.requires_grad, f"{name}: it has no graph, so that no sender would learn; do not detach"
            )
            reached = torch.autograd.grad(first.square().sum(), inputs, allow_unused=True)[0]
            finite = reached is not None and bool(reached.isfinite().all())
            _require(finite, f"{name}: no finite gradient reaches the messages")
    own = getattr(network.module, "aggregation", None)
    given = _some(_BATCH, senders, size, dtype=torch.float32)
    kept = given.clone()
    _called(name, own, given, torch.ones(_BATCH, senders, dtype=torch.bool))
    _require(torch.equal(given, kept), f"{name}: it changes the messages in place")
    _require(
        _description(network.module) == before,
        f"{name}: it changes attributes of its own as it runs; use buffers",
    )


class _Identity(Network):
    """The network behind an aggregation: what it reads is its output."""

    def parameters(self, generator: torch.Generator) -> dict[str, Tensor]:
        return {}

    def buffers(self) -> dict[str, Tensor]:
        return {}

    def feedback_weights(self, message: tuple[int, ...], generator: torch.Generator) -> dict[str, Tensor]:
        raise NotImplementedError

    def __call__(
        self, parameters: Any, buffers: Any, x: Tensor, **settings: Any
    ) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
        return {OBJECTIVE: x}, {}

    def port_shape(self, port: str) -> tuple[int, ...]:
        return self.input_shape

    def signature(self) -> Any:
        return _Identity

    def emit(self, *_: Any) -> Any:
        raise NotImplementedError


def check_network(
    source: Any, *, options: Mapping[str, Any] = _NONE, inputs: int = 5, outputs: int = 4
) -> None:
    """Check that a network of one's own, with a state or without, can be an agent's.

    Args:
        source: A registered name, a factory called with `inputs` and `outputs`, or a module.
        options: More keyword arguments of the factory.
        inputs: Components of what the agent reads.
        outputs: Of its objective and its messages together.

    Raises:
        AssertionError: A part of the contract is broken; the message names it.
    """
    name = name_of(source)
    factory = Catalogue("network")[source] if isinstance(source, str) else source
    heads = (Head(OBJECTIVE, (outputs,)),)
    network = _made(name, lambda: ModuleNetwork(factory, (inputs,), heads, 0, options))
    before = _description(network.module)
    for dtype, rows in ((torch.float64, _BATCH), (torch.float32, 2), (torch.float64, 1)):
        parameters = {
            k: p.to(dtype).requires_grad_() for k, p in network.parameters(torch.Generator()).items()
        }
        buffers = {k: b.to(dtype) if b.is_floating_point() else b for k, b in network.buffers().items()}
        x = _some(rows, inputs, dtype=dtype).requires_grad_()
        state = _some(rows, network.state_size, dtype=dtype) if network.state_size else None
        first, second = (
            _called(name, lambda: network(parameters, buffers, x, training=False, state=state)[0])
            for _ in range(2)
        )
        _require(
            all(t.dtype == dtype for t in first.values()),
            f"{name}: of {dtype} it makes another type; keep it",
        )
        same = all(torch.equal(first[port], second[port]) for port in first)
        _require(
            same,
            f"{name}: in evaluation, called twice it gives different numbers; hand a state out, do not keep it",
        )
        finite = all(bool(t.isfinite().all()) for t in first.values())
        _require(finite, f"{name}: of ordinary inputs it makes numbers that are not finite")
        total = sum(port.square().sum() for port in first.values())
        graph = isinstance(total, Tensor) and total.requires_grad
        _require(graph, f"{name}: its output has no graph; do not detach")
        found = torch.autograd.grad(total, [x, *parameters.values()], allow_unused=True)
        _require(found[0] is not None, f"{name}: no gradient passes through it to its inputs")
        unused = [k.partition(".")[2] for k, g in zip(parameters, found[1:], strict=True) if g is None]
        _require(not unused, f"{name}: its output does not depend on its parameters {', '.join(unused)}")
    _require(
        _description(network.module) == before,
        f"{name}: it changes attributes of its own as it runs; use buffers",
    )


def check_optimiser(kind: Any, *, options: Mapping[str, Any] = _NONE, lr: float = 0.01) -> None:
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
        parameters = [_some(3, 4).requires_grad_(), _some(2).requires_grad_()]
        return parameters, _made(name, lambda: TorchOptimiser(parameters, kind=kind, options=options, lr=lr))

    def take(parameters: list[Tensor], one: TorchOptimiser, steps: int, factor: float = 1.0) -> None:
        for _ in range(steps):
            gradients = [2 * p.detach() for p in parameters]
            given = [g.clone() for g in gradients]
            _called(name, one.step, gradients, factor * lr)
            kept = all(torch.equal(g, before) for g, before in zip(gradients, given, strict=True))
            _require(kept, f"{name}: it changes the gradients that it is given")

    parameters, one = fresh()
    places, first = [p.data_ptr() for p in parameters], [p.detach().clone() for p in parameters]
    take(parameters, one, 50)
    _require(
        [p.data_ptr() for p in parameters] == places,
        f"{name}: it replaces its parameters' memory; change them in place",
    )
    size = [sum(p.detach().square().sum().item() for p in some) for some in (first, parameters)]
    _require(
        math.isfinite(size[1]) and size[1] < size[0],
        f"{name}: 50 steps at {lr:g} do not lower a sum of squares",
    )
    still, other = fresh()
    take(still, other, 3, factor=0.0)
    same = all(torch.equal(p.detach(), q) for p, q in zip(still, first, strict=True))
    _require(
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
    _require(
        same,
        f"{name}: it does not go on from its state_dict to the same bits; keep all that changes in `self.state`",
    )


def _without_tensors(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _without_tensors(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_without_tensors(item) for item in value]
    return None if isinstance(value, Tensor) else value


def check_schedule(kind: Any, *, options: Mapping[str, Any] = _NONE, steps: int = 1000) -> None:
    """Check that a schedule is a function of the step alone, from steps to factors.

    Args:
        kind: A registered name, a class, or a function of the step.
        options: Keyword arguments of its factory.
        steps: Of the run.

    Raises:
        AssertionError: A part of the contract is broken; the message names it.
    """
    name = name_of(kind)
    function = _made(name, lambda: made("schedule", kind, options))
    _require(callable(function), f"{name}: it made {function!r}, which cannot be called with a step")
    own = OwnSchedule(name=name, key=key_of(kind, options), function=function)
    forward = [_called(name, own.at_step, step, steps) for step in range(steps + 1)]
    backward = [_called(name, own.at_step, step, steps) for step in reversed(range(steps + 1))]
    _require(any(forward), f"{name}: it is 0 at all of {steps} steps, so that nothing is learned")
    same = forward == backward[::-1]
    _require(same, f"{name}: the factor of a step depends on the calls before; a resumed run would differ")
    _called(name, own.at_step, 10 * steps, steps)


def check_environment(factory: Callable[[], TorchVectorEnv], steps: int = 12) -> None:
    """Check that environments keep the contract of `TorchVectorEnv`: `antiphon.envs.check_vector_env`."""
    from antiphon.envs.conformance import check_vector_env

    check_vector_env(factory, steps)


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
    drawn = torch.get_rng_state(), np.random.get_state()[1].copy()  # type: ignore[index]
    for ended in (True, False):
        recorder = _made(name, factory)
        missing = [call for call in _CALLS if not callable(getattr(recorder, call, None))]
        _require(not missing, f"{name}: it has no {', '.join(missing)}; make it a subclass of Recorder")
        _called(name, recorder.begin, description)
        for step in (0, 10, 10_000):
            _called(name, recorder.figures, step, rows)
            _called(name, recorder.histograms, step, [("agent", "a", "weights", np.ones(3))])
            _called(name, recorder.samples, step, [])
            _called(name, recorder.digests, step, [("agent", "a", bytes(8))])
        if ended:
            _called(name, recorder.end, result)
        _called(f"{name}: close" if ended else f"{name}: close without an end", recorder.close)
        _called(f"{name}: a second close", recorder.close)
    _require(
        repr((rows, result)) == repr(kept), f"{name}: it changes the rows or the result that it is given"
    )
    same = torch.equal(torch.get_rng_state(), drawn[0]) and bool((np.random.get_state()[1] == drawn[1]).all())  # type: ignore[index]
    _require(same, f"{name}: it draws from the global random numbers, which changes the run")


_CALLS = ("begin", "figures", "histograms", "samples", "digests", "end", "close")


# --- what the checks have in common ------------------------------------------------------------------------


def _require(holds: bool, problem: str) -> None:
    if not holds:
        raise AssertionError(problem)


def _some(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Numbers between -1 and 1, the same for equal shapes."""
    return (
        torch.rand(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
        .mul(2)
        .sub(1)
        .to(dtype)
    )


def _made(name: str, make: Callable[[], Any]) -> Any:
    try:
        return make()
    except ScenarioError as error:
        raise AssertionError(str(error)) from None
    except Exception as error:  # noqa: BLE001  (anything a user's factory may raise)
        raise AssertionError(f"{name}: it cannot be made: {_line(error)}") from None


def _called(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    """The result of a user's function, whose tensors are not changed and which draws no random numbers."""
    tensors = [value for value in arguments if isinstance(value, Tensor)]
    before = [value.detach().clone() for value in tensors]
    state = torch.get_rng_state()
    try:
        found = function(*arguments)
    except ScenarioError as error:
        raise AssertionError(str(error)) from None
    except Exception as error:  # noqa: BLE001  (anything a user's function may raise)
        raise AssertionError(f"{name} fails: {_line(error)}") from None
    _require(torch.equal(torch.get_rng_state(), state), f"{name}: it draws from the global random numbers")
    kept = all(torch.equal(now.detach(), then) for now, then in zip(tensors, before, strict=True))
    _require(kept, f"{name}: it changes what it is given in place")
    return found


def _description(module: nn.Module | None) -> Any:
    """What a module is, without its numbers; None where that cannot be said."""
    try:
        return None if module is None else described(module)
    except IncomparableError:
        return None


def _line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
