"""Conformance checks of what is computed: objectives, predictors, aggregations, networks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor

from antiphon.agents.aggregation import aggregator_of
from antiphon.agents.module import ModuleNetwork
from antiphon.agents.network import OBJECTIVE, Head
from antiphon.agents.objectives import objective_of
from antiphon.agents.policies import POLICY_FIELDS
from antiphon.comms.backward_requests import constant
from antiphon.comms.model import ContextSpec
from antiphon.comms.modules import input_of, predictor_class, predictor_of
from antiphon.comms.sites import SiteGradient, SiteInput
from antiphon.comms.synthetic_gradients import Example, LabelGradient, Predictor
from antiphon.comms.synthetic_inputs import InputModel
from antiphon.extensions import Catalogue, name_of
from antiphon.nets.modules import called
from antiphon.nets.schedules import Rate
from antiphon.testing.support import NO_OPTIONS, checked_call, description_of, made_or_refused, require, some

__all__ = ["check_aggregation", "check_input", "check_network", "check_objective", "check_predictor"]

_BATCH = 6


def check_objective(
    kind: Any,
    *,
    options: Mapping[str, Any] = NO_OPTIONS,
    classes: int | None = 3,
    target: tuple[int, ...] = (),
) -> None:
    """Check that an objective returns a loss per sample that an agent can follow, and a metric where it has one.

    Policies (`a2c`, `ppo`, `reinforce`), whose losses are of windows, are refused.

    Args:
        kind: A registered name, a class, a function, or any object that can be called.
        options: Keyword arguments of its factory.
        classes: Of a categorical target; None: floats.
        target: Shape of one sample of the target.

    Raises:
        AssertionError: A part of the contract is broken; the message names it.
    """
    name = name_of(kind)
    require(
        name not in POLICY_FIELDS, f"{name}: a policy's losses are of windows, not of outputs and a target"
    )
    objective = made_or_refused(name, lambda: objective_of(kind, options))
    size = objective.size(target, classes)
    require(
        isinstance(size, int) and size > 0,
        f"{name}: size({target}, {classes}) is {size}, not a number of outputs",
    )
    for dtype in (torch.float64, torch.float32):
        output = some(_BATCH, size or 1, dtype=dtype)
        aim = some(_BATCH, *target, dtype=dtype, seed=1)
        if classes is not None:
            aim = torch.arange(_BATCH).remainder(classes).view(-1, *[1] * len(target)).expand(_BATCH, *target)
        losses = checked_call(name, objective.loss, output.requires_grad_(), aim)
        require(
            losses.dtype == dtype, f"{name}: the loss of {dtype} outputs is {losses.dtype}; keep the type"
        )
        require(bool(losses.isfinite().all()), f"{name}: the loss of ordinary outputs is not finite")
        require(
            losses.requires_grad, f"{name}: the loss has no graph; do not detach, round or take the argmax"
        )
        gradient = torch.autograd.grad(losses.sum(), output)[0]
        require(bool(gradient.isfinite().all()), f"{name}: the gradient of the loss is not finite")
        require(bool(gradient.any()), f"{name}: the gradient of the loss is zero everywhere")
        far = checked_call(name, objective.loss, 100 * constant(output), aim)
        require(
            bool(far.isfinite().all()),
            f"{name}: the loss of outputs of size 100 is not finite; use log_softmax and the like",
        )
        scores = checked_call(f"{name}: score", objective.score, constant(output), aim)
        require(bool(scores.isfinite().all()), f"{name}: the metric '{objective.metric}' is not finite")


def check_predictor(
    kind: Any,
    *,
    options: Mapping[str, Any] = NO_OPTIONS,
    message: int | tuple[int, ...] = 4,
    context: int = 3,
    sites: bool | None = None,
) -> None:
    """Check that a predictor of gradients can be trained, stacked, forked and resumed.

    Kinds with a loss of their own (`local`, `sobolev_label`, `lens`, `local_policy`) predict no returned gradient and are
    refused; a head is checked where it is used, by the scenario or the channel.

    Args:
        kind: A registered name, a factory called with `inputs` and `outputs`, or a module.
        options: More keyword arguments of the factory.
        message: Components of a message, or its axes.
        context: Components of the context.
        sites: As a channel's gradient has it: whether it is applied at every token or pixel.

    Raises:
        AssertionError: A part of the contract is broken; the message names it.
    """
    require(
        not issubclass(predictor_class(kind), LabelGradient) and not predictor_class(kind).needs_actions,
        f"{name_of(kind)}: its loss is its own, and no returned gradient is predicted; a scenario or a Channel checks "
        "its head",
    )
    shape = (message,) if isinstance(message, int) else message
    model = made_or_refused(
        name_of(kind), lambda: predictor_of(kind, options, shape, sites=sites, **_model_settings(context))
    )
    sent, seen = some(_BATCH, model.size), some(_BATCH, context)
    truth = _mapped(model, sent)
    example = Example(sent, seen, truth, loss=truth.sum(1))
    _check_model(
        name_of(kind), model, lambda: model.predict(example), lambda: model.gradients([example]), truth
    )


def check_input(
    kind: Any,
    *,
    options: Mapping[str, Any] = NO_OPTIONS,
    message: int | tuple[int, ...] = 4,
    context: int = 3,
    sites: bool | None = None,
) -> None:
    """Check that a predictor of messages can be trained, stacked, forked and resumed; arguments as of `check_predictor`."""
    shape = (message,) if isinstance(message, int) else message
    model = made_or_refused(
        name_of(kind), lambda: input_of(kind, options, shape, sites=sites, **_model_settings(context))
    )
    seen = some(_BATCH, context)
    truth = _mapped(model, seen)
    _check_model(
        name_of(kind),
        model,
        lambda: model.predict(seen, _BATCH),
        lambda: model.gradients([(seen, truth, None)]),
        truth,
    )


def _model_settings(context: int) -> dict[str, Any]:
    """Return what predictors of gradients and of messages are made with, beside kind and message."""
    return {
        "context": (ContextSpec("context", (context,)),),
        "generator": torch.Generator().manual_seed(0),
        "dtype": torch.float64,
        "optimiser": {"kind": "adam"},
        "rate": Rate(base=0.01, horizon=1),
    }


def _of_type(
    tensors: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]], dtype: torch.dtype
) -> dict[str, Tensor]:
    """Return tensors by name, those of floats in a type; detached from their graphs."""
    return {name: constant(t).to(dtype) if t.is_floating_point() else t for name, t in dict(tensors).items()}


def _check_unchanged(name: str, module: Any, before: Any) -> None:
    """Check that running a module has not changed its description."""
    same = description_of(module) == before
    require(same, f"{name}: it changes attributes of its own as it runs; use buffers")


def _mapped(model: Predictor | InputModel, given: Tensor) -> Tensor:
    """Return a truth that a linear model learns: of a whole message or context, or at each site."""
    if isinstance(model, SiteGradient):
        return model.sites.gradient(_map(model.sites.open(given), model.sites.features))
    if isinstance(model, SiteInput):
        rows = model.sites.context_rows(given)
        assert rows is not None
        return model.sites.close(_map(rows, model.sites.features))
    return _map(given, model.size)


def _map(given: Tensor, outputs: int) -> Tensor:
    return given @ some(given.shape[-1], outputs) + 0.5


def _check_model(
    name: str,
    model: Any,
    predict: Callable[[], Tensor],
    learn: Callable[[], tuple[Tensor, list[Tensor]]],
    truth: Tensor,
) -> None:
    module = getattr(model, "module", None)
    before = description_of(module)
    first, second = (checked_call(name, predict) for _ in range(2))
    require(first.shape == truth.shape, f"{name}: it predicts {list(first.shape)}, not {list(truth.shape)}")
    require(first.dtype == torch.float64, f"{name}: of float64 it makes {first.dtype}; keep the type")
    require(torch.equal(first, second), f"{name}: called twice, it gives different predictions")
    for _ in range(150):
        loss, gradients = checked_call(name, learn)
        finite = all(bool(t.isfinite().all()) for t in (loss, *gradients))
        require(finite, f"{name}: its loss or the gradient of its parameters is not finite")
        model.step(gradients, 0)
    require(bool(model.trainable), f"{name}: it has no parameters, so that nothing is learned")
    errors = [(found - truth).square().sum().item() for found in (first, constant(predict()))]
    nearer = errors[1] < 0.9 * errors[0]
    require(
        nearer,
        f"{name}: 150 steps bring its prediction no nearer to the truth ({errors[0]:.3g} to {errors[1]:.3g})",
    )
    _check_unchanged(name, module, before)


def check_aggregation(
    kind: Any, *, options: Mapping[str, Any] = NO_OPTIONS, senders: int = 3, size: int = 4
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
    module, _ = made_or_refused(
        name, lambda: aggregator_of(kind, options, senders=senders, size=size, seed=0)
    )
    before = description_of(module)
    one_each = torch.eye(senders)[torch.arange(_BATCH) % senders]
    for dtype in (torch.float64, torch.float32):
        parameters = _of_type(module.named_parameters(), dtype)
        buffers = _of_type(module.named_buffers(), dtype)
        messages = some(_BATCH, senders, size, dtype=dtype)
        for present in (torch.ones(_BATCH, senders), one_each, torch.zeros(_BATCH, senders)):
            there = present.to(dtype)
            inputs = (messages * there.unsqueeze(2)).flatten(1).requires_grad_()
            x = torch.cat([inputs, there], 1)
            first, second = (
                checked_call(name, partial(called, module, parameters, buffers, x))[0] for _ in range(2)
            )
            which = f"with {int(present.sum())} of {present.numel()} messages present"
            require(
                first.dtype == dtype, f"{name}: of {dtype} messages it makes {first.dtype}; keep the type"
            )
            require(bool(first.isfinite().all()), f"{name}: {which} it is not finite")
            require(torch.equal(first, second), f"{name}: called twice, it gives different numbers")
            if bool(present.all()):
                require(
                    first.requires_grad,
                    f"{name}: it has no graph, so that no sender would learn; do not detach",
                )
                reached = torch.autograd.grad(first.square().sum(), inputs, allow_unused=True)[0]
                finite = reached is not None and bool(reached.isfinite().all())
                require(finite, f"{name}: no finite gradient reaches the messages")
    given = some(_BATCH, senders, size, dtype=torch.float32)
    checked_call(name, module.aggregation, given, torch.ones(_BATCH, senders, dtype=torch.bool))
    _check_unchanged(name, module, before)


def check_network(
    source: Any, *, options: Mapping[str, Any] = NO_OPTIONS, inputs: int = 5, outputs: int = 4
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
    network = made_or_refused(name, lambda: ModuleNetwork(factory, (inputs,), heads, 0, options))
    before = description_of(network.module)
    for dtype, rows in ((torch.float64, _BATCH), (torch.float32, 2), (torch.float64, 1)):
        initial = _of_type(network.parameters(torch.Generator()), dtype)
        parameters = {k: p.requires_grad_() for k, p in initial.items()}
        buffers = _of_type(network.buffers(), dtype)
        x = some(rows, inputs, dtype=dtype).requires_grad_()
        state = some(rows, network.state_size, dtype=dtype) if network.state_size else None
        first, second = (
            checked_call(name, partial(network, parameters, buffers, x, training=False, state=state))[0]
            for _ in range(2)
        )
        require(
            all(t.dtype == dtype for t in first.values()),
            f"{name}: of {dtype} it makes another type; keep it",
        )
        same = all(torch.equal(first[port], second[port]) for port in first)
        require(
            same,
            f"{name}: in evaluation, called twice it gives different numbers; hand a state out, do not keep it",
        )
        finite = all(bool(t.isfinite().all()) for t in first.values())
        require(finite, f"{name}: of ordinary inputs it makes numbers that are not finite")
        total = sum(port.square().sum() for port in first.values())
        graph = isinstance(total, Tensor) and total.requires_grad
        require(graph, f"{name}: its output has no graph; do not detach")
        found = torch.autograd.grad(total, [x, *parameters.values()], allow_unused=True)
        require(found[0] is not None, f"{name}: no gradient passes through it to its inputs")
        unused = [k.partition(".")[2] for k, g in zip(parameters, found[1:], strict=True) if g is None]
        require(not unused, f"{name}: its output does not depend on its parameters {', '.join(unused)}")
    _check_unchanged(name, network.module, before)
