"""Judging: what the objectives say of a closed window's ticks (semantics 1, 21)."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from antiphon.agents.network import OBJECTIVE
from antiphon.comms.credit import constant
from antiphon.engine.core.agent import Agent
from antiphon.engine.core.records import AgentTick, Tape
from antiphon.engine.core.rows import mask_fill_zero
from antiphon.engine.core.system import System

__all__ = ["Losses", "ObjectiveEvaluator", "WindowLoss"]


@dataclass(slots=True)
class Losses:
    """What an agent's objective said of the ticks of a window."""

    loss: Tensor
    """Sum over ticks of the mean over the batch; of a cohort [N], like the others."""
    score: Tensor
    """Sum over ticks and environments of the objective's metric."""
    count: int | Tensor
    """Ticks and environments that there was a target for."""


@dataclass(slots=True)
class WindowLoss:
    """What all objectives said of a window."""

    total: Tensor | None = None
    """Sum over agents and ticks of the mean over the batch, with its graph; None without any target."""
    by_agent: dict[str, Tensor] = field(default_factory=dict)
    """Per agent and sample, [rows]: the sum over its ticks, without a graph."""
    losses: dict[str, Losses] = field(default_factory=dict)
    """By agent."""
    evaluated: set[tuple[int, str]] = field(default_factory=set)
    """Steps and agents of the ticks that there was a target for."""

    @property
    def samples(self) -> Tensor | None:
        """[rows], the same per sample over all agents, without a graph; None without any target."""
        found = list(self.by_agent.values())
        return None if not found else found[0] if len(found) == 1 else torch.stack(found).sum(0)


class ObjectiveEvaluator:
    """Applies a system's objectives.

    Args:
        system: Its agents.
    """

    def __init__(self, system: System) -> None:
        self.system = system

    def window(self, tape: Tape) -> WindowLoss:
        """Sum the losses of a window."""
        window_loss = WindowLoss()
        for tick in tape.ticks:
            for part in tick.parts:
                found = self._loss(part)
                if found is not None:
                    self._add(window_loss, self.system.agents[part.agent], *found)
                    window_loss.evaluated.add((tick.step, part.agent))
        return window_loss

    def _add(
        self, window_loss: WindowLoss, agent: Agent, losses: Tensor, score: Tensor, present: Tensor | None
    ) -> None:
        loss, samples = losses.sum() / self.system.batch, constant(losses)
        window_loss.total = loss if window_loss.total is None else window_loss.total + loss
        known = window_loss.by_agent.get(agent.name)
        window_loss.by_agent[agent.name] = samples if known is None else known + samples
        found = Losses(
            agent.total(samples) / self.system.batch,
            agent.total(score),
            self.system.batch if present is None else agent.total(present),
        )
        seen = window_loss.losses.get(agent.name)
        if seen is not None:
            found.loss, found.score = seen.loss + found.loss, seen.score + found.score
            found.count = seen.count + found.count
        window_loss.losses[agent.name] = found

    def _loss(self, part: AgentTick) -> tuple[Tensor, Tensor, Tensor | None] | None:
        """An objective's loss and score at one tick, [rows] each, zero where its target is absent, and where it is not.

        None if it is absent everywhere.
        """
        agent = self.system.agents[part.agent]
        goal = agent.goal
        if goal is None or part.participates is False or goal.target not in part.step_signals.signals:
            return None
        if goal.last_only and (part.step_signals.step + 1) % self.system.hold:
            return None
        output, target = part.ports[OBJECTIVE], part.step_signals.signals[goal.target]
        present = part.step_signals.signals.get(f"_{goal.target}")
        if present is not None:  # before the loss too: what is absent may be no number at all
            if not bool(present.any()):
                return None
            target = mask_fill_zero(present, target)
        target = agent.to_rows(target)
        present = None if present is None else agent.to_rows(present)
        if isinstance(part.participates, Tensor):
            present = part.participates if present is None else present & part.participates
        losses = goal.objective.loss(output, target)
        score = (
            constant(losses) if goal.objective.scores_loss else goal.objective.score(constant(output), target)
        )
        if present is not None:
            losses, score = mask_fill_zero(present, losses), mask_fill_zero(present, score)
        return losses if goal.weight == 1.0 else losses * goal.weight, score, present

    def error(self, part: AgentTick) -> Tensor | None:
        """[B, outputs] per sample: the derivative of an objective by the outputs of one tick; None without a target."""
        found = self._loss(part)
        if found is None or not found[0].requires_grad:
            return None
        return torch.autograd.grad(found[0].sum(), part.ports[OBJECTIVE], retain_graph=True)[0]
