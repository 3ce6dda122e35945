"""`learn`: the gradients of one network of a loop, from its own loss and through its channels."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from antiphon.base.errors import ScenarioError, first_line, warn_caller
from antiphon.base.problems import show_value
from antiphon.comms.backward_requests import Gradients, Injection, backward, constant, gradients_of
from antiphon.comms.loop.channel_problems import ChannelProblems
from antiphon.comms.loop.finite import all_finite
from antiphon.comms.loop.gradients import add_gradients
from antiphon.comms.loop.loop_channel import Channel, transit_of
from antiphon.comms.loop.open_messages import SentMessage
from antiphon.comms.loop.transit import CHANGED, LEARNED, LEFT_OUT, NOT_FOLLOWED, Predicted, Transit
from antiphon.nets.isolation.own_context import own_context
from antiphon.nets.user_modules import check_followed

_NO_GRADIENT = (
    "needs no gradient, and nothing is learned from it; pass the loss itself, neither detached nor a number"
)


def learn(
    objective: Tensor | None,
    parameters: Iterable[Tensor],
    *,
    sent: Sequence[Channel] = (),
    received: Sequence[Channel] = (),
) -> None:
    """Add the gradients of one network to its parameters' `grad`, and record the returned gradients on its channels.

    The network follows its objective plus `scale` times the predicted gradients of the messages it sent; the gradients
    returned on the messages it received count these predictions with `discount`. Parameters are not updated: take a step
    of any optimiser after `learn` of all networks.

    A gradient returns for the messages that the objective (or what the network sent) depends on, also if the sender has sent
    others since. If it depends on none of a channel, those received are given a gradient of zero as soon as the loop holds none
    of them any more.

    A batch whose objective or gradient is not finite is left out with a warning: `grad` stays as it was, and nothing returns for its
    messages. A message is left out alone if it, its predicted or its returned gradient is not finite. One that was received, and that
    the loop has dropped without a `learn`, is forgotten.

    Args:
        objective: The network's loss: the mean over its B samples, a scalar, or the loss of each sample, [B], whose mean
            is followed (a critic on a received channel learns from each); None if the network has no loss of its own. One
            that needs no gradient is an error without channels; with them a gradient of zero, and a warning.
        parameters: Gradients of several calls add up in their `grad` until `zero_grad`. A gradient that a step has used is
            replaced: after a step of an optimiser, another change in place, or the `learn` of a channel in `sent`. A parameter
            that no gradient reaches is left as after `zero_grad`, or as it was. Those that do not require a gradient are ignored.
        sent: The channels on which the network has sent since its last `learn`.
        received: The channels on which it has received.

    Raises:
        ScenarioError: The objective has another shape, or is a mean although a critic learns from it; it depends on a message
            that the predictor has learned from; its graph is no longer there; or a locked channel is not in both `sent` and
            `received`.
    """
    outgoing, incoming = _in_transit(sent, received)
    undefined = {transit: transit.forget_left_out() for transit in outgoing}
    uses = {transit: transit.received() for transit in incoming}
    injections = [(transit, p.injection, p.version) for transit in outgoing for p in transit.injections]
    rows = {len(injection.output) for _, injection, _ in injections}
    rows |= {len(leaf) for messages in uses.values() for _, leaf in messages}
    _check_objective(objective, rows)
    for transit, injection, version in injections:
        if injection.output._version != version:
            raise transit.problems.error(CHANGED)
    losses = {
        transit: _losses(transit, objective, outgoing, messages)
        for transit, messages in uses.items()
        if messages
    }
    trainable = _trainable(parameters)
    _check_parameters(objective, trainable, outgoing, incoming)
    learned = [(transit, leaf) for transit in incoming for leaf in transit.learned()]
    leaves = [leaf for messages in uses.values() for _, leaf in messages]
    with own_context():
        gradients, returned = _backward(
            objective,
            [injection for _, injection, _ in injections],
            trainable,
            [*leaves, *(t for _, t in learned)],
            [p.injection.output for removed in undefined.values() for p in removed],
        )
    for (transit, _), late in zip(learned, returned[len(leaves) :], strict=True):
        if late is not None:
            raise transit.problems.error(LEARNED)
    for transit, removed in undefined.items():
        if removed:
            transit.leave_out([p.sent for p in removed])
    gradients = _book_finite(objective, gradients, returned, uses, losses, [*outgoing, *incoming], undefined)
    with own_context():
        add_gradients(trainable, gradients, [transit.step for transit in outgoing])
    for transit in outgoing:
        transit.end_sender_step()
    for transit in incoming:
        transit.receiver_learned = True


def _in_transit(sent: Sequence[Channel], received: Sequence[Channel]) -> tuple[list[Transit], list[Transit]]:
    """Return what is under way on the channels that a network sends and receives on, once these arguments are checked."""
    sent, received = _channels("sent", sent), _channels("received", received)
    for channel in dict.fromkeys([*sent, *received]):
        if channel.coupling.joins_endpoints and not (channel in sent and channel in received):
            raise ChannelProblems(channel.name).error(
                "it is locked, so its ends learn as one network; pass it in both sent and received of one learn call, "
                "with the parameters of both"
            )
    outgoing = [*map(transit_of, sent)]
    for transit in outgoing:
        if transit.newest is None:
            raise transit.problems.error(
                "learn: it is in sent=, but no message has been sent; call send before comms.learn"
            )
    return outgoing, [*map(transit_of, received)]


def _channels(role: str, channels: Sequence[Channel]) -> list[Channel]:
    if isinstance(channels, Channel) or any(not isinstance(channel, Channel) for channel in channels):
        raise ScenarioError(f"learn: {role} is not a list of channels; write {role}=[channel]")
    return list(dict.fromkeys(channels))


def _trainable(parameters: Iterable[Tensor]) -> list[Tensor]:
    tensors = None if isinstance(parameters, Tensor | torch.nn.Module) else list(parameters)
    if tensors is None or any(not isinstance(p, Tensor) for p in tensors):
        raise ScenarioError("learn: parameters are not a list of tensors; write network.parameters()")
    if not tensors and isinstance(parameters, Iterator):
        raise ScenarioError(
            "learn: parameters are an iterator without parameters (left), as network.parameters() is after its first use; write "
            "network.parameters() in every call, or make a list of it once"
        )
    return [p for p in dict.fromkeys(tensors) if p.requires_grad]


def _check_parameters(
    objective: Tensor | None,
    parameters: Sequence[Tensor],
    outgoing: Sequence[Transit],
    incoming: Sequence[Transit],
) -> None:
    """Warn if the parameters are not of the network that sends or that computes the objective, when a channel learns first.

    Raises:
        ScenarioError: A checkpoint hides parameters of one; there is no channel, and an objective without a gradient.
    """
    if parameters and objective is not None and not (outgoing or incoming or objective.requires_grad):
        raise ScenarioError(f"learn: the objective {_NO_GRADIENT}")
    parameter_ids = {id(parameter) for parameter in parameters}
    for transit in outgoing if objective is None and parameters else ():
        if transit.predictor is not None and transit.newest is not None and not transit.injected:
            transit.problems.warn(
                f"learn: no message has needed a gradient, and {NOT_FOLLOWED}", kind="not followed"
            )
    for transit in outgoing:
        messages = [predicted.injection.output for predicted in transit.injections]
        for message in [] if transit.sender_learned else messages:
            check_followed("learn: the sender", message)
        if messages and not transit.sender_learned and not parameter_ids & _sources(messages, parameters):
            transit.problems.warn(
                "learn: its messages depend on none of the parameters that were passed, and its sender learns nothing from it; "
                "pass the sender's parameters, or leave the channel out of sent="
            )
    first = [t for t in outgoing if not t.sender_learned] + [t for t in incoming if not t.receiver_learned]
    if not first or not parameter_ids or objective is None:
        return
    if any(transit.predictor is not None and transit.predictor.needs_loss for transit in incoming):
        return  # a critic learns from a loss without a gradient too
    check_followed("learn: a network", objective)
    leaves = [leaf for transit in dict.fromkeys([*outgoing, *incoming]) for _, leaf in transit.received()]
    sources = _sources([objective], [*parameters, *leaves])
    if not sources:
        problem = _NO_GRADIENT
    elif not sources & parameter_ids and sources - {id(leaf) for leaf in leaves}:
        problem = (
            "depends on parameters, but on none that were passed; pass those of the network that computes it, or [] to return "
            "gradients alone"
        )
    else:
        return
    first[0].problems.warn(f"learn: the objective {problem}", kind="returned")


def _sources(results: Sequence[Tensor], tensors: Sequence[Tensor]) -> set[int]:
    """The identities of the tensors that the gradients of some results reach: leaves, and those given that are results themselves."""
    named = {tensor.grad_fn: id(tensor) for tensor in tensors if tensor.grad_fn is not None}
    sources = {id(result) for result in results if result.grad_fn is None and result.requires_grad}
    nodes, seen = [result.grad_fn for result in results], set[Any]()
    while nodes:
        node = nodes.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        source = named.get(node, id(getattr(node, "variable", None)))
        if source != id(None):
            sources.add(source)
        nodes += [earlier for earlier, _ in node.next_functions]
    return sources


def _check_objective(objective: Tensor | None, rows: set[int]) -> None:
    """Check the shape and type of an objective; `rows`: the batch sizes of its channels."""
    if objective is None:
        return
    if not isinstance(objective, Tensor) or not objective.is_floating_point():
        found = (
            f"is {objective.dtype}"
            if isinstance(objective, Tensor)
            else f"is no tensor: {show_value(objective)}"
        )
        raise ScenarioError(f"learn: the objective {found}; pass a tensor of floats, or None")
    if not objective.requires_grad and not torch.is_grad_enabled():
        raise ScenarioError(
            "learn: the objective was computed under torch.no_grad() and has no gradient; compute it outside"
        )
    if objective.numel() != 1:
        if objective.dim() != 1:
            raise ScenarioError(
                f"learn: the objective is {list(objective.shape)}; pass its mean over the batch, or one loss per sample"
            )
        if rows and len(objective) not in rows:
            raise ScenarioError(
                f"learn: the objective has {len(objective)} samples, but the channels carry batches of {max(rows)}; "
                "pass one loss per sample"
            )


def _book_finite(
    objective: Tensor | None,
    gradients: Gradients,
    returned: Gradients,
    uses: Mapping[Transit, Sequence[tuple[SentMessage, Tensor]]],
    losses: Mapping[Transit, Tensor | None],
    transits: Sequence[Transit],
    undefined: Mapping[Transit, Sequence[Predicted]],
) -> Gradients:
    """Record the returned gradients, in the order of `uses`, and return those of the parameters, None each if the batch is left out.

    A batch is left out, with a warning, if its objective or a gradient of a parameter is not finite; and a message whose returned
    gradient is not.
    """
    with own_context():
        sound = all_finite([objective, *gradients, *returned, *losses.values()])
        batch_sound = sound or all_finite([objective, *gradients])
    if not batch_sound:
        _warn_of_batch(objective, uses, transits)
    for transit, removed in undefined.items():
        if removed:
            transit.warn_left_out(f"{removed[0].sent.undefined} is not finite")
    back = iter(returned)
    for transit, messages in uses.items():
        pairs = [(sent, next(back)) for sent, _ in messages]
        left_out = [
            sent
            for sent, gradient in pairs
            if gradient is not None
            and not (sound or (batch_sound and all_finite([gradient, losses.get(transit)])))
        ]
        if left_out:
            transit.leave_out(left_out)
            pairs = [
                (sent, gradient) for sent, gradient in pairs if not (gradient is None or sent in left_out)
            ]
        if left_out and batch_sound and not any(undefined.values()):
            transit.warn_left_out("learn: a returned gradient, or a loss, is not finite")
        if batch_sound:
            transit.book([sent for sent, _ in pairs], [g for _, g in pairs], losses.get(transit))
    return gradients if batch_sound else [None] * len(gradients)


def _warn_of_batch(
    objective: Tensor | None,
    uses: Mapping[Transit, Sequence[tuple[SentMessage, Tensor]]],
    transits: Sequence[Transit],
) -> None:
    """Warn that an objective or its gradients are not finite, and name the message if one is not."""
    found = (
        (t, where.flatten(1).any(1).nonzero())
        for t, messages in uses.items()
        for _, leaf in messages
        if (where := ~leaf.isfinite()).any()
    )
    transit, rows = next(found, (next(iter(transits), None), None))
    if objective is None or all_finite([objective]):
        problem = "learn: a gradient of the parameters is not finite"
    else:
        message = "" if rows is None else f"a message is not finite (row {int(rows[0])}): "
        problem = f"learn: {message}the objective is not finite"
    if transit is None:
        warn_caller(f"comms.{problem}; {LEFT_OUT}")
    else:
        transit.warn_left_out(problem, LEFT_OUT)


def _backward(
    objective: Tensor | None,
    injections: Sequence[Injection],
    parameters: Sequence[Tensor],
    leaves: Sequence[Tensor],
    undefined: Sequence[Tensor],
) -> tuple[Gradients, Gradients]:
    """Return the gradients of the parameters and of the leaves, dL/dleaf: nan of leaves that an `undefined` message depends on."""
    mean = None if objective is None else objective.mean()
    # a message that is injected without a factor depends on the leaves no less
    silent = [i.output for i in injections if not i.discount]
    try:
        zeros = gradients_of([(m, torch.zeros_like(m)) for m in silent], leaves, retain=True)
        reached = gradients_of([(m, torch.zeros_like(m)) for m in undefined], leaves, retain=True)
        gradients, returned = backward(mean, injections, parameters, leaves, 1)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ScenarioError(f"learn: {_explained(first_line(error))}") from error
    returned = [zero if back is None else back for back, zero in zip(returned, zeros, strict=True)]
    for place, gradient in enumerate(reached):
        if gradient is not None:
            returned[place] = torch.full_like(gradient, math.nan)
    return gradients, returned


def _explained(problem: str) -> str:
    """What an error of torch's backward pass means in a loop with channels."""
    if "second time" in problem or "freed" in problem:
        return (
            "the graph of the objective or of a sent message was used by an earlier learn or backward; add up the losses that "
            "share a graph, and pass their sum to one learn"
        )
    if "inplace" in problem:
        return (
            "a parameter or tensor was changed in place between the forward pass and learn; call comms.learn before the "
            "optimiser's step"
        )
    return f"the backward pass fails: {problem}"


def _losses(
    transit: Transit,
    objective: Tensor | None,
    outgoing: Sequence[Transit],
    messages: Sequence[tuple[SentMessage, Tensor]],
) -> Tensor | None:
    """Target of a critic on a channel, [B]: the receiver's losses plus its own critics' values."""
    if transit.predictor is None or not transit.predictor.needs_loss:
        return None
    rows = {len(leaf) for _, leaf in messages}
    expected = [value for sending in outgoing for _, value in sending.expected_losses]
    if objective is not None:
        if objective.numel() not in rows:
            raise transit.problems.error(
                f"its critic learns the receiver's loss of each sample; pass learn an "
                f"objective [{max(rows)}], not its mean"
            )
        expected.append(constant(objective).view(-1))
    if len({len(value) for value in expected}) > 1:
        raise transit.problems.error(
            f"its critic adds up losses of batches of {sorted({len(v) for v in expected})} samples; "
            "use one batch size"
        )
    return torch.stack(expected).sum(0) if expected else messages[-1][1].new_zeros(max(rows))
