"""Losses of windows: objectives at ticks, and their sums over a window (rule 1, division)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import reduce
from typing import NamedTuple

import torch
from torch import Tensor

from antiphon.agents.network import OBJECTIVE
from antiphon.agents.objectives import Objective, Weighted
from antiphon.comms.backward_requests import constant
from antiphon.engine.heart.agent import Agent, Goal
from antiphon.engine.heart.policies.learning import PolicyLearning
from antiphon.engine.heart.signals import StepSignals
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import ReportedLoss, WindowLoss
from antiphon.engine.heart.window import Tick, Window
from antiphon.nets.mask import ALL, NONE, Mask
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
    target_weights: Tensor | None = None
    """[rows], zero where not `present`: by their sum the sum of the losses is divided (class weights); None: 1 each."""
    mean_counts: Tensor | None = None
    """[rows]: the `target_counts` of losses that have been divided by their window's; None: they are divided by B."""

    @property
    def target_counts(self) -> Tensor:
        """[rows]: the targets that each sample has in a mean (`reduction: mean`): its sites, or 1; 0 without a
        target."""
        ones, sites = torch.ones_like(constant(self.losses)), self.site_counts
        return self.present.zero_elsewhere(ones if sites is None else sites.to(ones.dtype))


class ObjectiveEvaluator:
    """Evaluates a system's objectives: their losses at ticks, and over windows.

    Args:
        policies: Of the step that it belongs to; None: it is used alone.
    """

    def __init__(self, system: System, policies: PolicyLearning | None = None) -> None:
        self.system, self.policies = system, policies or PolicyLearning(system)

    def window_loss(self, window: Window) -> tuple[WindowLoss, list[Tensor]]:
        """Return the losses of a window without a graph, and those that are differentiated, [rows] each with their graph."""
        window_loss, losses = WindowLoss(), list[Tensor]()
        policy_ticks = defaultdict[Agent, list[Tick]](list)
        terms_by_agent = defaultdict[Agent, list[list[TickLoss | None]]](list)
        for tick in window.ticks():
            agent = self.system.agents[tick.agent_name]
            goal = agent.goal
            if goal is None or tick.learning_rows is NONE:
                continue
            if goal.rewards is not None:
                policy_ticks[agent].append(tick)
            elif any(terms := self.tick_terms(tick)):
                if goal.divides_by_window:
                    terms_by_agent[agent].append(terms)
                else:
                    losses.append(self._add_loss(window_loss, agent, _combined(goal, terms)))
        for agent, terms_by_tick in terms_by_agent.items():
            goal = agent.goal
            assert goal is not None
            by_term = (_by_mean_weight(agent, goal, of_term) for of_term in zip(*terms_by_tick, strict=True))
            tick_losses = [_combined(goal, terms) for terms in zip(*by_term, strict=True)]
            if goal.mean_over_targets:
                tick_losses = self._as_mean(agent, tick_losses)
            losses += [self._add_loss(window_loss, agent, one) for one in tick_losses]
        for agent, ticks in policy_ticks.items():
            loss = self.policies.add_loss(window_loss, agent, ticks, window)
            losses += [] if loss is None else [loss]
        return window_loss, losses

    def _add_loss(self, window_loss: WindowLoss, agent: Agent, tick_loss: TickLoss) -> Tensor:
        """Add the losses of a tick, and return them with their graph."""
        samples, batch, layout = constant(tick_loss.losses), self.system.batch, agent.layout
        total = samples.sum().view(1) if len(agent.members) == 1 else layout.sum_by_member(samples)
        target_count: int | Tensor = batch
        if tick_loss.mean_counts is not None:
            target_count = layout.sum_by_member(tick_loss.mean_counts)
        elif tick_loss.present is not ALL:
            target_count = layout.sum_by_member(tick_loss.present.tensor(len(samples), samples.device))
        reported = ReportedLoss(total / batch, layout.sum_by_member(tick_loss.score), target_count)
        if tick_loss.target_weights is not None:
            reported.target_weight = layout.sum_by_member(tick_loss.target_weights)
        window_loss.add(agent.name, samples, reported)
        return tick_loss.losses

    def _as_mean(self, agent: Agent, tick_losses: Sequence[TickLoss]) -> list[TickLoss]:
        """Divide losses by the window's number of targets, not by B (`reduction: mean`)."""
        layout, weights = agent.layout, [tick_loss.target_counts for tick_loss in tick_losses]
        counts = torch.stack([layout.sum_by_member(weight) for weight in weights]).sum(0)
        factor = layout.rows_from_members(self.system.batch / counts.clamp(min=1))
        return [
            tick_loss._replace(
                losses=tick_loss.losses * weight * factor,
                score=tick_loss.score * weight,
                mean_counts=weight,
                target_weights=None
                if tick_loss.target_weights is None
                else tick_loss.target_weights * weight,
            )
            for tick_loss, weight in zip(tick_losses, weights, strict=True)
        ]

    def tick_terms(self, tick: Tick) -> list[TickLoss | None]:
        """Return the losses of each objective of a tick's agent, without its weight; None: its target is absent. Empty where
        the agent has no target, or learns in no row."""
        agent, step_signals = self.system.agents[tick.agent_name], tick.observed_signals
        goal = agent.goal
        terms: list[TickLoss | None] = []
        if goal is None or tick.learning_rows is NONE or goal.rewards is not None:
            return terms
        for term in goal.terms:
            if term.last_only and (step_signals.step + 1) % self.system.description.hold:
                terms.append(None)
            else:
                terms.append(
                    self.term_loss(agent, term, step_signals, tick.ports[OBJECTIVE], tick.learning_rows)
                )
        return terms

    def tick_loss(self, tick: Tick) -> TickLoss | None:
        """Return the losses of a tick, as they are before they are divided by their window's; None: it has none."""
        goal, terms = self.system.agents[tick.agent_name].goal, self.tick_terms(tick)
        return _combined(goal, terms) if goal is not None and any(terms) else None

    def output_loss(self, agent: Agent, step_signals: StepSignals, output: Tensor) -> TickLoss | None:
        """Return the losses of an agent's output at any step; None: no target is there."""
        assert agent.goal is not None
        terms = [self.term_loss(agent, term, step_signals, output) for term in agent.goal.terms]
        return _combined(agent.goal, terms) if any(terms) else None

    @staticmethod
    def term_loss(
        agent: Agent, goal: Goal, step_signals: StepSignals, output: Tensor, learning_rows: Mask = ALL
    ) -> TickLoss | None:
        """Return the losses of one objective, without its weight; None: its target is absent everywhere."""
        name, objective = goal.target_signal_name, goal.output_objective
        if name and name not in step_signals.signals:
            return None
        present, sites = step_signals.present(name), None
        if present is NONE:
            return None
        output = output if goal.output_slice is None else output[:, goal.output_slice]
        target = constant(output)
        if name:
            target, present, sites = _scored_target(objective, name, step_signals)
            target = agent.layout.to_rows(target)
            sites = None if sites is None else agent.layout.to_rows(sites)
        scored_rows = present.map(agent.layout.to_rows) & learning_rows
        if objective.is_own:
            # two terms of one target have other outputs
            place = name, str(goal.output_slice), str(step_signals.step)
            objective.seed([seed_for(member.random_seed, "objective", *place) for member in agent.members])
        of_sites = () if sites is None else (sites,)
        losses = objective.loss(output, target, *of_sites)
        score = constant(losses)
        if not objective.scores_loss:
            score = objective.score(constant(output), target, *of_sites)
        losses, score = scored_rows.zero_elsewhere(losses), scored_rows.zero_elsewhere(score)
        site_counts = None if sites is None else sites.reshape(len(sites), -1).sum(1)
        target_weights = objective.target_weights(target, sites)
        if target_weights is not None:
            target_weights = scored_rows.zero_elsewhere(target_weights.to(losses.dtype))
        return TickLoss(losses, score, scored_rows, site_counts, target_weights)


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
    if sites is not None and target.dim() == 1:
        present, sites = present & Mask.of(sites.flatten()), None
    elif sites is not None:
        present &= Mask.of(sites.reshape(len(sites), -1).any(1))
        target = target.where(sites, 0)
    return present.zero_elsewhere(target), present, sites  # absent targets may be NaN


