"""Training of synthetic gradients and synthetic inputs, and what they are conditioned on (rules 6, 8, 9, 11, 23, 25)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from antiphon.comms.backward_requests import constant
from antiphon.comms.examples import Example, encode
from antiphon.comms.synthetic_gradients import newest_returned
from antiphon.engine.heart.message import LearningGroup, Message, Window
from antiphon.engine.heart.updates import InputUpdate, PredictorUpdate
from antiphon.engine.reference.ledger import mask_fill_zero
from antiphon.engine.reference.state import State

if TYPE_CHECKING:
    from antiphon.comms.model import Model
    from antiphon.engine.heart.agent import Agent
    from antiphon.engine.heart.channel import Channel


def injects(state: State, channel: Channel) -> bool:
    """Return whether a channel's synthetic gradient is put on its messages."""
    able = channel.predictor is not None and not channel.predictor_disabled
    return able and channel.apply and bool(channel.scale.base or channel.discount)


def synthetic_gradient(state: State, window: Window, channel: Channel, message: Message) -> Tensor | None:
    """Return SG(m, c) of a message of a window, [B, size] per sample; None where nothing is injected (rules 5, 7, 20)."""
    if message.unread or message.no_injection is True or not injects(state, channel):
        return None
    example = example_of(state, channel, message, answered=False)
    if channel.predictor is None or not state.participates(channel.sender, window.number):
        return None
    if example is None:  # of `local_policy`, before anything has come back, it is zero
        return channel.zeros if channel.needs_actions else None
    predicted = constant(channel.predictor.predict(example))
    # Without a target a predictor has no loss of its own, and no slope.
    return predicted if example.valid is None else mask_fill_zero(example.valid, predicted)


def critic_value(state: State, channel: Channel, message: Message) -> Tensor | None:
    """Return the loss that a channel's critic expects beyond a message, [B], times `discount` (rules 3, 9)."""
    predictor = channel.predictor
    if predictor is None or not predictor.needs_loss or channel.predictor_disabled:
        return None
    example = example_of(state, channel, message, answered=False)
    if example is None or message.unread or message.no_injection is True:
        return None
    silent = state.ledgers[channel.name].mask(message.no_injection)
    return mask_fill_zero(~silent, channel.discount * constant(predictor.value(example)))


def example_of(state: State, channel: Channel, message: Message, *, answered: bool) -> Example | None:
    """Return what a predictor reads of a message, if `answered` with what has come back; None: its signals are absent."""
    signals, predictor, ledger = message.step_signals.signals, channel.predictor, state.ledgers[channel.name]
    if any(spec.name not in signals for spec in channel.context):
        return None
    if channel.target is not None and channel.target not in signals:
        return None
    if channel.needs_actions and not message.actions:
        return None
    context = context_of(state, channel, message, message.first_use, False)
    example = Example(message.sent, context, None)
    if channel.needs_actions:
        example.actions = tuple(message.actions)
    if answered and ledger.wants_gradient:
        example.delta, example.loss, example.valid = (
            message.gradient,
            message.loss,
            ledger.mask(message.counted),
        )
        if example.loss is None and predictor is not None and predictor.needs_loss:
            example.loss = torch.zeros_like(message.sent[:, 0])  # nothing is lost after an end (rule 20)
        if channel.needs_actions:
            example.valid = torch.stack([one.valid for one in message.actions]).any(0)
    if channel.target is not None:
        example.target, present = signals[channel.target], signals.get(f"_{channel.target}")
        if present is not None:
            example.target = mask_fill_zero(present, example.target)
            example.valid = present if example.valid is None else present & example.valid
    return example


def gradient_updates(
    state: State,
    closed: Sequence[tuple[LearningGroup, Window]],
    returns: Mapping[str, list[Message]],
    step: int,
    *,
    watch: bool,
) -> dict[str, PredictorUpdate]:
    """Compute the training step of every synthetic gradient that something reached at `step` (rules 6, 7)."""
    updates: dict[str, PredictorUpdate] = {}
    for name, channel in state.channels.items():
        messages = state.ledgers[name].take(step)
        if channel.predictor is None or channel.predictor.frozen or channel.predictor_disabled:
            continue
        if channel.traced:  # what was consumed waits for its return, an episode's last state does not
            messages = [r for r in messages if r.unread or r.no_injection is True] + returns.get(name, [])
        answered = [_returned_example(state, channel, message, step) for message in messages]
        examples = [example for example in answered if example is not None]
        if not state.ledgers[name].wants_gradient:
            examples = _local_examples(state, channel, closed)
        if examples:
            losses = [channel.predictor.loss(example) for example in examples]
            updates[name] = PredictorUpdate(examples, *_learned(channel.predictor, losses), None)
            if watch:
                updates[name].prediction = constant(channel.predictor.predict(newest_returned(examples)))
    return _sound(state, updates, step)


