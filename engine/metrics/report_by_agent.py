"""What one step learned, by agent and channel: taken apart from what was learned by stack, only where it is read."""

from __future__ import annotations

import math
from collections import UserDict
from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from antiphon.engine.heart.agent import Agent
from antiphon.engine.heart.layout import name_in_seed
from antiphon.engine.heart.system import System
from antiphon.engine.heart.updates import ReportedLoss, StepReport
from antiphon.engine.stacked import Stacked


class AgentReport:
    """What was learned at one step, by agent and channel; stacks, of all seeds, are taken apart only where it is read."""

    def __init__(self, stacks: StepReport, stacked: Stacked) -> None:
        self.stacks, self._stacked = stacks, stacked

    @classmethod
    def empty(cls, stacked: Stacked) -> AgentReport:
        """Return the report of a step at which nothing was learned."""
        return cls(StepReport([], {}), stacked)

    @property
    def system(self) -> System:
        """The stacks, after the step."""
        return self._stacked.system

    def seen_by(self, stacked: Stacked) -> AgentReport:
        """Return the same report, about the single agents of one of several seeds."""
        return AgentReport(self.stacks, stacked)

    def by_stack(self) -> Iterator[tuple[Agent, ReportedLoss, dict[str, Tensor]]]:
        """Yield what the windows that ended report: a stack, of all seeds, the losses of its objective, [N], and its policy's metrics.

        The metrics are by name, [N] each: see `PolicyLosses`. A member without a target has NaN; without a policy there are none.
        """
        for update in self.stacks.updates:
            policies = update.window_loss.policy_windows
            for name, losses in update.window_loss.reported_loss_by_agent.items():
                metrics = policies[name].metrics if name in policies else {}
                if metrics and isinstance(losses.target_count, Tensor):
                    absent = losses.target_count == 0
                    metrics = {key: value.masked_fill(absent, math.nan) for key, value in metrics.items()}
                yield self._stacked.system.agents[name], losses, metrics

    def losses(self) -> Iterator[tuple[tuple[str, ...], ReportedLoss]]:
        """Yield the objectives' losses: the names of single agents that are of one stack, and their losses."""
        for agent, losses, _ in self.by_stack():
            names = tuple(single.name for _, single in self._stacked.singles(agent))
            yield names, losses.select_members(self._stacked.places_of(agent))


class LossesByAgent(UserDict[str, Tensor]):
    """The losses of a step by agent, of those that there was a target for; taken apart when it is read."""

    def __init__(self, report: AgentReport) -> None:
        self._report = report

    @cached_property
    def data(self) -> dict[str, Tensor]:  # type: ignore[override]
        losses_by_agent: dict[str, Tensor] = {}
        for names, losses in self._report.losses():
            count = losses.target_count
            counts = count.tolist() if isinstance(count, Tensor) else [count] * len(names)
            losses_by_agent |= {
                n: v for n, v, c in zip(names, losses.loss.unbind(), counts, strict=True) if c
            }
        return losses_by_agent


# --- means over steps ----------------------------------------------------------------------------------------

Sums = dict[str, tuple[Tensor, int | Tensor]]
"""By metric, its sum over what happened and the number of what it is over, [N] each of the members of a stack; a `score` of several
objectives has columns."""


