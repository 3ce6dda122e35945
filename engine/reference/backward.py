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
from antiphon.comms.backward_requests import Injection, clipped
from antiphon.comms.examples import ReturnedAction
from antiphon.engine.heart.message import LearningGroup, Message, Read, Tick, Window
from antiphon.engine.heart.updates import Update
from antiphon.engine.reference.forward import release, replay
from antiphon.engine.reference.ledger import mask_fill_zero
from antiphon.engine.reference.losses import objective_error, window_loss
from antiphon.engine.reference.predictors import critic_value, example_of, injects, synthetic_gradient
from antiphon.engine.reference.state import State

if TYPE_CHECKING:
    from antiphon.engine.heart.channel import Channel

Closed = list[tuple[LearningGroup, Window]]
"""Windows that have ended."""
Returns = dict[str, list[Message]]
"""Messages of states whose return over several windows is known, by channel (rule 11)."""


def window_update(state: State, group: LearningGroup, window: Window, step: int) -> Update | None:
    """Differentiate a window and enter in the ledgers what goes back (rules 2, 4); None: it has diverged (rule 32)."""
    batch, update = state.batch, Update(group, window, window_loss=window_loss(state, window))
    injections = _injections(state, window, step, update.injected)
    # Rule 7: who does not participate has no update. Tied agents participate together (rule 27a).
    learners = [name for name in group.owners if state.participates(name, window.number)]
    parameters = [p for name in learners for p in state.agents[name].learner.trainable]
    reads = list(window.leaves.values())
    leaves = [value for read in reads if (value := read.value) is not None and value.requires_grad]
    auxiliary = _auxiliary_losses(state, group, window)
    objectives = [] if update.window_loss.total is None else [update.window_loss.total]
    own = _grad([*objectives, *auxiliary, *(_term(i, i.scale, batch) for i in injections)], parameters)
    back = _grad([*objectives, *(_term(i, i.discount, batch) for i in injections)], leaves)  # rules 3, 12
    deltas = [None if g is None else g * batch for g in back]  # rule 1: per sample
    wrong = state.divergence_of(own, deltas)
    lost = state.divergence_of([], [own.loss for own in update.window_loss.losses.values()])
    if wrong or lost:
        state.stop(group, step, f"the {'gradient' if wrong else 'loss'} at step {step} {wrong or lost}")
        return None
    rest = iter(own)
    for name in learners:  # rule 27a: tied agents follow the mean of their gradients
        found = [next(rest) for _ in state.agents[name].learner.trainable]
        update.gradients[name] = [None if g is None else g / group.owners[name] for g in found]
    returning = iter(deltas)
    for read in reads:
        followed = read.value is not None and read.value.requires_grad
        state.ledgers[read.channel].add_gradient(read, next(returning) if followed else None)
    _return_losses(state, window, update)
    _return_actions(state, update)
    return update


def _term(injection: Injection, weight: float, batch: int) -> Tensor:
    """weight <m, stopgrad(c)> / B of one message; without a graph where the weight is zero, so that nothing follows."""
    if not weight:
        return torch.zeros(())
    return weight * (injection.message.flatten(1) * injection.gradient).sum() / batch


def _grad(terms: list[Tensor], inputs: list[Tensor]) -> list[Tensor | None]:
    """Gradients of the sum of the terms that have a graph; None where nothing depends on an input."""
    followed = [term for term in terms if term.requires_grad]
    if not followed or not inputs:
        return [None] * len(inputs)
    total = torch.stack(followed).sum()
    return list(torch.autograd.grad(total, inputs, retain_graph=True, allow_unused=True))


def _return_losses(state: State, window: Window, update: Update) -> None:
    """Return the window's losses, and those expected beyond its own messages, to critics of what it used (rule 9)."""
    loss = state.system.nothing
    for samples in update.window_loss.by_agent.values():
        loss = loss + samples
    for name, message in window.sent:
        beyond = critic_value(state, state.channels[name], message)
        loss = loss if beyond is None else loss + beyond
    for name in dict.fromkeys(read.channel for read in window.leaves.values()):
        predictor = state.channels[name].predictor
        if predictor is not None and predictor.needs_loss:
            state.ledgers[name].add_loss([r for r in window.leaves.values() if r.channel == name], loss)


