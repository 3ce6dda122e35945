"""Losses of windows: objectives at ticks, and their sums over a window (rule 1, division)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from antiphon.agents.network import OBJECTIVE
from antiphon.agents.objectives import Objective, Weighted
from antiphon.base.mask import ALL, NONE, Mask
from antiphon.comms.backward_requests import constant
from antiphon.engine.heart.agent import Agent, Goal
from antiphon.engine.heart.feature import Features
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import LossesByAgent, ReportedLoss, WindowLoss
from antiphon.engine.heart.window import Tick, Window
from antiphon.nets.per_member import scaled
from antiphon.nets.random import seed_for


class TickLoss(NamedTuple):
    """The losses and the score of an objective at one tick."""

    losses: Tensor
    """[rows], zero where not `present`."""
    score: Tensor
    """[rows], zero where not `present`; [rows, columns] of several objectives."""
    present: Mask
    """Where there is a target, in rows in which the agent learns."""
    site_counts: Tensor | None = None
    """[rows] int64: the number of sites that each target has; None: all have as many."""

    def of_last_rows(self, row_count: int) -> TickLoss:
        """Return the losses and the score of its last rows."""
        losses, score, present, site_counts = self
        site_counts = None if site_counts is None else site_counts[-row_count:]
        present = present.map(lambda where: where[-row_count:])
        return TickLoss(losses[-row_count:], score[-row_count:], present, site_counts)

    @property
    def target_counts(self) -> Tensor:
        """[rows]: the targets that each sample has in a mean (`reduction: mean`): its sites, or 1; 0 without a
        target."""
        losses = constant(self.losses)
        target_counts = (
            torch.ones_like(losses) if self.site_counts is None else self.site_counts.to(losses.dtype)
        )
        return self.present.zero_elsewhere(target_counts)


class ObjectiveEvaluator:
    """Evaluates a system's objectives: their losses at ticks, and over windows.

    Args:
        features: The features of the step that it belongs to; None: it is used alone, and features are installed in it.
    """

    def __init__(self, system: System, features: Features | None = None) -> None:
        self.system, self.features = system, features or Features()
        self.learning_points = self.features.learning_points

    def window_loss(self, window: Window) -> tuple[WindowLoss, LossesByAgent]:
        """Return the losses of a window without a graph, and those that are differentiated (`PendingUpdate.losses`)."""
        window_loss, losses = WindowLoss(), LossesByAgent()
        policy_ticks: dict[str, list[Tick]] = {}
        averaged_losses: dict[str, list[TickLoss]] = {}
        for tick in window.ticks():
            agent = self.system.agents[tick.agent_name]
            goal = agent.goal
            if goal is None or tick.learning_rows is NONE:
                continue
            if goal.rewards is not None:
                policy_ticks.setdefault(tick.agent_name, []).append(tick)
            elif (tick_loss := self.tick_loss(tick)) is not None:
                window_loss.ticks_with_loss.add((tick.step, tick.agent_name))
                if goal.mean_over_targets:
                    averaged_losses.setdefault(tick.agent_name, []).append(tick_loss)
                else:
                    losses.append((tick.agent_name, self._add_loss(window_loss, agent, tick_loss)))
        for name, tick_losses in averaged_losses.items():
            losses += self._add_mean_loss(window_loss, self.system.agents[name], tick_losses)
        for name, ticks in policy_ticks.items():
            feature = self.learning_points.policy_losses
            assert feature is not None
            loss = feature.policy_losses(window_loss, self.system.agents[name], ticks, window)
            losses += [] if loss is None else [(name, loss)]
        return window_loss, losses

    def _add_loss(self, window_loss: WindowLoss, agent: Agent, tick_loss: TickLoss) -> Tensor:
        """Add the losses of a tick, and return them with their graph."""
        samples, batch, layout = constant(tick_loss.losses), self.system.batch, agent.layout
        total = samples.sum().view(1) if len(agent.members) == 1 else layout.sum_by_member(samples)
        target_count: int | Tensor = batch
        if tick_loss.present is not ALL:
            target_count = layout.sum_by_member(tick_loss.present.tensor(len(samples), samples.device))
        reported = ReportedLoss(total / batch, layout.sum_by_member(tick_loss.score), target_count)
        window_loss.add(agent.name, samples, reported)
        return tick_loss.losses

    def _add_mean_loss(
        self, window_loss: WindowLoss, agent: Agent, tick_losses: Sequence[TickLoss]
    ) -> LossesByAgent:
        """Add losses that are divided by the window's number of targets, not by B (`reduction: mean`); return them."""
        layout, batch = agent.layout, self.system.batch
        weights = [tick_loss.target_counts for tick_loss in tick_losses]
        target_counts = [layout.sum_by_member(tick_weights) for tick_weights in weights]
        factor = layout.rows_from_members(batch / torch.stack(target_counts).sum(0).clamp(min=1))
        losses = LossesByAgent()
        for tick_loss, weight, target_count in zip(tick_losses, weights, target_counts, strict=True):
            loss = tick_loss.losses * weight * factor
            samples = constant(loss)
            reported = ReportedLoss(
                layout.sum_by_member(samples) / batch,
                layout.sum_by_member(tick_loss.score * weight),
                target_count,
            )
            window_loss.add(agent.name, samples, reported)
            losses.append((agent.name, loss))
        return losses

    def tick_loss(self, tick: Tick) -> TickLoss | None:
        """Return the losses of a tick; None: its target is absent, or its agent has none, learns from rewards, or in no
        row."""
        agent, step_signals = self.system.agents[tick.agent_name], tick.observed_signals
        goal = agent.goal
        if goal is None or tick.learning_rows is NONE or goal.rewards is not None:
            return None
        terms: list[TickLoss | None] = []
        for term in goal.terms:
            if term.last_only and (step_signals.step + 1) % self.system.steps_per_example:
                terms.append(None)
            else:
                terms.append(
                    self.term_loss(agent, term, step_signals, tick.ports[OBJECTIVE], tick.learning_rows)
                )
        tick_loss = _combined(goal, terms)
        return None if tick_loss is None else tick_loss._replace(losses=scaled(tick_loss.losses, goal.weight))

    def output_loss(self, agent: Agent, step_signals: StepSignals, output: Tensor) -> TickLoss | None:
        """Return the losses of an agent's output at any step, without its weight; None: no target is there.

        A rollout scores with it (engine/inference/rollout.py).
        """
        assert agent.goal is not None
        return _combined(
            agent.goal, [self.term_loss(agent, term, step_signals, output) for term in agent.goal.terms]
        )

    @staticmethod
    def term_loss(
        agent: Agent, goal: Goal, step_signals: StepSignals, output: Tensor, learning_rows: Mask = ALL
    ) -> TickLoss | None:
        """Return the losses of one objective, without its weight; None: its target is absent everywhere.

        A network's own loss may have no target.
        """
        if goal.target_signal_name and goal.target_signal_name not in step_signals.signals:
            return None
        present, sites, objective = step_signals.present(goal.target_signal_name), None, goal.output_objective
        if present is NONE:
            return None
        output = output if goal.output_slice is None else output[:, goal.output_slice]
        target = constant(output)
        if goal.target_signal_name:
            target, present, sites = _scored_target(objective, goal.target_signal_name, step_signals)
            target = agent.layout.to_rows(target)
            sites = None if sites is None else agent.layout.to_rows(sites)
        scored_rows = present.map(agent.layout.to_rows) & learning_rows
        if objective.is_own:
            # two terms of one target have other outputs
            place = goal.target_signal_name, str(goal.output_slice), str(step_signals.step)
            objective.seed([seed_for(member.random_seed, "objective", *place) for member in agent.members])
        losses = objective.loss(output, target) if sites is None else objective.loss(output, target, sites)
        if objective.scores_loss:
            score = constant(losses)
        elif sites is None:
            score = objective.score(constant(output), target)
        else:
            score = objective.score(constant(output), target, sites)
        losses, score = scored_rows.zero_elsewhere(losses), scored_rows.zero_elsewhere(score)
        site_counts = None if sites is None else sites.reshape(len(sites), -1).sum(1)
        return TickLoss(losses, score, scored_rows, site_counts)