def _local_examples(
    state: State, channel: Channel, closed: Sequence[tuple[LearningGroup, Window]]
) -> list[Example]:
    """Examples of a predictor to which nothing is returned: it learns when its sender does (rule 9)."""
    found = []
    for window in (window for _, window in closed if state.participates(channel.sender, window.number)):
        for message in (message for name, message in window.sent if name == channel.name):
            valid = ~state.ledgers[channel.name].mask(message.no_injection)
            example = example_of(state, channel, message, answered=True)
            if example is not None and valid.any() and not message.unread:
                example.valid = valid if example.valid is None else valid & example.valid
                found.append(example)
    return found


def input_updates(state: State, step: int) -> dict[str, InputUpdate]:
    """Compute the training step of every synthetic input that a real message reached at `step` (rules 6, 18)."""
    updates: dict[str, InputUpdate] = {}
    for name, channel in state.channels.items():
        examples = state.input_examples.pop(name, [])
        if channel.input is not None and examples and not channel.input.frozen:
            losses = [channel.input.loss(example) for example in examples]
            updates[name] = InputUpdate(*_learned(channel.input, losses))
    return _sound(state, updates, step)


def _learned(model: Model, losses: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
    """The sum of the losses, and its gradients."""
    loss = torch.stack(losses).sum()
    return constant(loss), list(torch.autograd.grad(loss, model.trainable))


_Learned = TypeVar("_Learned", PredictorUpdate, InputUpdate)


def _sound(state: State, updates: dict[str, _Learned], step: int) -> dict[str, _Learned]:
    """The updates that have not diverged; the others' predictors are disabled (rule 32)."""
    wrong = {name: state.divergence_of(update.gradients, [update.loss]) for name, update in updates.items()}
    for channel in (state.channels[name] for name in updates if wrong[name]):
        who, kind, what = channel.sender, "gradient", "its learning rate, or that of its synthetic gradients"
        disable = channel.disable_predictors
        if isinstance(updates[channel.name], InputUpdate):
            who, kind, what = channel.receiver, "input", "the learning rate of the synthetic input"
            disable = channel.disable_input_models
        line = f"agent '{who}': the loss of the synthetic {kind} of its channel {channel.name} at step {step}"
        state.report(step, f"{line} {wrong[channel.name]}; lower {what}")
        disable([0])
    return {name: update for name, update in updates.items() if not wrong[name]}


def _returned_example(state: State, channel: Channel, message: Message, step: int) -> Example | None:
    """The example of a message whose gradient has come back; one out of all proportion is clipped (states only)."""
    if channel.outliers is not None and message.gradient is not None:
        before = channel.outliers.clip_count
        state.ledgers[channel.name].replace_gradient(message, channel.outliers.clip(message.gradient))
        if channel.outliers.clip_count and not before:
            line = f"channel {channel.name}: a gradient came back more than ten times as long as the median; it is "
            state.system.divergence.events.append((step, line + "shortened, as all such will be"))
    example = example_of(state, channel, message, answered=True)
    nothing = (
        channel.needs_actions and example is not None and not any(a.valid.any() for a in message.actions)
    )
    return None if nothing else example


def context_of(
    state: State, channel: Channel, message: Message, tick: int | None, far: bool
) -> Tensor | None:
    """Return the context of a message's synthetic gradient, or if `far` of its input, used at `tick`: [B, features]."""
    system, ledger = state.system, state.ledgers[channel.name]
    signals, ends = channel.context, channel.ends
    if far:
        signals, ends = channel.input_context, channel.input_ends
    encoded = encode(signals, message.step_signals.signals, system.dtype)
    columns = [] if encoded is None else [encoded]
    for end in ends:
        agent = state.agents[channel.sender if end.startswith("from") else channel.receiver]
        prior, stamps = channel.zeros, ledger.nowhere.long() - 1
        held = ledger.shared.held
        if held is not None and held.prior is not None and held.prior_stamp is not None:
            prior, stamps = held.prior, held.prior_stamp
        if end == "returned":
            column = channel.zeros if message.returned is None else message.returned
        elif end == "held":  # the newest message that arrived before the due one
            column = mask_fill_zero(stamps >= 0, prior)
        elif end == "age":  # steps from that message to the due one
            column = mask_fill_zero(stamps >= 0, message.stamp - stamps).to(system.dtype).unsqueeze(1)
        elif end.endswith("state"):  # zeros before its first tick
            zeros = channel.zeros.new_zeros(state.batch, agent.learner.network.state_size)
            column = message.states.get(end, zeros)
        else:
            column = _phase(state, agent, message.stamp if end == "from.phase" else tick, message.began)
        columns.append(column)
    return torch.cat(columns, 1) if columns else None


def _phase(state: State, agent: Agent, tick: int | None, episode_start: int) -> Tensor:
    """[B, ticks of a window]: which tick of its window an agent is at, one-hot; zeros where it never ticks."""
    windows = state.group_of[agent.name].windows
    at = None if tick is None else windows.position(tick, agent.clock, episode_start)
    row = [float(i == at) for i in range(windows.ticks(agent.clock))]
    one_hot = torch.tensor(row, dtype=state.system.dtype, device=state.system.device)
    return one_hot.expand(state.batch, len(row))
