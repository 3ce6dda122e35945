"""Backward pass of one window: what its group's parameters follow, and what goes back to its senders (rules 2, 3, 7-12).

The learning signal of a message is injected by a surrogate loss. With m the messages of the window, c_j what is credited
to message j (a synthetic gradient, or the returned one of a `delayed` channel), a group's parameters follow

    sum_t objective(t) + sum_j scale_j <m_j, stopgrad(c_j)> / B + auxiliary,

and the gradients at what it received follow the same sum with `discount` for `scale`, without the auxiliary task.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from antiphon.agents.network import AUXILIARY_PORT, Tensors
from antiphon.comms.backward_requests import clipped
from antiphon.comms.synthetic_gradients import ReturnedAction
from antiphon.engine.reference.forward import replay
from antiphon.engine.reference.ledger import mask_fill_zero
from antiphon.engine.reference.losses import objective_error, window_loss
from antiphon.engine.reference.predictors import critic_value, example_of, injects, synthetic_gradient
from antiphon.engine.reference.records import (
    Closed,
    Consumption,
    GroupUpdate,
    Injection,
    LearningGroup,
    MessageRecord,
    Returns,
    Tape,
)
from antiphon.engine.reference.state import State

if TYPE_CHECKING:
    from antiphon.engine.core.channel import Channel


def window_update(state: State, group: LearningGroup, tape: Tape, step: int) -> GroupUpdate | None:
    """Differentiate a window and enter in the ledgers what goes back (rules 2, 4); None: it has diverged (rule 32)."""
    batch, update = state.batch, GroupUpdate(group, tape.window, window_loss(state, tape))
    injections = _injections(state, tape, step, update.injected)
    # Rule 7: who does not participate has no update. Tied agents participate together (rule 27a).
    learners = [name for name in group.owners if state.participates(name, tape.window)]
    parameters = [p for name in learners for p in state.agents[name].learner.trainable]
    consumed = {e.use: e.channel for _, tick in tape.ticks() for e in tick.consumed if e.use is not None}
    leaves = [use.leaf for use in consumed if use.leaf.requires_grad]
    auxiliary = _auxiliary_losses(state, group, tape)
    objectives = [] if update.loss.total is None else [update.loss.total]
    own = _grad([*objectives, *auxiliary, *(_term(i, i.scale, batch) for i in injections)], parameters)
    back = _grad([*objectives, *(_term(i, i.discount, batch) for i in injections)], leaves)  # rules 3, 12
    deltas = [None if g is None else g * batch for g in back]  # rule 1: per sample
    wrong = state.divergence_of(own, deltas)
    lost = state.divergence_of([], [loss.reported for loss in update.loss.agents.values()])
    if wrong or lost:
        state.stop(group, step, f"the {'gradient' if wrong else 'loss'} at step {step} {wrong or lost}")
        return None
    rest = iter(own)
    for name in learners:  # rule 27a: tied agents follow the mean of their gradients
        found = [next(rest) for _ in state.agents[name].learner.trainable]
        update.gradients[name] = [None if g is None else g / group.owners[name] for g in found]
    returning = iter(deltas)
    for use, channel in consumed.items():
        state.ledgers[channel].add_gradient(use, next(returning) if use.leaf.requires_grad else None)
    _return_losses(state, tape, update, consumed)
    _return_actions(state, update)
    return update


def _term(injection: Injection, weight: float, batch: int) -> Tensor:
    """weight <m, stopgrad(c)> / B of one message; without a graph where the weight is zero, so that nothing follows."""
    if not weight:
        return torch.zeros(())
    return weight * (injection.output.flatten(1) * injection.gradient).sum() / batch


def _grad(terms: list[Tensor], inputs: list[Tensor]) -> list[Tensor | None]:
    """Gradients of the sum of the terms that have a graph; None where nothing depends on an input."""
    followed = [term for term in terms if term.requires_grad]
    if not followed or not inputs:
        return [None] * len(inputs)
    total = torch.stack(followed).sum()
    return list(torch.autograd.grad(total, inputs, retain_graph=True, allow_unused=True))


def _return_losses(state: State, tape: Tape, update: GroupUpdate, consumed: dict[Consumption, str]) -> None:
    """Return the window's losses, and those expected beyond its own messages, to critics of what it used (rule 9)."""
    loss = state.system.nothing
    for agent in update.loss.agents.values():
        loss = loss + agent.samples
    for name, record in tape.sent:
        beyond = critic_value(state, state.channels[name], record)
        loss = loss if beyond is None else loss + beyond
    for name in dict.fromkeys(consumed.values()):
        predictor = state.channels[name].predictor
        if predictor is not None and predictor.needs_loss:
            state.ledgers[name].add_loss([use for use in consumed if consumed[use] == name], loss)


