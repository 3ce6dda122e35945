"""Losses of one window, what its group's parameters follow, and what goes back to its senders (rules 1-4, 7-12, 21).

The learning signal of a message is injected by a surrogate loss. With m the messages of the window, c_j what is credited
to message j (a synthetic gradient, or the returned one of a `delayed` channel), a group's parameters follow

    sum_t objective(t) + sum_j scale_j <m_j, stopgrad(c_j)> / B + auxiliary,

and the gradients at what it received follow the same sum with `discount` for `scale`, without the auxiliary task.
"""

from __future__ import annotations

import torch
from torch import Tensor

from antiphon.agents.network import AUXILIARY_PORT, OBJECTIVE
from antiphon.comms.backward_requests import Injection, constant
from antiphon.comms.predictors import Critic
from antiphon.engine.heart.agent import Goal
from antiphon.engine.heart.channel import Channel
from antiphon.engine.heart.ends import Sent
from antiphon.engine.heart.updates import Credit, ReportedLoss, Update, WindowLoss
from antiphon.engine.heart.window import LearningGroup, Tick, Window
from antiphon.nets.mask import NONE
from tests.reference import wires
from tests.reference.policies import policy_window
from tests.reference.predictors import example_of, gated, synthetic_gradient
from tests.reference.state import State, gradients_of
from tests.reference.wires import as_mask, mask_fill_zero


def window_loss(state: State, window: Window) -> tuple[WindowLoss, list[Tensor]]:
    """Sum the losses of a window, divided by B and never by the number of valid rows, unless an objective says so (rule 1)."""
    whole, terms = WindowLoss(), []
    factors: dict[str, Tensor] = {}
    reported = whole.reported_loss_by_agent
    found = [(tick.agent_name, tick_loss(state, tick, window)) for tick in window.ticks()]
    for name in dict.fromkeys(name for name, one in found if one is not None):
        goal = state.agents[name].goal
        if goal is not None and goal.mean_over_targets:
            count = sum(one[2] for owner, one in found if owner == name and one is not None)
            factors[name] = state.nothing + state.batch / max(count, 1)
    found = [
        (name, one and (one[0] * factors[name], *one[1:]) if name in factors else one) for name, one in found
    ]
    for name in dict.fromkeys(tick.agent_name for tick in window.ticks()):
        goal, policy = state.agents[name].goal, policy_window(state, state.agents[name], window)
        if goal is not None and policy is not None:
            whole.policy_windows[name], valid = policy, policy.advantages.valid
            score = policy.advantages.returns[valid].sum()
            found.append((name, (policy.first_pass_losses.losses * goal.weight, score, int(valid.sum()))))
    for name, (losses, score, count) in ((name, one) for name, one in found if one is not None):
        terms.append(losses.sum() / state.batch)
        samples, known = constant(losses).reshape(-1, state.batch).sum(0), reported.get(name)
        if known is not None:
            samples, score = whole.loss_by_agent[name] + samples, known.score.squeeze(0) + score
            count += int(known.target_count)
        # The losses of a policy are divided by how many are valid already (rule 41).
        share = count / state.batch if name in whole.policy_windows else 1.0
        whole.loss_by_agent[name] = samples
        mean = samples.sum().reshape(1) / state.batch * share
        reported[name] = ReportedLoss(mean, score.unsqueeze(0), count)
    return whole, terms


def tick_loss(state: State, tick: Tick, window: Window) -> tuple[Tensor, Tensor, int] | None:
    """Return losses of one tick of a window, [B] and zero where the target is absent, the metric's sum, and how many there are.

    None where nothing counts: no objective, no target at this step, or an agent that does not participate (rule 7).
    """
    goal = state.agents[tick.agent_name].goal
    if goal is None or goal.policy is not None or tick.learning_rows is NONE:
        return None
    if not goal.summands:
        found = _relative_loss(state, tick, window, goal)
        if found is None:
            return None
        losses, scores, present, sites = found
        if goal.mean_over_targets:  # over the sites, not over samples
            losses, scores, present = losses * sites, scores * sites, sites
        return losses * goal.weight, scores.sum(), int(present.sum())
    losses, anywhere, columns = tick.ports[OBJECTIVE].new_zeros(state.batch), state.nowhere, []
    for part in goal.summands:
        found = _relative_loss(state, tick, window, part)
        if found is None:
            columns += [losses.new_zeros(4)]
            continue
        own, scores, present, _ = found
        losses, anywhere = losses + own * part.weight, anywhere | present
        count = present.to(own.dtype).sum()
        columns += [torch.stack([constant(own).sum(), scores.sum(), count, count])]
    if not anywhere.any():
        return None
    return losses * goal.weight, torch.cat(columns), int(anywhere.sum())


