"""Losses of a window: the objectives' sums over its ticks (rules 1, 21)."""

from __future__ import annotations

import torch
from torch import Tensor

from antiphon.agents.network import OBJECTIVE
from antiphon.comms.backward_requests import constant
from antiphon.engine.heart.message import Tick, Window
from antiphon.engine.heart.updates import Losses, WindowLoss
from antiphon.engine.reference.ledger import EnvMask, mask_fill_zero
from antiphon.engine.reference.policies import policy_window
from antiphon.engine.reference.state import State


def window_loss(state: State, window: Window) -> WindowLoss:
    """Sum the losses of a window, divided by B and never by the number of valid rows (rule 1)."""
    whole = WindowLoss()
    for tick in window.ticks():
        found = _tick_loss(state, tick)
        if found is not None:
            losses, scores, present = found
            total = losses.sum() / state.batch
            whole.total = total if whole.total is None else whole.total + total
            _add(whole, tick.agent, constant(losses), scores.sum(), int(present.sum()))
    for name in dict.fromkeys(tick.agent for tick in window.ticks()):
        goal, policy = state.agents[name].goal, policy_window(state, state.agents[name], window)
        if goal is not None and policy is not None:
            losses, valid = policy.first.losses * goal.weight, policy.advantages.valid
            total = losses.sum() / state.batch  # rule 41: the mean over what is valid
            whole.total = total if whole.total is None else whole.total + total
            score, count = policy.advantages.returns[valid].sum(), int(valid.sum())
            _add(whole, name, constant(losses).sum(0), score, count)
            whole.losses[name].loss *= count / state.batch  # they are divided by `count` already
            whole.policies[name] = policy
    return whole


def _add(whole: WindowLoss, agent: str, samples: Tensor, score: Tensor, count: int) -> None:
    """Add to an agent's figures of a window: losses [B], the metric's sum, and how many both are over."""
    known = whole.losses.get(agent)
    if known is not None:
        samples, score = whole.by_agent[agent] + samples, known.score + score
        count += int(known.count)
    whole.by_agent[agent] = samples
    whole.losses[agent] = Losses(samples.sum().reshape(1) / len(samples), score.reshape(1), count)


def objective_error(state: State, tick: Tick) -> Tensor | None:
    """Return the derivative of an objective by its outputs at one tick, [B, outputs] per sample; None without a target."""
    found = _tick_loss(state, tick)
    if found is None or not found[0].requires_grad:
        return None
    return torch.autograd.grad(found[0].sum(), tick.ports[OBJECTIVE], retain_graph=True)[0]


def _tick_loss(state: State, tick: Tick) -> tuple[Tensor, Tensor, EnvMask] | None:
    """Losses and metric of one tick, [B] each and zero where the target is absent, and where it is present.

    None where nothing counts: no objective, no target at this step, or an agent that does not participate (rule 7).
    """
    goal = state.agents[tick.agent].goal
    if (
        goal is None
        or goal.policy is not None
        or not tick.participates
        or goal.target not in tick.step_signals.signals
    ):
        return None
    if goal.last_only and (tick.step_signals.step + 1) % state.system.hold:
        return None  # rule 21: `when: last`
    output, target = tick.ports[OBJECTIVE], tick.step_signals.signals[goal.target]
    present = tick.step_signals.signals.get(f"_{goal.target}")
    if present is None:
        present = torch.ones(state.batch, dtype=torch.bool, device=output.device)
    if not present.any():
        return None
    target = mask_fill_zero(present, target)  # rule 19: before the loss too, where what is absent may be NaN
    losses = goal.objective.loss(output, target)
    scored_by_loss, outputs = goal.objective.scores_loss, constant(output)
    scores = constant(losses) if scored_by_loss else goal.objective.score(outputs, target)
    return mask_fill_zero(present, losses) * goal.weight, mask_fill_zero(present, scores), present