def _return_actions(state: State, update: GroupUpdate) -> None:
    """Return what policies did at the ticks that used a message, and with what advantage, to `local_policy` (rule 9)."""
    for name, loss in update.loss.agents.items():
        goal, policy = state.agents[name].goal, loss.policy
        if goal is None or policy is None or policy.trajectory.actions is None:
            continue
        advantages = policy.advantages.weighted() * goal.weight
        for t, tick in enumerate(policy.ticks):
            for use in (e.use for e in tick.reads if e.use and state.channels[e.channel].needs_actions):
                valid = policy.advantages.valid[t] & use.counts
                advantage = mask_fill_zero(valid, advantages[t])
                use.record.actions.append(ReturnedAction(policy.trajectory.actions[t], advantage, valid))


def _injections(state: State, tape: Tape, step: int, injected: dict[str, Tensor]) -> list[Injection]:
    """What is put on the messages sent in a window; synthetic gradients are noted in `injected`."""
    found = []
    for name, record in tape.sent:
        channel = state.channels[name]
        if record.unread or name in tape.given_up or not state.participates(channel.sender, tape.window):
            continue
        output = tape.outputs[name, record.stamp]
        credit = _credit(state, tape, channel, record)
        if credit is not None and channel.coupling == "delayed":
            found.append(Injection(output, credit))
        elif credit is not None:
            shown = credit if name not in injected or not channel.needs_actions else injected[name]
            injected[name] = torch.where(credit.any(1, keepdim=True), credit, shown)
            found.append(Injection(output, credit, channel.scale(step), channel.discount))
        if channel.direct is not None:  # rule 10: an objective's errors at ticks since, carried straight back
            own = [(at, tick) for at, tick in tape.ticks() if tick.agent == channel.error_of]
            errors = [objective_error(state, tick) for at, tick in own if at >= record.stamp]
            found += [Injection(output, channel.direct.signal(e)) for e in errors if e is not None]
    return found


def _credit(state: State, tape: Tape, channel: Channel, record: MessageRecord) -> Tensor | None:
    """What a message is credited with, [B, size] per sample; None: nothing, not even a zero gradient."""
    if channel.coupling == "delayed":  # rule 27b: the gradient that has come back itself
        credit = record.delta if record.complete and not record.no_injection.all() else None
    else:
        credit = synthetic_gradient(state, tape, channel, record)
        if credit is not None and mixes(state, channel):  # rule 11: with what has just come back
            delta = channel.zeros if record.delta is None else record.delta
            credit = torch.lerp(credit, delta, channel.trace) if channel.trace else credit
            example = example_of(state, channel, record, answered=True)
            if channel.propagate and channel.predictor is not None and example is not None:
                example.delta = delta
                credit = credit + channel.propagate * channel.predictor.propagated(example)
        if credit is not None and channel.clip is not None:
            credit = clipped(credit, channel.clip)
    return None if credit is None else mask_fill_zero(~record.no_injection, credit)


def mixes(state: State, channel: Channel) -> bool:
    """Return whether what is injected on a channel contains what comes back at the same step (rule 11)."""
    mixed = channel.trace or channel.propagate or channel.needs_actions
    return injects(state, channel) and not channel.state and bool(mixed)


def depth(state: State, group: LearningGroup) -> int:
    """Return after how many other groups a group is differentiated: where channels mix, receivers first (rule 11)."""
    mixing = [c for c in state.channels.values() if state.group_of[c.sender] is group and mixes(state, c)]
    return max((1 + depth(state, state.group_of[channel.receiver]) for channel in mixing), default=0)


def _auxiliary_losses(state: State, group: LearningGroup, tape: Tape) -> list[Tensor]:
    """Heads after a window's first tick regress the synthetic gradient of the state at its end (rule 12)."""
    losses = []
    for name in group.members:
        channel, first = state.agents[name].memory, tape.first_tick(name)
        if channel is None or not channel.auxiliary or not injects(state, channel):
            continue
        last = tape.last_sent(channel.name)
        if first is None or last is None or not first.participates:
            continue
        target: Tensor | None = channel.zeros  # where nothing follows
        if not last.no_injection.all():
            target = synthetic_gradient(state, tape, channel, last)
        if target is not None:
            error = first.ports[AUXILIARY_PORT] - mask_fill_zero(~last.no_injection, target)
            losses.append(channel.auxiliary * error.square().sum() / state.batch)
    return losses