def _return_actions(state: State, update: Update) -> None:
    """Return what policies did at the ticks that used a message, and with what advantage, to `local_policy` (rule 9)."""
    for name, policy in update.window_loss.policies.items():
        goal = state.agents[name].goal
        if goal is None or policy.trajectory.actions is None:
            continue
        advantages = policy.advantages.weighted() * goal.weight
        for t, tick in enumerate(policy.ticks):
            for read in (read for read in tick.reads if state.channels[read.channel].needs_actions):
                if read.message is not None:
                    ledger, action = state.ledgers[read.channel], policy.trajectory.actions[t]
                    valid = policy.advantages.valid[t] & ledger.mask(read.counted)
                    returned = ReturnedAction(action, mask_fill_zero(valid, advantages[t]), valid)
                    ledger.add_action(read.message, returned)


def _injections(state: State, window: Window, step: int, injected: dict[str, Tensor]) -> list[Injection]:
    """What is put on the messages sent in a window; synthetic gradients are noted in `injected`."""
    found = []
    for name, message in window.sent:
        channel = state.channels[name]
        if message.unread or name in window.given_up or not state.participates(channel.sender, window.number):
            continue
        output = window.live[name, message.stamp]
        credit = _credit(state, window, channel, message)
        if credit is not None and channel.coupling == "delayed":
            found.append(Injection(output, credit))
        elif credit is not None:
            shown = credit if name not in injected or not channel.needs_actions else injected[name]
            injected[name] = torch.where(credit.any(1, keepdim=True), credit, shown)
            found.append(Injection(output, credit, channel.scale(step), channel.discount))
        if channel.direct is not None:  # rule 10: an objective's errors at ticks since, carried straight back
            own = [tick for tick in window.ticks() if tick.agent == channel.error_of]
            errors = [objective_error(state, tick) for tick in own if tick.step >= message.stamp]
            found += [Injection(output, channel.direct.signal(e)) for e in errors if e is not None]
    return found


def _credit(state: State, window: Window, channel: Channel, message: Message) -> Tensor | None:
    """What a message is credited with, [B, size] per sample; None: nothing, not even a zero gradient."""
    if channel.coupling == "delayed":  # rule 27b: the gradient that has come back itself
        credit = message.gradient if message.complete and message.no_injection is not True else None
    else:
        credit = synthetic_gradient(state, window, channel, message)
        if credit is not None and mixes(state, channel):  # rule 11: with what has just come back
            delta = channel.zeros if message.gradient is None else message.gradient
            credit = torch.lerp(credit, delta, channel.trace) if channel.trace else credit
            example = example_of(state, channel, message, answered=True)
            if channel.propagate and channel.predictor is not None and example is not None:
                example.delta = delta
                credit = credit + channel.propagate * channel.predictor.propagated(example)
        if credit is not None and channel.clip is not None:
            credit = clipped(credit, channel.clip)
    return None if credit is None else _injected(state, message, channel, credit)


def _injected(state: State, message: Message, channel: Channel, credit: Tensor) -> Tensor:
    """A credit where something may be injected, zeros elsewhere (rule 20)."""
    return mask_fill_zero(~state.ledgers[channel.name].mask(message.no_injection), credit)


def mixes(state: State, channel: Channel) -> bool:
    """Return whether what is injected on a channel contains what comes back at the same step (rule 11)."""
    mixed = channel.trace or channel.propagate or channel.needs_actions
    return injects(state, channel) and not channel.state and bool(mixed)


def depth(state: State, group: LearningGroup) -> int:
    """Return after how many other groups a group is differentiated: where channels mix, receivers first (rule 11)."""
    mixing = [c for c in state.channels.values() if state.group_of[c.sender] is group and mixes(state, c)]
    return max((1 + depth(state, state.group_of[channel.receiver]) for channel in mixing), default=0)


def _auxiliary_losses(state: State, group: LearningGroup, window: Window) -> list[Tensor]:
    """Heads after a window's first tick regress the synthetic gradient of the state at its end (rule 12)."""
    losses = []
    for name in group.members:
        channel, first = state.agents[name].memory, _first_tick(window, name)
        if channel is None or not channel.auxiliary or not injects(state, channel):
            continue
        last = _last_sent(window, channel.name)
        if first is None or last is None or not first.participates:
            continue
        target: Tensor | None = channel.zeros  # where nothing follows
        if last.no_injection is not True:
            target = synthetic_gradient(state, window, channel, last)
        if target is not None:
            error = first.ports[AUXILIARY_PORT] - _injected(state, last, channel, target)
            losses.append(channel.auxiliary * error.square().sum() / state.batch)
    return losses


