"""Selection in a population: scores, who is replaced by whom, and how the copied parameters change.

Truncation selection (Jaderberg et al. 2017, "Population Based Training of Neural Networks", section 4.1.1). Every choice is a
function of the population's seed, the step and the member, so a resumed population makes the same ones.
"""

from __future__ import annotations

import math
import random
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import torch

from antiphon.base.errors import ScenarioError
from antiphon.engine.episodes import REWARD
from antiphon.engine.inference.evaluation import evaluation_of, rewards_of
from antiphon.engine.live_system import LiveSystem
from antiphon.jobs.studies.scoring import unknown_metric_line
from antiphon.scenarios.population_spec import PopulationSpec, SelectionSpec
from antiphon.scenarios.training import RETURN, is_of_env, quality

_ERRORS = 2.0
"""Standard errors of their difference by which two scores must differ."""


class MemberScore(NamedTuple):
    """A member's score, None where it is unknown or the member has diverged, and its standard error, 0 where that is unknown."""

    value: float | None
    error: float = 0.0


@dataclass(frozen=True)
class Entry:
    """What became of a member at a selection, when it had diverged, or at the end of the run.

    Attributes:
        step: The step before which it was selected, at which it diverged, or the number of steps at the end.
        parent: The member that it was copied from; itself where it continued.
        score: Before; None: unknown. So are its standard `error`, 0 where unknown, and `values`, by parameter.
        next_values: By parameter, the value it continued with.
    """

    step: int
    member: int
    parent: int
    score: float | None
    error: float
    values: dict[str, float]
    next_values: dict[str, float]

    @property
    def copied(self) -> bool:
        return self.parent != self.member


def initial_values(spec: PopulationSpec) -> list[dict[str, Any]]:
    values_by_member = []
    for member in range(spec.members):
        draw, values = random.Random(f"{spec.seed}/{member}"), dict[str, float]()
        for name, within in spec.vary.items():
            if isinstance(within, tuple):
                values[name] = draw.choice(within)
            elif within.log:
                values[name] = math.exp(draw.uniform(math.log(within.low), math.log(within.high)))
            else:
                values[name] = draw.uniform(within.low, within.high)
        values_by_member.append(values)
    return values_by_member


def metric_of(running: LiveSystem) -> str:
    """Return the metric of the first readout's objective."""
    goal = running.system.agents[running.scenario.readouts[0]].goal
    assert goal is not None  # a readout has one
    return goal.objective.metric


def score_of(running: LiveSystem, metric: str) -> MemberScore:
    """Return a member's present score (see `SelectionSpec.by`); no bit of its run changes."""
    if running.diverged is not None:
        return MemberScore(None)
    episodes = running.world.episodes
    if metric == RETURN and episodes is not None:
        own = rewards_of(running.system)
        rewards = [own[name] for name in running.scenario.readouts if name in own] or [REWARD]
        newest = torch.stack([episodes.latest(reward) for reward in rewards]).mean(0)
        spread = float(newest.std()) if len(newest) > 1 else 0.0
        value, error = float(newest.mean()), spread / math.sqrt(max(1, len(newest)))
    elif is_of_env(metric):
        measured = running.world.metrics()
        if measured or episodes is None:  # else no episode has ended yet
            _check_known(metric, measured)
        value, error = measured.get(metric, math.nan), running.world.metric_error(metric)
    else:
        splits = running.env.splits
        evaluation = evaluation_of(running, "validation" if "validation" in splits else "train")
        of_readouts = [name for agent in evaluation.readout for name in evaluation.agents.get(agent, {})]
        of_agents = [f"{agent}.{name}" for agent, metrics in evaluation.agents.items() for name in metrics]
        _check_known(metric, dict.fromkeys([*of_readouts, *of_agents]))
        value, error = evaluation.score(metric), evaluation.error(metric)
    if math.isnan(value):
        return MemberScore(None)
    return MemberScore(value, 0.0 if math.isnan(error) else error)


def _check_known(metric: str, metrics: Collection[str]) -> None:
    if metric not in metrics:
        raise ScenarioError(f"select.by: {unknown_metric_line(metric, metrics)}")


def written_score(score: float | None) -> float | None:
    """Return a score as a lineage has it: None where it is an infinity, which is worst or best and is not drawn."""
    return score if score is None or math.isfinite(score) else None


def selected(
    spec: PopulationSpec,
    select: SelectionSpec,
    step: int,
    metric: str | None,
    scores: Sequence[MemberScore],
    values: Sequence[dict[str, float]],
) -> list[Entry]:
    """Return what becomes of each member at a selection; `scores` of a metric, and `values` of what varies, are by member."""
    goodness = [quality(score.value, metric) for score in scores]
    entries = [
        Entry(step, n, n, written_score(score.value), score.error, values[n], values[n])
        for n, score in enumerate(scores)
    ]
    # a score that is not known yet is neither good nor bad
    scored = [member for member, score in enumerate(scores) if score.value is not None]
    order = sorted(scored, key=lambda member: (-goodness[member], member))
    count = min(max(1, int(len(scores) * select.copy_share)), len(order) // 2)
    for member in order[len(order) - count :]:
        draw = random.Random(f"{spec.seed}/{step}/{member}")
        parent = draw.choice(order[:count])
        error = math.hypot(scores[member].error, scores[parent].error)
        if goodness[parent] - goodness[member] > _ERRORS * error:
            changed = {}
            for name, within in spec.vary.items():  # a neighbour in the list, or a multiple within the range
                value = values[parent][name]
                if isinstance(within, tuple):
                    position = within.index(value) + draw.choice((-1, 1))
                    changed[name] = within[min(max(position, 0), len(within) - 1)]
                else:
                    changed[name] = min(max(value * draw.choice(select.factors), within.low), within.high)
            entries[member] = replace(entries[member], parent=parent, next_values=changed)
    return entries