def waits(state: State, tape: Tape, age: int, step: int) -> bool:
    """Return whether a window, `age` windows old, waits for `delayed` gradients, given up after `staleness` (27b)."""
    missing = set()
    for name, record in tape.sent:
        channel = state.channels[name]
        within = state.group_of[channel.sender] is state.group_of[channel.receiver]
        if channel.coupling == "delayed" and not record.unread and not within:
            back = state.ledgers[name].back if record.complete else 0
            if record.finished is None or record.finished >= step or record.finished + back > step:
                missing.add(name)
    tape.given_up |= {name for name in missing if age >= state.channels[name].staleness}
    return any(age <= state.channels[name].staleness for name in missing | tape.given_up)


def contributes(state: State, group: LearningGroup, tape: Tape) -> bool:
    """Return whether anything but given up gradients can reach a window: an objective, or another channel."""
    others = [state.channels[name].coupling for name, _ in tape.sent if name not in tape.given_up]
    objective = any(state.agents[name].goal is not None for name in group.members)
    return not tape.given_up or objective or bool({"decoupled", "unlocked", "delayed"} & set(others))


def lambda_returns(state: State, closed: Closed, step: int) -> Returns:
    """Return the records of states whose return over K windows is known with the windows just closed.

    With g_j the gradient of window j's losses by the state it starts from, J_j the Jacobian of the state it ends with
    and SG_j the synthetic gradient of that state, the return of the state that window j starts from is

        G_j = g_j + discount J_j^T [(1 - trace) SG_(j+1) + trace G_(j+1)],

    where beyond the newest window G is SG itself. Windows are replayed with the parameters of now.
    """
    found = Returns()
    for group, tape in closed:
        memories = [c for name in group.members if (c := state.agents[name].memory) is not None]
        traced = [channel for channel in memories if channel.traced]
        if not traced or not any(state.participates(name, tape.window) for name in group.members):
            continue
        if group.past and group.past[-1].window + 1 != tape.window:
            group.past.clear()  # no gradient passes through a window that is missing
        group.past = [*group.past, tape][-max(channel.span for channel in traced) :]
        for channel in traced:
            tapes = group.past[-channel.span :]
            use = tapes[0].start_of(channel.sender)
            if len(tapes) == channel.span and use is not None and use.record.counts.any():
                # Zero where an episode ended before: its last state is an example of that already.
                delta = mask_fill_zero(use.counts, _return(state, tapes, memories, channel, step))
                state.ledgers[channel.name].replace_gradient(use.record, delta)
                found.setdefault(channel.name, []).append(use.record)
    return found


def _return(state: State, tapes: list[Tape], memories: list[Channel], channel: Channel, step: int) -> Tensor:
    """[B, state size]: the return of the state that the oldest of `tapes` starts from."""
    batch, returns = state.batch, Tensors()
    for tape in reversed(tapes):
        replay(state, tape)
        terms = [_term(i, i.discount, batch) for i in _injections(state, tape, step, {})]
        leaves = {}
        for memory in memories:
            use, last = tape.start_of(memory.sender), tape.last_sent(memory.name)
            if use is not None and use.leaf.requires_grad:
                leaves[memory.name] = use.leaf
            predicted = None if last is None else synthetic_gradient(state, tape, memory, last)
            if last is not None and predicted is not None and memory.traced and memory.name in returns:
                # trace (G - SG) beside the SG that is injected anyway
                predicted = predicted if memory.clip is None else clipped(predicted, memory.clip)
                beyond = mask_fill_zero(~last.no_injection, memory.trace * (returns[memory.name] - predicted))
                injection = Injection(tape.outputs[memory.name, last.stamp], beyond)
                terms.append(_term(injection, memory.discount, batch))
        loss = window_loss(state, tape).total
        deltas = _grad(terms if loss is None else [loss, *terms], list(leaves.values()))
        returns = {n: d * batch for n, d in zip(leaves, deltas, strict=True) if d is not None}
        tape.release()
    return returns.get(channel.name, torch.zeros_like(channel.zeros))