class MeanAccumulator:
    """Means from one log entry to the next of agents' losses and metrics, of several seeds by `name@seed`; sums are on the device."""

    def __init__(self, system: System, *other_seeds: System) -> None:
        systems = (system, *other_seeds)
        self._agents = {
            name_in_seed(name, seed, len(systems)): agent
            for seed, system_of_seed in enumerate(systems)
            for name, agent in system_of_seed.agents.items()
        }
        self._batch = system.batch
        self._sums: dict[tuple[str, ...], Sums] = {}
        """Sums by agents: one, or the members of a stack."""
        self._row: dict[tuple[str, ...], Sums] = {}
        """Sums of the last complete row."""

    def add(self, report: AgentReport) -> None:
        """Add the losses of the step just taken."""
        for agent, losses, metrics in report.by_stack():
            assert agent.goal is not None
            count = losses.target_count
            loss, divisor = losses.before_scale(agent.goal, self._batch), count
            if losses.target_weight is not None:
                divisor = losses.target_weight
                loss = torch.where(divisor > 0, loss * divisor / count, 0.0)
            added: Sums = {"loss": (loss, divisor), "score": (losses.score, count)}
            for metric, values in metrics.items():
                finite = values.isfinite()
                added[metric] = values.where(finite, 0.0), finite.long()
            self._add(agent.member_names, added)

    def _add(self, names: tuple[str, ...], added: Sums) -> None:
        before = self._sums[names] if names in self._sums else self._stacked(names)
        total = {
            metric: (before[metric][0] + total, before[metric][1] + count)
            if metric in before
            else (total, count)
            for metric, (total, count) in added.items()
        }
        self._sums[names] = before | total

    def _stacked(self, names: tuple[str, ...]) -> Sums:
        """Take the sums of single agents, as a checkpoint has them, as those of a stack."""
        if len(names) == 1:
            return {}
        of_each = [self._sums.pop((name,), {}) for name in names]
        stacked: Sums = {}
        for metric in dict.fromkeys(metric for sums in of_each for metric in sums):
            like = next(sums[metric][0] for sums in of_each if metric in sums)
            totals = [sums[metric][0] if metric in sums else torch.zeros_like(like) for sums in of_each]
            counts = [sums[metric][1] if metric in sums else 0 for sums in of_each]
            stacked[metric] = torch.cat(totals), torch.tensor(counts, device=like.device)
        return stacked

    def means(self) -> dict[str, dict[str, float]]:
        """Return `loss` and the objective's metric by agent, means over all ticks and environments with a target.

        Also the metrics of policies, means over windows.
        """
        return self._means(self._sums)

    def row(self) -> dict[str, dict[str, float]]:
        """Return the means of the last complete row."""
        return self._means(self._row)

    def _means(self, sums: Mapping[tuple[str, ...], Sums]) -> dict[str, dict[str, float]]:
        means: dict[str, dict[str, float]] = {}
        for name, metrics in self._by_name(sums).items():
            if "score" in metrics:
                goal = self._agents[name].goal
                assert goal is not None
                loss, divisor = metrics.pop("loss", (0.0, 1.0))  # absent: no target had a weight
                score, count = metrics.pop("score")
                own = {"loss": float(loss) * self._batch / divisor} | goal.objective.means(score, count)
                of_policy = {metric: float(total) / number for metric, (total, number) in metrics.items()}
                means[name] = own | of_policy
        return means

    def _by_name(self, sums: Mapping[tuple[str, ...], Sums]) -> dict[str, dict[str, tuple[Tensor, int]]]:
        """Return sums and numbers by agent, in order; a metric that is over nothing is left out."""
        by_name: dict[str, dict[str, tuple[Tensor, int]]] = {}
        for names, metrics in sums.items():
            for metric, (totals, count) in metrics.items():
                counts = count.view(-1).tolist() if isinstance(count, Tensor) else [count] * len(names)
                for n, name in enumerate(names):
                    if counts[n]:
                        by_name.setdefault(name, {})[metric] = totals[n], counts[n]
        return {name: by_name[name] for name in self._agents if name in by_name}

    def end_row(self) -> None:
        """Complete a row and reset the sums."""
        self._row, self._sums = self._sums, {}

    def sums(self) -> dict[tuple[str, ...], tuple[Any, ...]]:
        """Return the sums by metric and stack, without a copy of a tensor."""
        return {(metric, *names): pair for names, sums in self._sums.items() for metric, pair in sums.items()}

    def load_sums(self, sums: Mapping[tuple[str, ...], tuple[Any, ...]]) -> None:
        """Load sums by metric and stack; the tensors are used as they are."""
        self._sums = {}
        for (metric, *names), (total, count) in sums.items():
            self._sums.setdefault(tuple(names), {})[metric] = total, count

    def state_dict(self) -> dict[str, Any]:
        """Return sums and numbers by agent, without copying a tensor."""
        return {
            name: {metric: [*pair] for metric, pair in metrics.items()}
            for name, metrics in self._by_name(self._sums).items()
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Restore the sums of the agents that are here."""
        self._sums = {
            (name,): {metric: (total.unsqueeze(0), count) for metric, (total, count) in state[name].items()}
            for name in self._agents
            if name in state
        }