def _scored_target(
    objective: Objective, name: str, step_signals: StepSignals
) -> tuple[Tensor, Mask, Tensor | None]:
    """A target signal as it is scored, zeros where absent; where it is present, and at which sites; None: at all.

    Shapes are those of the environment: [seeds * B, *S], the mask [seeds * B].
    """
    target, present = step_signals.signals[name], step_signals.present(name)
    sites = step_signals.present_sites(name)
    sites = None if sites is None else sites.reshape(target.shape)
    if objective.ignore_index is not None:
        scored_sites = target != objective.ignore_index
        sites = scored_sites if sites is None else sites & scored_sites
    if objective.weight is not None and present is not ALL:  # absent targets have no weight
        present_rows = present.tensor(len(target), target.device)
        present_rows = present_rows.view(-1, *[1] * (target.dim() - 1)).expand_as(target)
        sites = present_rows if sites is None else sites & present_rows
    if sites is not None and target.dim() == 1 and objective.weight is None:
        present, sites = present & Mask.of(sites.flatten()), None
    elif sites is not None:
        present &= Mask.of(sites.reshape(len(sites), -1).any(1))
        target = target.where(sites, 0)
    return present.zero_elsewhere(target), present, sites  # absent targets may be NaN


def _combined(goal: Goal, terms: Sequence[TickLoss | None]) -> TickLoss | None:
    """The losses of an objective from those of its terms: of the only one, or of a weighted sum."""
    if not goal.summands:
        return terms[0]
    assert isinstance(goal.objective, Weighted)
    summands = [None if term is None else (term.losses, term.score, term.present) for term in terms]
    return TickLoss(*goal.objective.combined(summands)) if any(term is not None for term in terms) else None