def _relative_loss(
    state: State, tick: Tick, window: Window, goal: Goal
) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """Return `_target_loss`, with class weights relative to their mean over the targets of the agent's window (rule 1)."""
    found = _target_loss(state, tick, goal)
    if found is None or goal.output_objective.weight is None:
        return found
    ticks = [other for other in window.ticks() if other.agent_name == tick.agent_name]
    pairs = [
        pair for other in ticks if (pair := _class_weights(other, goal, _target_loss(state, other, goal)))
    ]
    total = sum(weight for weight, _ in pairs)
    losses, *rest = found
    return (losses * (sum(count for _, count in pairs) / total) if total else losses * 0, *rest)


def _class_weights(
    tick: Tick, goal: Goal, found: tuple[Tensor, Tensor, Tensor, Tensor] | None
) -> tuple[float, float] | None:
    """Return the sum of the weights of a tick's targets, and their number: of sites, or of samples, whose weight is a mean."""
    if found is None or tick.learning_rows is NONE:
        return None
    present, weight, number = found[2], 0.0, 0.0
    objective, signals = goal.output_objective, tick.observed_signals.signals
    classes = signals[goal.target_signal_name]
    mask = signals.get(f"_{goal.target_signal_name}", torch.ones_like(classes, dtype=torch.bool))
    for row in range(len(classes)):
        if not bool(present[row]):
            continue
        shown = mask[row].reshape(-1).expand(classes[row].numel()).tolist()
        of_row = [
            objective.weight[c]
            for c, is_there in zip(classes[row].flatten().tolist(), shown, strict=True)
            if is_there and c != objective.ignore_index
        ]
        times = len(of_row) if goal.mean_over_targets else 1
        weight, number = weight + times * sum(of_row) / len(of_row), number + times
    return weight, number


def _target_loss(state: State, tick: Tick, goal: Goal) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """Return an objective's losses, its metric, where there is a target and of how many sites, [B] each; None: nothing counts."""
    signals, output = tick.observed_signals.signals, tick.ports[OBJECTIVE]
    output = output if goal.output_slice is None else output[:, goal.output_slice]
    if goal.target_signal_name and goal.target_signal_name not in signals:
        return None
    if goal.last_only and (tick.observed_signals.step + 1) % state.system.description.hold:
        return None  # rule 21: `read: last`
    objective, mask = goal.output_objective, signals.get(f"_{goal.target_signal_name}", ~state.nowhere)
    target = signals[goal.target_signal_name] if goal.target_signal_name else constant(output)
    if objective.ignore_index is not None:
        mask = mask.reshape(len(mask), *[1] * (target.dim() - mask.dim())) & (
            target != objective.ignore_index
        )
    present = mask.flatten(1).any(1) if mask.dim() > 1 else mask
    if not present.any():
        return None
    # rule 19: before the loss too, what is absent may be NaN
    sites = mask if mask.shape == target.shape and target.dim() > 1 else None
    target = mask_fill_zero(present, target if sites is None else target.where(sites, 0))
    losses = objective.loss(output, target, sites)
    scores = constant(losses) if objective.scores_loss else objective.score(constant(output), target, sites)
    count = present if sites is None else sites.reshape(len(sites), -1).sum(1)
    losses, scores = mask_fill_zero(present, losses), mask_fill_zero(present, scores)
    return losses, scores, present, count.to(losses.dtype)


def window_update(state: State, group: LearningGroup, window: Window, step: int) -> Update | None:
    """Differentiate a window and note what goes back (rules 2, 4); None: it has diverged (rule 32)."""
    (whole, objectives), batch = window_loss(state, window), state.batch
    update = Update(group, window, whole)
    injections, auxiliary = _injections(state, update, step), _auxiliary_losses(state, group, window)
    followed = [*objectives, *auxiliary, *(_term(i, i.scale, batch) for i in injections)]
    leaves = {r: r.value for r in window.counted_reads.values() if r.value.requires_grad}
    back = gradients_of([*objectives, *(_term(i, i.discount, batch) for i in injections)], [*leaves.values()])
    returning = [None if g is None else g * batch for g in back]  # rules 1, 3, 12: per sample
    gradients = state.gradients(update, followed, step, returning)
    scores = whole.reported_loss_by_agent.values()
    signals = [*auxiliary, *(i for i in injections if i.scale), *(own for own in scores if own.target_count)]
    for name, own in gradients.items():  # rule 7: an agent whose group has a learning signal takes a step
        learner = state.agents[name].learner
        update.gradients_by_learner[name] = learner.filled(own) if signals else [None] * len(own)
    returned = dict(zip(leaves, returning, strict=True))
    for read in window.counted_reads.values():
        wires.add_gradient(read, returned.get(read))
    _return_losses(state, update)
    return update


def _term(injection: Injection, weight: float | Tensor, batch: int) -> Tensor:
    """weight <m, stopgrad(c)> / B of one message; without a graph where the weight is zero, so that nothing follows."""
    if not weight:
        return torch.zeros(())
    return weight * (injection.output.flatten(1) * injection.gradient).sum() / batch