def waits(state: State, window: Window, age: int, step: int) -> bool:
    """Return whether a window, `age` windows old, waits for `delayed` gradients, given up after `staleness` (27b)."""
    missing = set()
    for name, message in window.sent:
        channel = state.channels[name]
        within = state.group_of[channel.sender] is state.group_of[channel.receiver]
        if channel.coupling == "delayed" and not message.unread and not within:
            back = state.ledgers[name].back if message.complete else 0
            if message.finished is None or message.finished >= step or message.finished + back > step:
                missing.add(name)
    window.given_up |= {name for name in missing if age >= state.channels[name].staleness}
    return any(age <= state.channels[name].staleness for name in missing | window.given_up)


def contributes(state: State, group: LearningGroup, window: Window) -> bool:
    """Return whether anything but given up gradients can reach a window: an objective, or another channel."""
    others = [state.channels[name].coupling for name, _ in window.sent if name not in window.given_up]
    objective = any(state.agents[name].goal is not None for name in group.members)
    return not window.given_up or objective or bool({"decoupled", "unlocked", "delayed"} & set(others))


def lambda_returns(state: State, closed: Closed, step: int) -> Returns:
    """Return the messages of states whose return over K windows is known with the windows just closed.

    With g_j the gradient of window j's losses by the state it starts from, J_j the Jacobian of the state it ends with
    and SG_j the synthetic gradient of that state, the return of the state that window j starts from is

        G_j = g_j + discount J_j^T [(1 - trace) SG_(j+1) + trace G_(j+1)],

    where beyond the newest window G is SG itself. Windows are replayed with the parameters of now.
    """
    found = Returns()
    for group, window in closed:
        memories = [c for name in group.members if (c := state.agents[name].memory) is not None]
        traced = [channel for channel in memories if channel.traced]
        if not traced or not any(state.participates(name, window.number) for name in group.members):
            continue
        if group.past and group.past[-1].number + 1 != window.number:
            group.past.clear()  # no gradient passes through a window that is missing
        group.past = [*group.past, window][-max(channel.span for channel in traced) :]
        for channel in traced:
            windows = group.past[-channel.span :]
            read, ledger = _start_of(windows[0], channel.sender), state.ledgers[channel.name]
            message = None if read is None else read.message
            if len(windows) < channel.span or read is None or message is None or message.counted is False:
                continue
            # Zero where an episode ended before: its last state is an example of that already.
            own = mask_fill_zero(ledger.mask(read.counted), _return(state, windows, memories, channel, step))
            ledger.replace_gradient(message, own)
            found.setdefault(channel.name, []).append(message)
    return found


def _return(
    state: State, windows: list[Window], memories: list[Channel], channel: Channel, step: int
) -> Tensor:
    """[B, state size]: the return of the state that the oldest of `windows` starts from."""
    batch, returns = state.batch, Tensors()
    for window in reversed(windows):
        replay(state, window)
        terms = [_term(i, i.discount, batch) for i in _injections(state, window, step, {})]
        leaves = {}
        for memory in memories:
            read, last = _start_of(window, memory.sender), _last_sent(window, memory.name)
            if read is not None and read.value is not None and read.value.requires_grad:
                leaves[memory.name] = read.value
            predicted = None if last is None else synthetic_gradient(state, window, memory, last)
            if last is not None and predicted is not None and memory.traced and memory.name in returns:
                # trace (G - SG) beside the SG that is injected anyway
                predicted = predicted if memory.clip is None else clipped(predicted, memory.clip)
                beyond = memory.trace * (returns[memory.name] - predicted)
                beyond = _injected(state, last, memory, beyond)
                injection = Injection(window.live[memory.name, last.stamp], beyond)
                terms.append(_term(injection, memory.discount, batch))
        loss = window_loss(state, window).total
        deltas = _grad(terms if loss is None else [loss, *terms], list(leaves.values()))
        returns = {n: d * batch for n, d in zip(leaves, deltas, strict=True) if d is not None}
        release(window)
    return returns.get(channel.name, torch.zeros_like(channel.zeros))


def _first_tick(window: Window, agent: str) -> Tick | None:
    return next((tick for tick in window.ticks() if tick.agent == agent), None)


def _start_of(window: Window, agent: str) -> Read | None:
    """What an agent read of its own state at its first tick."""
    first = _first_tick(window, agent)
    return None if first is None else first.memory


def _last_sent(window: Window, channel: str) -> Message | None:
    """The message of the state that the window ends with: the only one that is read outside it."""
    return next((message for name, message in window.sent if name == channel), None)