def _by_mean_weight(agent: Agent, goal: Goal, terms: Sequence[TickLoss | None]) -> list[TickLoss | None]:
    """Divide the losses of an objective at a window's ticks by the mean weight of all their targets (class weights)."""
    sum_by_member, counts, totals = agent.layout.sum_by_member, list[Tensor](), list[Tensor]()
    for term in terms:
        if term is not None and (weights := term.target_weights) is not None:
            by_sample = term.present.zero_elsewhere(torch.ones_like(weights))
            target_counts = term.target_counts if goal.mean_over_targets else by_sample
            counts.append(sum_by_member(target_counts))
            totals.append(sum_by_member(target_counts * weights))
    if not counts:
        return list(terms)
    count, total = reduce(torch.add, counts), reduce(torch.add, totals)
    # where no target of the window has a weight, none counts
    factor = agent.layout.rows_from_members(torch.where(total > 0, count / total, 0.0))
    scaled_terms = [term and term._replace(losses=term.losses * factor) for term in terms]
    if goal.summands:  # their sum's losses are no longer those of one target
        return [term and term._replace(target_weights=None) for term in scaled_terms]
    return scaled_terms


def _combined(goal: Goal, terms: Sequence[TickLoss | None]) -> TickLoss:
    """The losses of an objective, times its weight, from those of its terms: of the only one, or of a weighted sum."""
    if goal.summands:
        assert isinstance(goal.objective, Weighted)
        summands = [term and (term.losses, term.score, term.present, term.target_weights) for term in terms]
        losses, score, present = goal.objective.combined(summands)
        tick_loss = TickLoss(losses, score, present)
    else:
        (only,) = terms
        assert only is not None
        tick_loss = only
    return tick_loss._replace(losses=scaled(tick_loss.losses, goal.weight))