def _return_losses(state: State, update: Update) -> None:
    """Return the window's losses, and those expected beyond it, to critics (9)."""
    loss, leaves = state.nothing, update.window.counted_reads.values()
    for samples in update.window_loss.loss_by_agent.values():
        loss = loss + samples
    for name, message in update.window.sent:
        synthetic = state.channels[name].synthetic_gradient
        if not isinstance(synthetic.model, Critic) or not message.plan.is_bookable:
            continue
        example = example_of(state, state.channels[name], message, answered=False)
        if example is not None and message.creditable is not NONE:
            value = constant(synthetic.model.value(example))
            loss = loss + injectable(message, synthetic.discount * value)
    wires.add_loss([read for read in leaves if state.channels[read.channel_name].needs_returned_loss], loss)


def _injections(state: State, update: Update, step: int) -> list[Injection]:
    """What is put on the messages sent in a window; synthetic gradients are noted in the update."""
    found, window, noted = [], update.window, update.newest_injected_by_channel
    for name, message in window.sent:
        channel, synthetic = state.channels[name], state.channels[name].synthetic_gradient
        if (
            not message.plan.is_bookable
            or name in window.given_up_channel_names
            or not state.participates(channel.sender, window.number)
        ):
            continue
        output, credit = window.outputs_with_graph[name, message.stamp], _credit(state, channel, message)
        if credit is not None:
            put, late = synthetic, channel.coupling.name == "delayed"
            weights = () if late else (put.scale, put.discount)
            found.append(Injection(output, credit, *weights))
            noted[name] = Credit(credit, message.creditable)
    return found


def _credit(state: State, channel: Channel, message: Sent) -> Tensor | None:
    """What a message is credited with, [B, size] per sample; None: nothing, not even a zero gradient."""
    if channel.coupling.name == "delayed":  # rule 27b: the gradient that has come back itself
        counted = message.back_at is not None and message.creditable is not NONE
        back = message.returned if counted else None
        return None if back is None else injectable(message, back)
    synthetic, credit = channel.synthetic_gradient, synthetic_gradient(state, channel, message)
    if credit is not None and synthetic.model.gated:
        credit = gated(synthetic, credit)
    if credit is None:
        return None
    return injectable(message, credit)


def injectable(message: Sent, credit: Tensor) -> Tensor:
    """Return a credit where something may be injected, zeros elsewhere (rule 20)."""
    return mask_fill_zero(as_mask(message.creditable, message.value), credit)


def _auxiliary_losses(state: State, group: LearningGroup, window: Window) -> list[Tensor]:
    """Heads after a window's first tick regress the synthetic gradient of the state at its end (rule 12)."""
    losses = []
    channels = [state.agents[name].connections.state_channel for name in group.agent_names]
    for channel in (c for c in channels if c is not None and c.injects_prediction):
        if not channel.synthetic_gradient.auxiliary:
            continue
        first = next((tick for tick in window.ticks() if tick.agent_name == channel.sender), None)
        last = dict(window.sent).get(channel.name)  # the state at its end: only it is read outside
        if first is not None and last is not None and first.learning_rows is not NONE:
            nothing_follows = last.creditable is NONE
            target = channel.content.zeros if nothing_follows else synthetic_gradient(state, channel, last)
            if target is not None:
                error = first.ports[AUXILIARY_PORT] - injectable(last, target)
                weight = channel.synthetic_gradient.auxiliary
                losses.append(weight * error.square().sum() / state.batch)
    return losses


def fate_of(state: State, group: LearningGroup, window: Window, step: int) -> str:
    """Return whether a window `waits` for `delayed` gradients, given up at the age of `staleness`, is `closed`, or `dropped`.

    It is dropped where nothing but given up gradients could reach it: no objective, and no other channel.
    """
    missing, age = set(), (group.grid.number_ending_at(step) or 0) - window.number
    for name, message in window.sent if group.horizons else ():
        channel = state.channels[name]
        within = group is state.group_of[channel.receiver]
        finished = message.finished_at
        arrived = finished is not None and finished < step and (message.back_at or finished) <= step
        if channel.coupling.name == "delayed" and message.plan.is_bookable and not (within or arrived):
            missing.add(name)
    window.given_up_channel_names |= {name for name in missing if age >= group.horizons[name]}
    if any(age < group.horizons[name] for name in missing):
        return "waits"
    names = {name for name, _ in window.sent} - window.given_up_channel_names
    others = {state.channels[name].coupling.name for name in names}
    objective = any(state.agents[name].goal is not None for name in group.agent_names)
    reached = not window.given_up_channel_names or objective or others & {"decoupled", "unlocked", "delayed"}
    return "closed" if reached else "dropped"
