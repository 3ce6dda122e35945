"""Losses of a window: the objectives' sums over its ticks (rules 1, 21)."""

from __future__ import annotations

import torch
from torch import Tensor

from antiphon.agents.network import OBJECTIVE
from antiphon.comms.backward_requests import constant
from antiphon.engine.reference.ledger import mask_fill_zero
from antiphon.engine.reference.policies import policy_window
from antiphon.engine.reference.records import AgentLoss, AgentTick, EnvMask, Tape, WindowLoss
from antiphon.engine.reference.state import State


def window_loss(state: State, tape: Tape) -> WindowLoss:
    """Sum the losses of a window, divided by B and never by the number of valid rows (rule 1)."""
    window = WindowLoss()
    for _, tick in tape.ticks():
        found = _tick_loss(state, tick)
        if found is not None:
            losses, scores, present = found
            total = losses.sum() / state.batch
            window.total = total if window.total is None else window.total + total
            new = AgentLoss(constant(losses), scores.sum(), int(present.sum()))
            known = window.agents.setdefault(tick.agent, new)
            if known is not new:
                known.samples, known.score = known.samples + new.samples, known.score + new.score
                known.count += new.count
    for name in dict.fromkeys(tick.agent for _, tick in tape.ticks()):
        goal, policy = state.agents[name].goal, policy_window(state, state.agents[name], tape)
        if goal is not None and policy is not None:
            losses, valid = policy.first.losses * goal.weight, policy.advantages.valid
            total = losses.sum() / state.batch  # rule 41: the mean over what is valid
            window.total = total if window.total is None else window.total + total
            score = policy.advantages.returns[valid].sum()
            window.agents[name] = AgentLoss(constant(losses).sum(0), score, int(valid.sum()), policy)
    return window


def objective_error(state: State, tick: AgentTick) -> Tensor | None:
    """Return the derivative of an objective by its outputs at one tick, [B, outputs] per sample; None without a target."""
    found = _tick_loss(state, tick)
    if found is None or not found[0].requires_grad:
        return None
    return torch.autograd.grad(found[0].sum(), tick.ports[OBJECTIVE], retain_graph=True)[0]


def _tick_loss(state: State, tick: AgentTick) -> tuple[Tensor, Tensor, EnvMask] | None:
    """Losses and metric of one tick, [B] each and zero where the target is absent, and where it is present.

    None where nothing counts: no objective, no target at this step, or an agent that does not participate (rule 7).
    """
    goal = state.agents[tick.agent].goal
    if (
        goal is None
        or goal.policy is not None
        or not tick.participates
        or goal.target not in tick.signals.values
    ):
        return None
    if goal.last_only and (tick.signals.step + 1) % state.system.hold:
        return None  # rule 21: `when: last`
    output, target = tick.ports[OBJECTIVE], tick.signals.values[goal.target]
    present = tick.signals.values.get(f"_{goal.target}")
    if present is None:
        present = torch.ones(state.batch, dtype=torch.bool, device=output.device)
    if not present.any():
        return None
    target = mask_fill_zero(present, target)  # rule 19: before the loss too, where what is absent may be NaN
    losses = goal.objective.loss(output, target)
    scored_by_loss, outputs = goal.objective.scores_loss, constant(output)
    scores = constant(losses) if scored_by_loss else goal.objective.score(outputs, target)
    return mask_fill_zero(present, losses) * goal.weight, mask_fill_zero(present, scores), present
